"""What each command of the command line does; `run` picks one.

Every command checks its settings, then that its output can be written, and only then starts work.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__, interrupts
from ..errors import FreeStyleError, InputError
from ..files.bundle import load_header
from ..files.media.image import save_image
from ..files.media.mesh import mesh_format, save_mesh
from ..files.names import ending
from ..files.networks import PARTS, convert_official, describe, embedded, load_eg3d
from ..files.portrait import load_portrait, save_portrait
from ..files.record import MIX_RECORD, RUN_RECORD, differences, sha256, write_record
from ..files.staging import staged
from ..geometry.cameras import orbit_cameras
from ..method.mesh import MeshSettings, extract_mesh
from ..method.mix import mix_portraits
from ..method.render import render_views
from ..models.eg3d import EG3D
from ..pipeline import (
    ModelPaths,
    PortraitSettings,
    load_models,
    make_portrait,
)
from ..presets import DEFAULT, QUICK
from ..pretrain.run import PretrainFiles, pretrain_to_file
from ..pretrain.train import PretrainSettings
from ..progress import Progress, Stages
from ..training.distributed import open_workers
from ..types import Portrait
from ..visualize.mix_video import mixed_pictures
from ..visualize.turntable import TurntableSettings
from .console import TextBar
from .devices import available_devices, chosen_device
from .run_files import enlarged, save_movie, versions, write_mix, write_run, write_run_record

SPARE_MB = 40  # videos, pictures and the mesh of a run


def run(args: argparse.Namespace) -> None:
    """Run the command that was parsed into `args`."""
    {
        "portrait": portrait,
        "render": render,
        "mix": mix_files,
        "mesh": mesh,
        "pretrain": pretrain_file,
        "convert": convert,
        "info": info,
    }[args.command](args)


def portrait(args: argparse.Namespace) -> None:
    """Make one or two stylised portraits and everything that shows them."""
    settings, device = portrait_settings(args), chosen_device(args.device)
    paths = model_paths(args)
    stages = numbered_stages(7 if args.style2 is None else 11)
    needed_mb = _space_needed(paths, len(settings.prompts))
    with staged(args.out, needed_mb=needed_mb, record=RUN_RECORD) as folder:
        with stages.stage("load the models"):
            _silence_libraries()
            models = load_models(paths, device, getattr(torch, args.editor_precision))
        made = make_portrait(models, settings, stages=stages)
        with stages.stage("save"):
            files = sorted([*write_run(folder, made), RUN_RECORD])
        write_run_record(
            folder / RUN_RECORD,
            made,
            models,
            times=stages.times,
            files=files,
            device=str(device),
        )
    say(f"{args.out}: {', '.join(files)}")


def portrait_settings(args: argparse.Namespace) -> PortraitSettings:
    """Return the checked settings of the portrait command."""
    prompts = (args.style,) if args.style2 is None else (args.style, args.style2)
    if args.mix is not None and args.style2 is None:
        raise InputError("--mix needs a second style; add --style2")
    preset = QUICK if args.quick else DEFAULT
    chosen = {field.name: getattr(args, field.name, None) for field in fields(preset)}
    preset = replace(preset, **{name: value for name, value in chosen.items() if value is not None})
    given = {"tau": args.tau, "mix_steps": args.mix}
    extra = {name: value for name, value in given.items() if value is not None}
    return preset.settings(*prompts, seed=args.seed, path=args.path, **extra)


def render(args: argparse.Namespace) -> None:
    """Render a saved portrait as a video or as one picture."""
    kind = ending(args.out)
    if kind not in (".mp4", ".png"):
        raise InputError(f"--out must end in .mp4 or .png, got {args.out.name!r}")
    path, stages = turntable_settings(args), numbered_stages(1)
    with opened_portrait(args, args.file) as (saved, folder):
        rig = saved.renderer.config.rig()
        if kind == ".png":
            cameras = orbit_cameras([args.yaw or 0.0], [args.pitch or 0.0], rig)
        else:
            cameras = path.cameras(rig)
        with stages.stage("render") as progress:
            images = render_views(saved, cameras, progress=progress).image
        if kind == ".png":
            save_image(folder / args.out.name, enlarged(images[0]))
        else:
            save_movie(folder / args.out.name, images, path.fps)
    say(str(args.out))


def turntable_settings(args: argparse.Namespace) -> TurntableSettings:
    """Return the camera path of the render command."""
    angles = {"yaw_range_deg": args.yaw, "pitch_range_deg": args.pitch}
    given = {name: value for name, value in angles.items() if value is not None}
    return TurntableSettings(path=args.path, frames=args.frames, fps=args.fps, **given)


def mix_files(args: argparse.Namespace) -> None:
    """Mix two saved portraits."""
    device = chosen_device(args.device)
    if args.amount is not None and not 0 <= args.amount <= 1:
        raise InputError(f"--amount must be from 0 to 1, got {args.amount}")
    settings = PortraitSettings(prompts=("first", "second"), mix_steps=args.mix)
    with staged(args.out, needed_mb=SPARE_MB, record=MIX_RECORD) as folder:
        eg3d = given_eg3d(args)
        a, b = (load_portrait(f, eg3d=eg3d).to(device) for f in (args.a, args.b))
        between = None if args.amount is None else mix_portraits(a, b, args.amount)
        with numbered_stages(1).stage("mix the styles") as progress:
            mixed = mixed_pictures(
                a,
                b,
                steps=settings.mix_steps,
                frames=settings.mix_frames,
                turntable=settings.turntable,
                settings=settings.render,
                progress=progress,
            )
        write_mix(folder, mixed, settings)
        if between is not None:
            save_portrait(folder / "portrait.safetensors", between)
        files = sorted([*(path.name for path in folder.iterdir()), MIX_RECORD])
        described = {
            "mixed": [{"file": str(f), "sha256": sha256(f)} for f in (args.a, args.b)],
            "columns": args.mix,
            "amount": args.amount,
            "versions": versions(),
            "files": files,
        }
        write_record(folder / MIX_RECORD, described, files)
    say(f"{args.out}: {', '.join(files)}")


def mesh(args: argparse.Namespace) -> None:
    """Export a saved portrait as a mesh."""
    mesh_format(args.out)
    settings = MeshSettings(
        resolution=args.resolution,
        level=args.level,
        largest_only=not args.all_parts,
        flat_base=not args.keep_base,
        cut_back=args.cut_back,
        watertight=args.watertight,
        max_faces=args.max_faces,
        head_height_m=args.head_height,
    )
    stages = numbered_stages(1)
    with opened_portrait(args, args.file) as (saved, folder):
        with stages.stage("mesh") as progress:
            surface = extract_mesh(saved, settings=settings, progress=progress)
        save_mesh(folder / args.out.name, surface)
    say(f"{args.out}: {len(surface.vertices)} vertices, {len(surface.faces)} faces")


def pretrain_file(args: argparse.Namespace) -> None:
    """Train an I2T network for an EG3D."""
    settings, out = pretrain_settings(args), args.out
    files = PretrainFiles(out)
    with open_workers(chosen_device(args.device)) as (workers, device):
        eg3d = load_eg3d(args.eg3d or embedded("eg3d")).to(device)
        stages = numbered_stages(1) if workers.leads else Stages()
        again = "stopped; the same command with --resume goes on where it was"
        with stages.stage("pre-train") as bar, stopped_between_steps(bar, again) as progress:
            made = pretrain_to_file(
                eg3d,
                out,
                settings=settings,
                resume=args.resume,
                checkpoint_minutes=args.checkpoint,
                progress=progress,
                workers=workers,
            )
        if workers.leads:
            psnr = "" if made.psnr is None else f", {made.psnr:.2f} dB on held-out heads"
            say(f"{out}: last loss {made.losses[-1]:.4g}{psnr}; log in {files.log}")


@contextmanager
def stopped_between_steps(progress: Progress, message: str) -> Iterator[Progress]:
    """Yield a progress that raises Cancelled(message) after a first Ctrl-C or SIGTERM.

    A second one acts at once.
    """

    def shown(done: float, total: int, preview: Tensor | None = None) -> None:
        interrupts.check(message)
        progress(done, total, preview)

    with interrupts.held():
        yield shown


def pretrain_settings(args: argparse.Namespace) -> PretrainSettings:
    """Return the checked settings of the pretrain command."""
    given = {
        "iterations": args.steps,
        "batch_size": args.batch,
        "learning_rate": args.rate,
        "precision": args.precision,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    return PretrainSettings(
        seed=args.seed, preview_every=args.preview, validate_every=args.validate, **chosen
    )


def convert(args: argparse.Namespace) -> None:
    """Write an official EG3D pickle as a safetensors file."""
    if ending(args.out) != ".safetensors":
        raise InputError(f"the second file must end in .safetensors, got {args.out.name!r}")
    size = args.file.stat().st_size if args.file.is_file() else 0
    with staged(args.out.parent, needed_mb=size / 2**20) as folder:
        config = convert_official(args.file, folder / args.out.name)
    say(f"{args.out}: {config.name}, {config.licence}")


def info(args: argparse.Namespace) -> None:
    """Show versions, devices and models, what a file holds, or whether a run's files are whole."""
    if args.file is not None and args.file.is_dir():
        records, wrong = differences(args.file)
        if wrong:
            raise FreeStyleError(f"{args.file}: {'; '.join(wrong)}; run the command again")
        say(f"{args.file}: all files are as {' and '.join(p.name for p in records)} names them")
        return
    if args.file is not None:
        about = describe(args.file)
        say(f"{args.file}: {about['kind']}, {_megabytes(args.file)}")
        for title, values in (("config", about["config"]), ("about", about["extra"])):
            for name, value in sorted(values.items()):
                say(f"  {title} {name}: {_shortened(value)}")
        return
    say(f"freestyle {__version__}")
    for name, version in versions().items():
        say(f"  {name}: {version}")
    say(f"  devices: {', '.join(available_devices())}")
    say("embedded models:")
    for part in PARTS:
        say(f"  {part}: {_embedded_state(part)}")


@contextmanager
def opened_portrait(args: argparse.Namespace, file: Path) -> Iterator[tuple[Portrait, Path]]:
    """Yield the portrait of `file` and a staged folder for the one output file."""
    device = chosen_device(args.device)
    if args.out.is_dir():
        raise InputError(f"--out {args.out} is a folder; give a file name")
    with staged(args.out.parent) as folder:
        yield load_portrait(file, eg3d=given_eg3d(args)).to(device), folder


def given_eg3d(args: argparse.Namespace) -> EG3D | None:
    """Return the generator named on the command line; None: the embedded one is tried."""
    return load_eg3d(args.eg3d) if args.eg3d else None


def model_paths(args: argparse.Namespace) -> ModelPaths:
    """Return the models named on the command line, else the embedded ones."""
    given = {part: getattr(args, part) for part in PARTS if getattr(args, part) is not None}
    return replace(ModelPaths(), **given)


def numbered_stages(total: int) -> Stages:
    """Return stages whose bars count themselves: `[2/6] edit ...`."""
    count = iter(range(1, 1000))
    return Stages(lambda name: TextBar(f"[{next(count)}/{total}] {name}"))


def say(text: str) -> None:
    """Write a line to standard output."""
    sys.stdout.write(text + "\n")


def _silence_libraries() -> None:
    """Keep the warnings and bars of the libraries from tearing our progress bars apart."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()


def _space_needed(paths: ModelPaths, styles: int) -> float:
    # a portrait keeps its network in single precision; files may hold half
    network = paths.i2t.stat().st_size * 2 / 2**20 if paths.i2t.is_file() else 0
    return styles * (network + SPARE_MB)


def _embedded_state(part: str) -> str:
    path = embedded(part)
    if not path.exists():
        return "missing; install the program again"
    if path.is_dir():
        return _megabytes(path)
    header = load_header(path)
    return f"{header.config.get('name', '')}, {_megabytes(path)}"


def _megabytes(path: Path) -> str:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return f"{sum(f.stat().st_size for f in files) / 2**20:.1f} MB"


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."
