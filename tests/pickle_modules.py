"""How an official network pickle writes a torch module: its state, hooks and where its class is."""

from collections import OrderedDict

from tests.pickle_writer import EASY_DICT, PERSISTENT, Call, Global, New, Parameter

HOOKS = (
    "_backward_pre_hooks", "_backward_hooks", "_is_full_backward_hook", "_forward_hooks",
    "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip
OLD_HOOKS = (
    "_backward_hooks",
    "_is_full_backward_hook",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)  # torch 1.11


class Modules:
    """Writes modules; whoever derives from it sets `old`, `source` and `dtype`."""

    def persistent(self, kind, modules, *, parameters=None, buffers=None, **attributes):
        """Return a module whose class travels as source text."""
        said = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": kind,
            "state": self.state(modules, parameters, buffers, attributes),
        }
        return Call(PERSISTENT, (said,))

    def plain(self, module, kind, modules=None, **attributes):
        """Return a module whose class is given by name."""
        return New(Global(module, kind), self.state(modules or {}, {}, {}, attributes))

    def state(self, modules, parameters, buffers, attributes):
        ordered = OrderedDict if self.old else dict
        parameters = {k: Parameter(self.tensor(v)) for k, v in (parameters or {}).items()}
        buffers = {k: self.tensor(v) for k, v in (buffers or {}).items()}
        hooks = {
            name: None if name == "_is_full_backward_hook" else OrderedDict()
            for name in (OLD_HOOKS if self.old else HOOKS)
        }
        return {
            "training": False, "_parameters": ordered(parameters), "_buffers": ordered(buffers),
            "_non_persistent_buffers_set": set(), **hooks, "_modules": ordered(modules),
            **attributes,
        }  # fmt: skip

    def tensor(self, value):
        value = value.detach()
        return value if self.dtype is None else value.to(self.dtype)

    def easy(self, items):
        return New(EASY_DICT, items=items)
