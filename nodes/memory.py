"""Networks under ComfyUI's memory management: loaded when used, counted, evicted for others.

A value on a wire owns plain networks. ComfyUI manages patchers, so every network gets one the
first time it is used, and keeps it as long as it lives (ComfyUI itself holds patchers weakly).
Read `on_device`, then `_patchers_of`.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import torch
from torch import nn

from ..freestyle_core.types import Network, Portrait
from .heap import trim_soon

WORK_MB = 2048  # MiB asked free on a GPU before the work starts
# the same, before training: counted at full size are 4.1 GB with one view per step and 11.8 with
# four, for network and planes together, VGG features and the paper's samples
TRAIN_MB = 1792
TRAIN_VIEW_MB = 2560  # for every view of a step
SHARE = 0.5  # of the free memory that one piece of work may plan with
MIB = 2**20

# network -> its patchers. A patcher owns the network's children, never the network itself: so
# nothing here keeps a network alive, and a copied network starts without patchers.
_patchers: weakref.WeakKeyDictionary[nn.Module, list[Any]] = weakref.WeakKeyDictionary()
# child -> the patcher that moves it. Networks may share children, as the portraits of one EG3D
# share its decoder; a second patcher for those would move them away under the first.
_owners: weakref.WeakKeyDictionary[nn.Module, Any] = weakref.WeakKeyDictionary()


@contextmanager
def on_device(*parts: Any, work_mb: int = WORK_MB) -> Iterator[torch.device]:
    """Load the networks inside `parts` onto ComfyUI's compute device for the length of the block.

    A part is a network, a portrait, or any record with networks in its fields; None is skipped.
    Other models are evicted until `work_mb` MiB are free besides, or none is left. Afterwards the
    networks stay where they are until ComfyUI needs the memory for something else.
    """
    device = mm.get_torch_device()
    networks = [network for part in parts for network in _networks(part)]
    patchers = [patcher for network in networks for patcher in _patchers_of(network)]
    if patchers:
        mm.load_models_gpu(patchers, memory_required=work_mb * MIB, force_full_load=True)
    for network in networks:
        network.to(device)  # the few tensors that belong to no child
    try:
        yield device
    finally:
        if device.type != "cpu":
            mm.soft_empty_cache()


def memory_mb(asked: int, device: torch.device) -> int:
    """Return how many MiB rendering may plan with: what is asked, or less when little is free."""
    return max(1, min(asked, int(mm.get_free_memory(device) * SHARE) // MIB))


def batch_size(asked: int, bytes_per_item: int, device: torch.device) -> int:
    """Return how many items fit into the free memory together, at least 1 and at most `asked`."""
    return max(1, min(asked, int(mm.get_free_memory(device) * SHARE) // bytes_per_item))


def is_managed(network: nn.Module | Network) -> bool:
    """Return whether ComfyUI decides where this network lies."""
    return network in _patchers


def _patchers_of(network: nn.Module) -> list[Any]:
    """Return the patchers that move this network; those of shared children are shared too."""
    known = _patchers.get(network)
    if known is not None:
        return known
    found: list[Any] = []
    free: dict[str, nn.Module] = {}
    for name, child in network.named_children():
        owner = _owners.get(child)
        patcher = None if owner is None else owner()
        if patcher is None:
            free[name] = child
        elif all(patcher is not other for other in found):
            found.append(patcher)
    if free:
        found.append(_new_patcher(type(network).__name__, free))
    _patchers[network] = found
    weakref.finalize(network, trim_soon).atexit = False
    return found


def _new_patcher(name: str, children: dict[str, nn.Module]) -> Any:
    """Return a patcher over networks, under the class name that ComfyUI's log shall show."""
    # a module of our own, since a patcher sets `device`, which is read-only in diffusers' modules
    holder = type(name, (nn.Module,), {})()
    for key, child in children.items():
        holder.add_module(key, child)
    # looked up now: ComfyUI replaces the class when it starts with dynamic VRAM; 0.8 has only one
    kind = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    patcher = kind(
        holder, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device()
    )
    for child in children.values():
        _owners[child] = weakref.ref(patcher)
    return patcher


def _networks(part: Any) -> list[nn.Module]:
    if isinstance(part, nn.Module):
        return [part]
    if isinstance(part, Portrait):
        networks: list[Any] = [part.renderer]  # modules, whatever the record asks of them
        return networks + ([] if part.style is None else [part.style.network])
    fields = getattr(part, "__dataclass_fields__", {})
    values = [getattr(part, name) for name in fields]
    return [value for value in values if isinstance(value, nn.Module)]
