"""A graphics card that is not there: what a stage would do to one, counted without computing it.

`watched(device)` lets code run on tensors of `device` that have shapes and no contents, while
everything on the CPU stays real, random numbers and checks included:

  "cuda"   PyTorch's fake tensors: mixed devices raise, copies and waits are seen. Autograd wants a
           real card, so `backward` only fills the gradients in.
  "meta"   the same without a device to be mixed up, but with a real backward pass: for kernels,
           operations and memory of training.

What is counted is in `Counts`. Numerics, real kernels and the limits of cuDNN are not seen.
"""

from __future__ import annotations

import contextlib
import traceback
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten

_FREE = set(  # launch nothing: views and questions about shapes
    "_conj _has_compatible_shallow_copy_type _local_scalar_dense _reshape_alias _to_copy "
    "_unsafe_view alias as_strided detach device diagonal dim empty empty_like empty_strided "
    "expand is_complex is_pinned is_same_size lift lift_fresh new_empty new_empty_strided numel "
    "permute record_stream reshape resize_ select set_ size slice split split_with_sizes squeeze "
    "storage_offset stride sym_numel sym_size sym_stride t transpose unbind unfold unsqueeze view "
    "view_as_real".split()
)
_ONE_TYPE = set(  # all their floating-point inputs must have one type on a card
    "_scaled_dot_product_efficient_attention _scaled_dot_product_flash_attention addmm baddbmm bmm "
    "convolution convolution_backward grid_sampler_2d mm native_group_norm native_layer_norm "
    "searchsorted".split()
)
_TELLING = set("_unique2 equal is_nonzero masked_select nonzero unique unique_dim".split())


@dataclass
class Counts:
    """What happened on the card, since the start or between two moments (`minus`)."""

    kernels: Counter[str] = field(default_factory=Counter)  # by name; a foreach call is one
    reads: Counter[str] = field(default_factory=Counter)  # by place: the CPU waits for the card
    copies: Counter[str] = field(default_factory=Counter)  # by place: pageable memory to the card
    problems: Counter[str] = field(default_factory=Counter)  # what a real card would refuse
    flop: float = 0.0  # of matrix products, convolutions and attention
    live_bytes: int = 0  # of tensors ("meta" only)
    peak_bytes: int = 0  # the most of that since the copy before; in a difference, what came on top

    def minus(self, before: Counts) -> Counts:
        """Return what happened since `before`."""
        return Counts(
            self.kernels - before.kernels,
            self.reads - before.reads,
            self.copies - before.copies,
            self.problems - before.problems,
            self.flop - before.flop,
            self.live_bytes - before.live_bytes,
            self.peak_bytes - before.live_bytes,
        )


@contextlib.contextmanager
def watched(device: str) -> Iterator[Watch]:
    """Let code run on a card that is not there, "cuda" or "meta", and yield what counts it."""
    watch = Watch(device)
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        # a parameter asks its gradient where it lies; fake ones lie nowhere, which does no harm
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        for patch in _patches(device):
            stack.enter_context(patch)
        if device == "cuda":
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(watch)
        yield watch


class Watch(TorchDispatchMode):
    """Counts what reaches the card and answers the questions that its contents would answer."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.counts = Counts()
        self.whole_number = 1  # what a read of one gives
        self._storages: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def mark(self) -> Counts:
        """Return the counts as they are now; the next peak is that from here on."""
        c = self.counts
        counters = (Counter(x) for x in (c.kernels, c.reads, c.copies, c.problems))
        marked = Counts(*counters, c.flop, c.live_bytes, c.peak_bytes)
        c.peak_bytes = c.live_bytes
        return marked

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.split("::")[-1]
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        ours = [x for x in inputs if self._is_ours(x)]
        target = kwargs.get("device")
        if not ours and (target is None or torch.device(target).type != self.device):
            with _disable_current_modes():  # on the CPU: really
                return func(*args, **kwargs)
        self._check(name, args, kwargs, inputs)
        answer = self._answered(name, args, kwargs)
        if answer is not None:
            return answer
        if name in ("_to_copy", "copy_"):
            source, goal = (args[0], None) if name == "_to_copy" else (args[1], args[0])
            if not self._is_ours(source):
                self._copied(source, kwargs, args)
            elif goal is not None and not self._is_ours(goal):
                self._note(self.counts.reads, "copy to the CPU")
                return goal
        # the one for a rate that is a tensor has no stand-in in PyTorch; it returns nothing
        out = None if name == "_fused_adam_" else func(*args, **kwargs)
        if name not in _FREE or (name == "_to_copy" and ours):
            self.counts.kernels[name] += 1
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.counts.flop += count(*args, **kwargs, out_val=out)
        if self.device == "meta":
            self._follow(out)
        return out

    def _is_ours(self, x: Tensor) -> bool:
        return x.device.type == self.device

    def _answered(self, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Return what stands in for contents that the CPU asks for, or None."""
        reads = self.counts.reads
        if name == "_local_scalar_dense":
            self._note(reads, "item")
            kind = args[0].dtype
            return (
                True if kind == torch.bool else 0.5 if kind.is_floating_point else self.whole_number
            )
        if name in ("equal", "is_nonzero"):
            self._note(reads, name)
            return True
        target = kwargs.get("device")
        if name == "_to_copy" and target is not None and torch.device(target).type == "cpu":
            self._note(reads, "copy to the CPU")
            with _disable_current_modes():
                return torch.full(args[0].shape, 1).to(kwargs.get("dtype") or args[0].dtype)
        if name in _TELLING:
            self._note(reads, name)
        if name in ("index", "index_put", "index_put_", "_unsafe_index"):
            return self._indexed(name, args[0], args[1])
        return None

    def _indexed(self, name: str, x: Tensor, indices: list[Tensor | None]) -> Tensor | None:
        for index in indices:
            if index is None:
                continue
            if not self._is_ours(index):
                self._note(self.counts.copies, "index from the CPU")
            elif index.dtype in (torch.bool, torch.uint8):
                self._note(self.counts.reads, "mask as index")
                if "put" not in name:
                    rows = max(1, index.numel() // 2)
                    return x.new_empty((rows, *x.shape[index.ndim :]))
        return None

    def _copied(self, source: Tensor, kwargs: dict[str, Any], args: tuple) -> None:
        waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
        if waits or not getattr(source, "_is_pinned_here", False):
            self._note(self.counts.copies, "copy from the CPU")

    def _check(self, name: str, args: tuple, kwargs: dict[str, Any], inputs: list[Tensor]) -> None:
        generator = kwargs.get("generator")
        if generator is not None:
            self._note(self.counts.problems, f"{generator.device.type} generator on {self.device}")
        floats = {x.dtype for x in inputs if x.is_floating_point()}
        if name in _ONE_TYPE and len(floats) > 1:
            self._note(self.counts.problems, f"{name} of {', '.join(sorted(map(str, floats)))}")
        may_mix = name in ("copy_", "index", "index_put", "index_put_", "_to_copy", "_unsafe_index")
        if not may_mix and any(x.ndim and not self._is_ours(x) for x in inputs):
            self._note(self.counts.problems, f"{name} of tensors of the CPU and the card")
        if name in ("index", "index_put", "index_put_") and not self._is_ours(args[0]):
            self._note(self.counts.problems, "tensor of the CPU indexed by one of the card")

    def _note(self, counter: Counter[str], what: str) -> None:
        counter[f"{what} @ {_place()}"] += 1

    def _follow(self, out: Any) -> None:
        for tensor in tree_leaves(out):
            if not isinstance(tensor, Tensor) or not self._is_ours(tensor):
                continue
            storage = tensor.untyped_storage()
            if storage not in self._storages:
                size = self._storages[storage] = storage.nbytes()
                now = self.counts.live_bytes = self.counts.live_bytes + size
                self.counts.peak_bytes = max(self.counts.peak_bytes, now)
                weakref.finalize(storage, self._freed, size).atexit = False

    def _freed(self, size: int) -> None:
        self.counts.live_bytes -= size


def _place() -> str:
    """Return file:line of the innermost line of this project, else of whoever called."""
    frames = [f for f in traceback.extract_stack() if "/fake_gpu.py" not in f.filename]
    own = [f for f in frames if "/freestyle_core/" in f.filename or "/nodes/" in f.filename]
    frame = (own or frames)[-1]
    return "/".join(frame.filename.split("/")[-2:]) + f":{frame.lineno}"


def _patches(device: str) -> Iterator[Any]:
    yield mock.patch.object(nn.Module, "_apply", _apply)
    yield mock.patch.object(F, "scaled_dot_product_attention", _fused_attention(device))
    yield mock.patch.object(Tensor, "pin_memory", _pinned)
    # fake tensors hold no data to be told apart by: freeing their weak references may crash
    yield mock.patch("torch.multiprocessing.reductions.StorageWeakRef.__del__", lambda self: None)
    if device == "cuda":
        yield mock.patch.object(Tensor, "backward", _filled_gradients)
        yield mock.patch("torch.amp.autocast_mode._cuda_available", True, create=True)
        yield mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
        yield mock.patch("torch.cuda.is_bf16_supported", lambda *args, **kwargs: True)
    else:  # Adam takes its calls for lists on a card; what it may do there it may do here
        places = ("torch.utils._foreach_utils", "torch.optim.optimizer")
        for place in places:
            yield mock.patch(f"{place}._get_foreach_kernels_supported_devices", lambda: ["meta"])


def _pinned(self: Tensor, *args: Any) -> Tensor:
    copied = self.clone()
    copied._is_pinned_here = True  # type: ignore[attr-defined]
    return copied


def _apply(self: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Move a module's tensors without `.data`, which fake tensors cannot change."""
    for child in self.children():
        _apply(child, fn)
    for key, weight in self._parameters.items():
        if weight is not None:
            with torch.no_grad():
                moved = fn(weight)
            if moved is not weight:
                self._parameters[key] = nn.Parameter(moved.detach(), weight.requires_grad)
    for key, buffer in self._buffers.items():
        if buffer is not None:
            self._buffers[key] = fn(buffer)
    return self


def _filled_gradients(self: Tensor, *args: Any, **kwargs: Any) -> None:
    """Give every leaf of the graph a gradient, as a backward pass would."""
    seen, waiting = set(), [self.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and leaf.requires_grad:
            leaf.grad = torch.empty_like(leaf)
        waiting += [before for before, _ in node.next_functions]


def _fused_attention(device: str) -> Callable[..., Tensor]:
    """Return the attention that a card takes; without one PyTorch would take the slow formula."""
    formula = F.scaled_dot_product_attention

    def attention(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **more: Any,
    ) -> Tensor:
        if q.device.type != device or more.get("enable_gqa"):
            return formula(q, k, v, attn_mask, dropout_p, is_causal, scale=scale, **more)
        if attn_mask is None and q.dtype != torch.float32:
            fused = aten._scaled_dot_product_flash_attention
            return fused(q, k, v, dropout_p, is_causal, scale=scale)[0]
        if attn_mask is not None:
            if attn_mask.dtype == torch.bool:
                attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype)
            attn_mask = attn_mask.expand(*q.shape[:3], k.shape[2])
        fused = aten._scaled_dot_product_efficient_attention
        return fused(q, k, v, attn_mask, False, dropout_p, is_causal, scale=scale)[0]

    return attention
