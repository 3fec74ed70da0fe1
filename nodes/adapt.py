"""Where ComfyUI's types and models meet the library.

Reading order: portraits on their way between nodes, then the conversions of single values.
`folders.py` (what is offered, where files go), `running.py` (bar, picture, status line, cancel) and
`memory.py` (networks on the GPU) are used from here too, so that a node file needs only `adapt`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.model_management as mm
from comfy.cli_args import args
from comfy_api.latest import Types
from einops import rearrange
from torch import Tensor, nn

from ..freestyle_core.errors import ShapeError
from ..freestyle_core.files.bundle import weights_hash
from ..freestyle_core.files.networks import embedded
from ..freestyle_core.files.perceptual import AUTO, VGG, load_distance
from ..freestyle_core.geometry.color import srgb_to_linear
from ..freestyle_core.training.losses import Perceptual
from ..freestyle_core.types import Mesh, Portrait
from .folders import (
    EMBEDDED_CHOICE,
    model_choices,
    model_files,
    model_folders,
    model_path,
    new_output_path,
    new_temp_file,
    pack_choices,
    pack_path,
    packs_state,
    portrait_choices,
    portrait_path,
    portraits_state,
    register_model_folders,
    store_folder,
)
from .memory import MIB, TRAIN_MB, TRAIN_VIEW_MB, batch_size, is_managed, memory_mb, on_device
from .running import NodeProgress, note, say
from .words import tr

__all__ = [
    "MIB",
    "TRAIN_MB",
    "TRAIN_VIEW_MB",
    "NodeProgress",
    "batch_size",
    "memory_mb",
    "model_choices",
    "model_files",
    "model_folders",
    "model_path",
    "new_output_path",
    "new_temp_file",
    "note",
    "on_device",
    "pack_choices",
    "pack_path",
    "packs_state",
    "portrait_choices",
    "portrait_path",
    "portraits_state",
    "register_model_folders",
    "say",
    "store_folder",
    "tr",
]  # what belongs to the four files named above

KEPT = ("eg3d", "licence")  # of what a portrait knows about itself, under --disable-metadata
PERCEPTUAL_OFF = "off"
PERCEPTUAL_VGG = "VGG (lpips package)"
PERCEPTUAL_AUTO = "auto"
PERCEPTUAL_CHOICES = [PERCEPTUAL_AUTO, EMBEDDED_CHOICE, PERCEPTUAL_VGG, PERCEPTUAL_OFF]


@dataclass(frozen=True)
class LoadedI2T:
    """A pre-trained I2T network and the hash by which portraits and mixes refer to it."""

    network: nn.Module
    parent: str


def portrait_to_save(portrait: Portrait) -> Portrait:
    """Return the portrait as it is saved: where ComfyUI shall write no metadata, without the words,
    seeds and settings it was made with. The generator's name and licence stay.
    """
    if not args.disable_metadata:
        return portrait
    kept = {key: portrait.provenance[key] for key in KEPT if key in portrait.provenance}
    return replace(portrait, provenance=kept)


def portrait_home(portrait: Portrait) -> Portrait:
    """Return a new portrait as it travels between nodes: all it owns on the CPU."""
    if portrait.style is not None and not is_managed(portrait.style.network):
        portrait.style.network.to("cpu")
    return portrait.to("cpu", networks=False)


# The distance of a fine-tuning --------------------------------------------------------------------


def perceptual_distance(choice: str, image_resolution: int) -> Perceptual:
    """Return the distance behind a choice of PERCEPTUAL_CHOICES, for pictures of this size."""
    if choice == PERCEPTUAL_OFF:
        return no_distance
    kinds = {PERCEPTUAL_AUTO: AUTO, PERCEPTUAL_VGG: VGG}
    return load_distance(
        kinds.get(choice, embedded("perceptual")),
        image_resolution=image_resolution,
        folders=model_folders("lpips"),
    )


def distance_id(choice: str, distance: Perceptual) -> str:
    """Return a name that changes with the distance and with its weights."""
    weights = weights_hash(distance.state_dict()) if isinstance(distance, nn.Module) else ""
    return f"{choice} {weights}"


def no_distance(a: Tensor, b: Tensor) -> Tensor:  # [B,3,H,W] twice -> [B]
    """Return 0 for every pair: pictures are then compared by their colours alone."""
    return a.new_zeros(a.shape[0])


# Single values ------------------------------------------------------------------------------------


def images_in(images: Tensor) -> Tensor:  # [V,H,W,3 or 4] -> [V,3,H,W]
    """Return a ComfyUI IMAGE as the library's images; an alpha channel is left out."""
    shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[3] not in (3, 4):
        raise ShapeError(f"images must be a ComfyUI IMAGE [V,H,W,3 or 4], got {shape}")
    if 0 in images.shape:
        raise ShapeError(f"images are empty, {shape}; look at the node they come from")
    return rearrange(images[..., :3], "v h w c -> v c h w").float().contiguous()


def images_out(images: Tensor) -> Tensor:  # [V,3,H,W] -> [V,H,W,3]
    """Return the library's images as a ComfyUI IMAGE."""
    images = rearrange(images, "v c h w -> v h w c").clamp(0, 1).float()
    return images.to(mm.intermediate_device()).contiguous()


def mask_in(mask: Tensor) -> Tensor:  # [1,H,W] or [H,W] -> [H,W]
    """Return a ComfyUI MASK of one picture as the library's mask, on the CPU."""
    shape = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
    if isinstance(mask, Tensor) and mask.ndim == 3 and len(mask) == 1:
        mask = mask[0]
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        raise ShapeError(f"the mask must be a ComfyUI MASK of one picture [1,H,W], got {shape}")
    return mask.detach().float().cpu()


def mask_out(alpha: Tensor, size: Sequence[int]) -> Tensor:  # [V,1,h,w] -> [V,H,W]
    """Return opacity as a ComfyUI MASK at the size of the images it belongs to."""
    alpha = nn.functional.interpolate(alpha.float(), size=size, mode="bilinear")
    return alpha[:, 0].clamp(0, 1).to(mm.intermediate_device()).contiguous()


def mesh_out(mesh: Mesh) -> Types.MESH:
    """Return a ComfyUI MESH that viewers show unlit, in the portrait's own colours.

    Vertex colours are linear light there (glTF's COLOR_0); ComfyUI 0.8 knows no colours at all.
    """
    vertices, faces = mesh.vertices[None].float().cpu(), mesh.faces[None].long().cpu()
    colors = srgb_to_linear(mesh.colors)[None].float().cpu()
    try:
        return Types.MESH(vertices=vertices, faces=faces, vertex_colors=colors, unlit=True)
    except TypeError:
        return Types.MESH(vertices=vertices, faces=faces)


def files_out(path: Path) -> list[Any]:
    """Return the values of `schema.file_outputs` for a GLB file."""
    kind = getattr(Types, "File3D", None)
    return [] if kind is None else [kind(str(path), file_format=path.suffix[1:])]


def loss_map(losses: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return recorded losses as a ComfyUI LOSS_MAP, whose curve is called "loss"."""
    return {**losses, "loss": list(losses["total"])}
