"""The files of a run: pictures, videos, meshes, portraits and the record of how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..files.media.image import save_image
from ..files.media.mesh import save_mesh
from ..files.portrait import save_portrait
from ..files.record import sha256, write_record
from ..pipeline import Models, PortraitRun, PortraitSettings
from ..training.losses import distance_name
from ..visualize.contact_sheet import contact_sheet
from ..visualize.mix_video import MIX_YAWS_DEG, MixedSweep, even_weights
from .edited_views import KIND, NAME, write_edited
from .machine import peak_memory_mb, versions
from .pictures import enlarged, save_movie

SPARE_MB = 40  # videos, pictures and the mesh of a run


def write_run(folder: Path, run: PortraitRun) -> list[str]:
    """Write everything that `run` made into `folder` and return the file names."""
    settings = asdict(run.settings)
    for number, style in enumerate(run.styles, start=1):
        suffix = "" if number == 1 else str(number)
        save_image(folder / f"front{suffix}.png", enlarged(style.front))
        write_edited(folder / f"{NAME}{suffix}{KIND}", style.edited)
        save_movie(folder / f"turntable{suffix}.mp4", style.turntable, run.settings.turntable.fps)
        save_mesh(folder / f"mesh{suffix}.glb", style.mesh)
        save_portrait(folder / f"portrait{suffix}.safetensors", style.portrait, settings=settings)
    save_image(folder / "views.png", views_sheet(run))
    if run.mixed is not None:
        write_mix(folder, run.mixed, run.settings)
    return sorted(path.name for path in folder.iterdir())


def write_mix(
    folder: Path, mixed: MixedSweep, settings: PortraitSettings, portraits: int = 2
) -> None:
    """Write mix.png and mix.mp4; of more than two, the columns say which, A to D."""
    rows_of = even_weights(mixed.sheet.shape[1], portraits)
    columns = [f"{row[1]:.0%}" if portraits == 2 else _shares(row) for row in rows_of]
    rows = [(f"{yaw:+.0f}", row) for yaw, row in zip(MIX_YAWS_DEG, mixed.sheet, strict=True)]
    save_image(folder / "mix.png", contact_sheet(rows, columns=columns))
    save_movie(folder / "mix.mp4", mixed.frames, settings.turntable.fps)


def _shares(weights: list[float]) -> str:
    """Return "A" for one portrait alone, "A 67% B 33%" for two."""
    there = [(name, weight) for name, weight in zip("ABCD", weights, strict=False) if weight]
    return there[0][0] if len(there) == 1 else " ".join(f"{n} {w:.0%}" for n, w in there)


def views_sheet(run: PortraitRun) -> Tensor:
    """Return the contact sheet [3,H,W]: original, edited and final views below each other."""
    rows = [("original", run.original[run.sheet_views])]
    for number, style in enumerate(run.styles, start=1):
        name = "" if len(run.styles) == 1 else f" {number}"
        rows += [("edited" + name, style.edited[run.sheet_views]), ("final" + name, style.sheet)]
    labels = [view_label(index, run.settings) for index in run.sheet_views]
    return contact_sheet(rows, columns=labels)


def view_label(index: int, settings: PortraitSettings) -> str:
    """Return "front", or yaw and pitch in degrees of a grid camera."""
    if index == 0:
        return "front"
    row, column = divmod(index - 1, settings.views)
    last = settings.views - 1
    yaw = settings.yaw_range_deg * (2 * column / last - 1)
    pitch = settings.pitch_range_deg * (1 - 2 * row / last)
    return f"{yaw:+.0f}, {pitch:+.0f}"


def write_run_record(
    path: Path,
    run: PortraitRun,
    models: Models,
    *,
    times: dict[str, float],
    files: list[str],
    device: str,
    start: Path | None = None,  # the portrait or photograph that it began with
    more: Mapping[str, Any] | None = None,  # what else is said of that
) -> None:
    """Write run.json: settings, seed, versions, stage times, losses, memory, and hashes of all."""
    record = {
        "settings": asdict(run.settings),
        "seed": run.settings.seed,
        "versions": versions(),
        "hashes": models.hashes,
        "eg3d": {"name": models.eg3d.config.name, "licence": models.eg3d.config.licence},
        "perceptual": distance_name(models.perceptual),
        "device": device,
        "threads": torch.get_num_threads(),
        "seconds": {name: round(value, 2) for name, value in times.items()},
        "seconds_total": round(sum(times.values()), 2),
        "peak_memory_mb": peak_memory_mb(device),
        "losses": run.losses,
        "files": files,
    }
    if start is not None:
        record["from"] = {"file": str(start), "sha256": sha256(start), **(more or {})}
    write_record(path, record, files)
