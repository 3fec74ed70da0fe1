"""The edited views that a run keeps: one picture of them all, and how they are found again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError, InputError
from ..files.bundle import load_header
from ..files.media.image import load_image, save_image
from ..files.names import ending, in_order
from ..geometry.cameras import grid_cameras, with_front
from ..method.fewshot import few_shot_set
from ..types import CameraBatch, FewShotSet, Portrait
from ..visualize.contact_sheet import square_sheet

NAME, KIND = "edited", ".png"
SIDE = 7  # of the usual grid: `PortraitSettings.views`, whose module would load an editor
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def write_edited(path: Path, images: Tensor) -> None:
    """Write views [V,3,H,W] side by side in about a square, row by row from the front view on.

    PNG keeps each to half an 8-bit level.
    """
    save_image(path, square_sheet(list(images)))


def beside(portrait: Path) -> Path | None:
    """Return the edited views that the run of this portrait kept: edited2.png of portrait2."""
    number = portrait.name.removesuffix(".safetensors").removeprefix("portrait")
    path = portrait.parent / f"{NAME}{number if number.isdigit() else ''}{KIND}"
    return path if path.is_file() else None


def read_edited(
    path: Path,
    file: Path,  # of the portrait, whose settings name the cameras
    portrait: Portrait,
    prompt: str,
) -> FewShotSet:
    """Return the edited views at `path`: a run's folder, its picture, or a folder of pictures."""
    settings = _settings(file)
    if path.is_dir():
        kept = path / (beside(path / file.name) or Path(f"{NAME}{KIND}")).name
        images = _cut(kept, portrait, settings) if kept.is_file() else _folder(path)
    else:
        images = _cut(path, portrait, settings)
    side = math.isqrt(max(len(images) - 1, 0))
    if side < 2 or side * side + 1 != len(images):
        raise InputError(
            f"{path} has {len(images)} views; a front view and a grid of n x n are 1 + n x n, such "
            "as 5, 10, 26, 50 or 101"
        )
    cameras = grid_cameras(side, portrait.renderer.config.rig(), **_ranges(settings))
    front = settings.get("front")
    if isinstance(front, list) and len(front) == 16:
        cameras = with_front(cameras, front)
    return few_shot_set(portrait, images, cameras, prompt or "edited")


def cameras_of(file: Path, portrait: Portrait) -> CameraBatch:
    """Return the cameras of the views that a saved portrait was learnt from, or the usual ones."""
    settings = _settings(file)
    side = int(settings.get("views", SIDE))
    return grid_cameras(side, portrait.renderer.config.rig(), **_ranges(settings))


def _ranges(settings: dict[str, Any]) -> dict[str, float]:
    names = ("yaw_range_deg", "pitch_range_deg")
    return {name: float(settings[name]) for name in names if name in settings}


def _cut(path: Path, portrait: Portrait, settings: dict[str, Any]) -> Tensor:
    """Return the views of a picture that `write_edited` made."""
    sheet, size = load_image(path), portrait.renderer.config.image_resolution
    rows, columns = (length // size for length in sheet.shape[1:])
    if rows * size != sheet.shape[1] or columns * size != sheet.shape[2]:
        raise FileFormatError(
            f"{path} is {sheet.shape[2]} x {sheet.shape[1]} pixels, not views of {size} side by "
            "side; give the edited.png of a run, or a folder of pictures"
        )
    tiles = sheet.unflatten(1, (rows, size)).unflatten(3, (columns, size))
    views = tiles.permute(1, 3, 0, 2, 4).flatten(0, 1)
    if "views" in settings:
        return views[: 1 + int(settings["views"]) ** 2]
    while len(views) > 1 and not bool(views[-1].any()):  # black where no view is left
        views = views[:-1]
    return views


def _folder(path: Path) -> Tensor:
    files = [file for file in path.iterdir() if ending(file) in PICTURES]
    files.sort(key=in_order)
    if not files:
        raise InputError(f"{path} holds no {NAME}{KIND} and no pictures; give the folder of a run")
    images = [load_image(file) for file in files]
    for file, image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise InputError(f"{path}: {file.name} has another size than {files[0].name}")
    return torch.stack(images)


def _settings(file: Path) -> dict[str, Any]:
    settings = load_header(file, "portrait").extra.get("settings")
    return settings if isinstance(settings, dict) else {}
