"""Which patcher moves which network. ComfyUI is replaced by a few lines; no server is needed."""

import copy
import gc
import importlib
import sys
import types
import weakref
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_eg3d, tiny_i2t

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


class Patcher:
    def __init__(self, model, load_device, offload_device):
        self.model = model


@pytest.fixture
def comfy(monkeypatch):
    """A stand-in for ComfyUI's memory management: `requests` lists what was asked of it."""
    management = types.ModuleType("comfy.model_management")
    management.requests = []
    management.free = 8 * 2**30
    management.get_torch_device = management.unet_offload_device = lambda: CPU
    management.get_free_memory = lambda device: management.free
    management.soft_empty_cache = lambda: None
    management.load_models_gpu = lambda patchers, **options: management.requests.append(
        (list(patchers), options)
    )
    patching = types.ModuleType("comfy.model_patcher")
    patching.ModelPatcher = Patcher  # no CoreModelPatcher, as in ComfyUI 0.8
    package = types.ModuleType("comfy")
    package.model_management, package.model_patcher = management, patching
    # what tells the server to trim the heap later
    web = types.ModuleType("server")
    loop = types.SimpleNamespace(call_soon_threadsafe=lambda *_: None)
    web.PromptServer = types.SimpleNamespace(instance=types.SimpleNamespace(loop=loop))
    for module in (package, management, patching, web):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return management


@pytest.fixture
def memory(comfy, monkeypatch):
    """nodes/memory.py, imported as part of a pack, without the other nodes."""
    for name, folder in (("the_pack", ROOT), ("the_pack.nodes", ROOT / "nodes")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        monkeypatch.setitem(sys.modules, name, package)
    module = importlib.import_module("the_pack.nodes.memory")
    yield module
    for name in [name for name in sys.modules if name.startswith("the_pack.")]:
        del sys.modules[name]


def held(patchers):
    """Return what some patchers hold, each with its patcher's place in the list."""
    return {name: i for i, p in enumerate(patchers) for name, _ in p.model.named_children()}


def use(memory, comfy, *parts):
    with memory.on_device(*parts) as device:
        assert device == CPU
    return comfy.requests[-1][0]


def test_everything_a_generator_shares_with_its_portraits_has_one_patcher(memory, comfy):
    eg3d = tiny_eg3d()
    first = use(memory, comfy, eg3d)
    assert held(first).keys() == dict(eg3d.named_children()).keys() and len(first) == 1
    assert type(first[0].model).__name__ == "EG3D"  # what ComfyUI's log says
    assert use(memory, comfy, eg3d.renderer()) == first
    assert use(memory, comfy, eg3d, eg3d.renderer()) == [*first, *first]


def test_no_child_has_two_patchers_whatever_comes_first(memory, comfy):
    eg3d = tiny_eg3d()
    renderer = eg3d.renderer()
    (theirs,) = use(memory, comfy, renderer)
    both = use(memory, comfy, eg3d)
    assert theirs in both and len(both) == 2
    children = [child for patcher in both for _, child in patcher.model.named_children()]
    assert len(children) == len(set(children)) == len(list(eg3d.named_children()))


def test_a_copy_has_patchers_of_its_own(memory, comfy):
    i2t = tiny_i2t()
    mine = use(memory, comfy, i2t)
    other = copy.deepcopy(i2t)
    assert memory.is_managed(i2t) and not memory.is_managed(other)
    assert not set(use(memory, comfy, other)) & set(mine)
    assert use(memory, comfy, i2t) == mine


def test_networks_die_with_their_last_user(memory, comfy):
    eg3d = tiny_eg3d()
    renderer = eg3d.renderer()
    use(memory, comfy, eg3d)
    use(memory, comfy, renderer)
    comfy.requests.clear()
    backbone, decoder = weakref.ref(eg3d.backbone), weakref.ref(eg3d.decoder)
    gc.disable()  # no cycle that only a collection would find
    try:
        del eg3d
        assert decoder() is not None  # the portrait still needs it
        del renderer
        assert decoder() is None and backbone() is None
    finally:
        gc.enable()


def test_the_memory_that_is_asked_for_and_planned_with(memory, comfy):
    use(memory, comfy, tiny_i2t(), None)
    with memory.on_device(tiny_i2t(), work_mb=5):
        pass
    options = [options for _, options in comfy.requests]
    assert [o["memory_required"] for o in options] == [2048 * 2**20, 5 * 2**20]
    assert all(o["force_full_load"] for o in options)
    assert memory.memory_mb(768, CPU) == 768
    assert memory.batch_size(16, 2**20, CPU) == 16
    comfy.free = 100 * 2**20
    assert memory.memory_mb(768, CPU) == 50  # half of what is free
    assert memory.batch_size(16, 10 * 2**20, CPU) == 5
    comfy.free = 0
    assert memory.memory_mb(768, CPU) == memory.batch_size(16, 2**30, CPU) == 1


@pytest.mark.parametrize(("views", "counted_gb"), [(1, 4.1), (4, 11.8)])
def test_training_asks_for_what_its_batch_needs_and_not_much_more(memory, views, counted_gb):
    asked = (memory.TRAIN_MB + memory.TRAIN_VIEW_MB * views) * 2**20 / 1e9
    assert counted_gb < asked < 1.4 * counted_gb
