"""A head restyled by a pack, and all the files that show it: no editor, no training."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import torch

from ..errors import MismatchError
from ..files.bundle import weights_hash
from ..files.media.image import save_image
from ..files.media.mesh import save_mesh
from ..files.networks import embedded, load_eg3d
from ..files.portrait import load_portrait, save_portrait
from ..files.record import RUN_RECORD, sha256, write_record
from ..files.staging import staged
from ..files.style_pack import find_style_pack, load_style_pack
from ..geometry.cameras import orbit_cameras
from ..method.mesh import extract_mesh
from ..method.render import render_views
from ..method.sample import sample_portrait
from ..models.eg3d import EG3D
from ..packs.apply import apply_style_pack, check_strength
from ..pipeline import PortraitSettings
from ..types import CameraBatch, Portrait, StylePack
from ..visualize.contact_sheet import contact_sheet
from .console import numbered_stages, say
from .devices import chosen_device
from .machine import peak_memory_mb, versions
from .pictures import enlarged, save_movie
from .run_files import SPARE_MB

SHEET_YAWS_DEG = (0.0, -30.0, -15.0, 15.0, 30.0)  # of views.png, the front first


def restyle(
    args: argparse.Namespace,  # out, device, eg3d
    pack_name: str,
    settings: PortraitSettings,  # seed, psi, turntable, mesh, rendering
    *,
    start: Path | None = None,  # a portrait file, in place of the head of the seed
    strength: float = 1.0,
) -> None:
    """Write all that shows a head in the style of a pack."""
    check_strength(strength)
    device, stages = chosen_device(args.device), numbered_stages(4)
    file = find_style_pack(pack_name)
    with staged(args.out, needed_mb=SPARE_MB, record=RUN_RECORD) as folder:
        with stages.stage("load the models"):
            pack = load_style_pack(file)
            before = _head(args, pack, settings, start).to(device)
        pack.network.to(device)
        with stages.stage(f"restyle into {pack.prompt}"):
            portrait = apply_style_pack(pack, before, strength)
        rig = portrait.renderer.config.rig()
        sheet = orbit_cameras(SHEET_YAWS_DEG, [0.0] * len(SHEET_YAWS_DEG), rig)
        with stages.stage("render") as progress:
            both = CameraBatch.cat([sheet, settings.turntable.cameras(rig)])
            seen = render_views(portrait, both, settings=settings.render, progress=progress)
            original = render_views(before, sheet, settings=settings.render).image
        with stages.stage("mesh") as progress:
            mesh = extract_mesh(portrait, settings=settings.mesh, progress=progress)
        views, frames = seen.image[: len(sheet)], seen.image[len(sheet) :]
        save_image(folder / "front.png", enlarged(views[0]))
        columns = [f"{yaw:+.0f}" if yaw else "front" for yaw in SHEET_YAWS_DEG]
        rows = [("original", original), ("final", views)]
        save_image(folder / "views.png", contact_sheet(rows, columns=columns))
        save_movie(folder / "turntable.mp4", frames, settings.turntable.fps)
        save_mesh(folder / "mesh.glb", mesh)
        save_portrait(folder / "portrait.safetensors", portrait)
        files = sorted([*(entry.name for entry in folder.iterdir()), RUN_RECORD])
        record = {
            "pack": {"file": file.name, "sha256": sha256(file), "prompt": pack.prompt},
            "strength": strength,
            "seed": None if start is not None else settings.seed,
            "psi": None if start is not None else settings.psi,
            "from": None if start is None else {"file": str(start), "sha256": sha256(start)},
            "turntable": asdict(settings.turntable),
            "mesh": asdict(settings.mesh),
            "versions": versions(),
            "eg3d": {"name": pack.eg3d, "renderer": pack.renderer},
            "device": str(device),
            "threads": torch.get_num_threads(),
            "seconds": {name: round(value, 2) for name, value in stages.times.items()},
            "peak_memory_mb": peak_memory_mb(str(device)),
            "files": files,
        }
        write_record(folder / RUN_RECORD, record, files)
    say(f"{args.out}: {', '.join(files)}")


def _head(
    args: argparse.Namespace, pack: StylePack, settings: PortraitSettings, start: Path | None
) -> Portrait:
    """Return the head to restyle, on the CPU."""
    eg3d = load_eg3d(args.eg3d) if args.eg3d else None
    if start is not None:
        return load_portrait(start, eg3d=eg3d)
    eg3d = eg3d if eg3d is not None else _embedded(pack)
    return sample_portrait(eg3d, settings.seed, psi=settings.psi)


def _embedded(pack: StylePack) -> EG3D:
    eg3d = load_eg3d(embedded("eg3d"))
    if weights_hash(eg3d.renderer().state_dict()) != pack.renderer:
        raise MismatchError(
            f"the style pack belongs to EG3D {pack.eg3d} (renderer {pack.renderer[:12]}), which is "
            "not the embedded one; give its file with --eg3d"
        )
    return eg3d
