"""Where ComfyUI's types, models, files and folders meet the library.

Reading order: portraits on their way between nodes, the model folders, files, then the conversions
of single values. `running.py` (bar, picture, status line, cancel) and `memory.py` (networks on the
GPU) are used from here too, so that a node file needs only `adapt`.
"""

import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import folder_paths
import torch
from comfy_api.latest import Types
from einops import rearrange
from torch import Tensor, nn

from ..freestyle_core.errors import FileFormatError, InputError
from ..freestyle_core.files.bundle import weights_hash
from ..freestyle_core.files.media.mesh import srgb_to_linear
from ..freestyle_core.files.networks import EMBEDDED, OFFICIAL_SUFFIXES, embedded
from ..freestyle_core.files.perceptual import AUTO, VGG, load_distance
from ..freestyle_core.training.losses import Perceptual
from ..freestyle_core.types import Mesh, Portrait, StyleCode, Triplane
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
    "note",
    "on_device",
    "say",
    "tr",
]  # what belongs to the two files named above

EMBEDDED_CHOICE = f"{EMBEDDED} (embedded)"
PERCEPTUAL_OFF = "off"
PERCEPTUAL_VGG = "VGG (lpips package)"
PERCEPTUAL_AUTO = "auto"
PERCEPTUAL_CHOICES = [PERCEPTUAL_AUTO, EMBEDDED_CHOICE, PERCEPTUAL_VGG, PERCEPTUAL_OFF]
NO_PORTRAIT = "(none saved yet)"
MODEL_FOLDERS = ("eg3d", "i2t", "lpips")  # registered by this pack; editors: "diffusers"
WEIGHTS_SUFFIX = ".safetensors"
MODEL_SUFFIXES = {
    "eg3d": (WEIGHTS_SUFFIX, *OFFICIAL_SUFFIXES),
    "i2t": (WEIGHTS_SUFFIX,),
    "lpips": (".pth",),
}


@dataclass(frozen=True)
class LoadedI2T:
    """A pre-trained I2T network and the hash by which portraits and mixes refer to it."""

    network: nn.Module
    parent: str


def portrait_to(portrait: Portrait, device: torch.device | str) -> Portrait:
    """Return the portrait with its tensors on `device`; `on_device` moves its networks."""
    planes = portrait.triplane.planes.to(device)
    style = portrait.style
    if style is not None:
        style = StyleCode(style.w_s.to(device), style.network, style.parent)
    return replace(
        portrait,
        triplane=Triplane(planes, portrait.triplane.box_size),
        w=portrait.w.to(device),
        style=style,
    )


def portrait_home(portrait: Portrait) -> Portrait:
    """Return a new portrait as it travels between nodes: all it owns on the CPU."""
    if portrait.style is not None and not is_managed(portrait.style.network):
        portrait.style.network.to("cpu")
    return portrait_to(portrait, "cpu")


# Model folders --------------------------------------------------------------------------------


def register_model_folders() -> None:
    """Make our model folders known to ComfyUI, keeping what a yaml file added before."""
    for name in MODEL_FOLDERS:
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
        paths, suffixes = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (paths, {*suffixes, *MODEL_SUFFIXES[name]})


def model_folder(part: str) -> Path:
    """Return the folder into which a new model of `part` is written."""
    return Path(folder_paths.get_folder_paths(part)[0])


def model_choices(part: str) -> list[str]:
    """Return what a loader of "eg3d", "i2t" or "editor" offers: embedded first, then files."""
    if part == "editor":
        found = [name for name, _ in _diffusers_folders()]
    else:
        names = folder_paths.get_filename_list(part)
        found = [name for name in names if name.endswith(MODEL_SUFFIXES[part])]
    return [EMBEDDED_CHOICE, *sorted(found)]


def model_path(part: str, choice: str) -> Path:
    """Return the file or folder behind a choice of `model_choices`."""
    if choice == EMBEDDED_CHOICE:
        return embedded(part)
    if part == "editor":
        path = dict(_diffusers_folders()).get(choice)
    else:
        path = folder_paths.get_full_path(part, choice)
    if path is None:
        folder = "diffusers" if part == "editor" else part
        raise FileFormatError(
            f"no {part} named {choice!r} in ComfyUI's models/{folder} folder; "
            "put it there and press R, or choose the embedded one"
        )
    return Path(path)


def perceptual_distance(choice: str, image_resolution: int) -> Perceptual:
    """Return the distance behind a choice of PERCEPTUAL_CHOICES, for pictures of this size."""
    if choice == PERCEPTUAL_OFF:
        return no_distance
    kinds = {PERCEPTUAL_AUTO: AUTO, PERCEPTUAL_VGG: VGG}
    folders = [Path(folder) for folder in folder_paths.get_folder_paths("lpips")]
    return load_distance(
        kinds.get(choice, embedded("perceptual")),
        image_resolution=image_resolution,
        folders=folders,
    )


def distance_id(choice: str, distance: Perceptual) -> str:
    """Return a name that changes with the distance and with its weights."""
    weights = weights_hash(distance.state_dict()) if isinstance(distance, nn.Module) else ""
    return f"{choice} {weights}"


def no_distance(a: Tensor, b: Tensor) -> Tensor:  # [B,3,H,W] twice -> [B]
    """Return 0 for every pair: pictures are then compared by their colours alone."""
    return a.new_zeros(a.shape[0])


def model_files(part: str) -> list[Path]:
    """Return every file of `part` in ComfyUI's model folders."""
    return [model_path(part, choice) for choice in model_choices(part)[1:]]


def _diffusers_folders() -> list[tuple[str, str]]:
    found = []
    for root in folder_paths.get_folder_paths("diffusers"):
        for index in sorted(Path(root).glob("*/model_index.json")):
            found.append((index.parent.name, str(index.parent)))
    return found


# Files in ComfyUI's folders -----------------------------------------------------------------------


def store_folder() -> Path:
    """Return where fine-tuned results are kept: beside ComfyUI's user settings, out of reach of its
    web pages, of the output folder's listings and of the cleaning of the temp folder at start.
    """
    return Path(folder_paths.get_system_user_directory("freestyle3d")) / "finetuned"


def new_output_path(prefix: str, suffix: str) -> tuple[Path, str]:
    """Return the next free numbered file of a prefix, and its name inside the output folder."""
    root = folder_paths.get_output_directory()
    folder, stem, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, root)
    name = f"{stem}_{counter:05}_{suffix}"
    return Path(folder) / name, (Path(subfolder) / name).as_posix()


def new_temp_file(prefix: str, suffix: str) -> tuple[Path, dict[str, str]]:
    """Return a new file in ComfyUI's temp folder, and its name as the browser asks for it.

    The name is never used twice: a page left open over a restart finds nothing, not another file.
    """
    name = f"{prefix}_{secrets.token_hex(8)}{suffix}"
    shown = {"filename": name, "subfolder": "", "type": "temp"}
    return Path(folder_paths.get_temp_directory()) / name, shown


def portrait_choices() -> list[str]:
    """Return every safetensors file in the output and input folders, newest first, as choices.

    The suffix is left out: ComfyUI would report such a name as a missing model on other machines.
    """
    files = [
        (path.stat().st_mtime, f"{path.relative_to(root).with_suffix('').as_posix()} [{kind}]")
        for kind, root in _portrait_roots().items()
        for path in root.rglob(f"*{WEIGHTS_SUFFIX}")
        if path.is_file()
    ]
    return [name for _, name in sorted(files, reverse=True)] or [NO_PORTRAIT]


def portrait_path(choice: str) -> Path:
    """Return the file behind a choice of `portrait_choices`."""
    name, _, kind = choice.rpartition(" [")
    root = _portrait_roots().get(kind.removesuffix("]"))
    path = None if root is None else root / f"{name}{WEIGHTS_SUFFIX}"
    inside = path is not None and path.resolve().is_relative_to(root.resolve())
    if not inside or not path.is_file():
        raise InputError(
            f"no portrait file for {choice!r}; save one with Save Portrait, press R, and choose it"
        )
    return path


def _portrait_roots() -> dict[str, Path]:
    return {
        "output": Path(folder_paths.get_output_directory()),
        "input": Path(folder_paths.get_input_directory()),
    }


# Single values ------------------------------------------------------------------------------------


def images_in(images: Tensor) -> Tensor:  # [V,H,W,3 or 4] -> [V,3,H,W]
    """Return a ComfyUI IMAGE as the library's images; an alpha channel is left out."""
    return rearrange(images[..., :3], "v h w c -> v c h w").float().contiguous()


def images_out(images: Tensor) -> Tensor:  # [V,3,H,W] -> [V,H,W,3]
    """Return the library's images as a ComfyUI IMAGE."""
    images = rearrange(images, "v c h w -> v h w c").clamp(0, 1).float()
    return images.to(mm.intermediate_device()).contiguous()


def mask_out(alpha: Tensor, size: tuple[int, int]) -> Tensor:  # [V,1,h,w] -> [V,H,W]
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
