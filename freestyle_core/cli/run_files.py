"""The files of a run: pictures, videos, meshes, portraits and the record of how they were made."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .. import __version__
from ..files.media.image import save_image
from ..files.media.mesh import save_mesh
from ..files.media.video import save_video
from ..files.portrait import save_portrait
from ..files.record import write_record
from ..pipeline import Models, PortraitRun, PortraitSettings
from ..training.losses import distance_name
from ..visualize.contact_sheet import contact_sheet
from ..visualize.mix_video import MIX_YAWS_DEG, MixedSweep

SPARE_MB = 40  # videos, pictures and the mesh of a run
WATCHABLE_PIXELS = 512  # smaller pictures are enlarged by a whole factor
PACKAGES = ("torch", "numpy", "diffusers", "transformers", "safetensors", "av", "trimesh")


def write_run(folder: Path, run: PortraitRun) -> list[str]:
    """Write everything that `run` made into `folder` and return the file names."""
    settings = asdict(run.settings)
    for number, style in enumerate(run.styles, start=1):
        suffix = "" if number == 1 else str(number)
        save_image(folder / f"front{suffix}.png", enlarged(style.front))
        save_movie(folder / f"turntable{suffix}.mp4", style.turntable, run.settings.turntable.fps)
        save_mesh(folder / f"mesh{suffix}.glb", style.mesh)
        save_portrait(folder / f"portrait{suffix}.safetensors", style.portrait, settings=settings)
    save_image(folder / "views.png", views_sheet(run))
    if run.mixed is not None:
        write_mix(folder, run.mixed, run.settings)
    return sorted(path.name for path in folder.iterdir())


def write_mix(folder: Path, mixed: MixedSweep, settings: PortraitSettings) -> None:
    """Write mix.png and mix.mp4."""
    steps = mixed.sheet.shape[1]
    columns = [f"{index / (steps - 1):.0%}" for index in range(steps)]
    rows = [(f"{yaw:+.0f}", row) for yaw, row in zip(MIX_YAWS_DEG, mixed.sheet, strict=True)]
    save_image(folder / "mix.png", contact_sheet(rows, columns=columns))
    save_movie(folder / "mix.mp4", mixed.frames, settings.turntable.fps)


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


def save_movie(path: Path, frames: Tensor, fps: float) -> None:
    """Write frames [F,3,H,W] as a video large enough to watch."""
    save_video(path, frames, fps=fps, scale=scale_for(frames.shape[-1]))


def scale_for(pixels: int) -> int:
    """Return the whole factor that brings `pixels` nearest to a watchable size."""
    return max(1, round(WATCHABLE_PIXELS / pixels))


def enlarged(image: Tensor) -> Tensor:  # [3,H,W]
    """Return the picture at a watchable size."""
    scale = scale_for(image.shape[-1])
    if scale == 1:
        return image
    return functional.interpolate(
        image[None], scale_factor=scale, mode="bicubic", align_corners=False
    )[0].clamp(0, 1)


def write_run_record(
    path: Path,
    run: PortraitRun,
    models: Models,
    *,
    times: dict[str, float],
    files: list[str],
    device: str,
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
        "peak_memory_mb": peak_memory_mb(),
        "losses": run.losses,
        "files": files,
    }
    write_record(path, record, files)


def versions() -> dict[str, str]:
    """Return the versions of this program, Python, the system and the main packages."""
    found = {
        "freestyle": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def peak_memory_mb() -> dict[str, Any]:
    """Return the largest memory this process has held so far; None where nobody can tell."""
    peak: dict[str, Any] = {"process": None, "cuda": None}
    try:
        import resource  # not on Windows
    except ImportError:
        pass
    else:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # bytes on macOS, kibibytes elsewhere
        peak["process"] = round(used / (2**20 if sys.platform == "darwin" else 2**10))
    if torch.cuda.is_available():
        peak["cuda"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return peak
