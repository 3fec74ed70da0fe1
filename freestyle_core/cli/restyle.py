"""The files of a head that a style pack restyled."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError, MismatchError
from ..files.bundle import weights_hash
from ..files.media.image import save_image
from ..files.media.mesh import save_mesh
from ..files.networks import embedded, load_eg3d
from ..files.portrait import load_portrait, save_portrait
from ..files.record import RUN_RECORD, sha256, write_record
from ..files.staging import staged
from ..files.style_pack import find_style_pack, load_style_pack
from ..method.sample import sample_portrait
from ..models.eg3d import EG3D
from ..packs.apply import check_strength
from ..pipeline import PortraitSettings
from ..restyle import SHEET_YAWS_DEG, RestyledRun, restyle
from ..types import Portrait, StylePack
from ..visualize.contact_sheet import contact_sheet
from .console import numbered_stages, say
from .devices import chosen_device
from .machine import peak_memory_mb, versions
from .pictures import enlarged, save_movie
from .run_files import SPARE_MB


def restyle_to_files(
    args: argparse.Namespace,  # out, device, eg3d
    pack_name: str,
    settings: PortraitSettings,  # seed, psi, turntable, mesh, rendering
    *,
    start: Path | None = None,  # a portrait file, in place of the head of the seed
    strength: float = 1.0,
) -> None:
    """Write all that shows a head in the style of a pack."""
    check_strength(strength)
    device, stages = chosen_device(args.device), numbered_stages(5)
    file = find_style_pack(pack_name)
    with staged(args.out, needed_mb=SPARE_MB, record=RUN_RECORD) as folder:
        with stages.stage("load the models"):
            pack = load_style_pack(file)
            head = head_of(args.eg3d, pack, settings.seed, settings.psi, start).to(device)
        pack.network.to(device)
        made = restyle(pack, head, settings, strength=strength, stages=stages)
        with stages.stage("save"):
            files = sorted([*write_restyled(folder, made), RUN_RECORD])
        write_restyled_record(
            folder / RUN_RECORD,
            made,
            times=stages.times,
            files=files,
            device=str(device),
            start=start,
        )
    say(f"{args.out}: {', '.join(files)}")


def write_restyled(folder: Path, run: RestyledRun) -> list[str]:
    """Write everything that `run` made into `folder` and return the file names."""
    columns = [f"{yaw:+.0f}" if yaw else "front" for yaw in SHEET_YAWS_DEG]
    rows = [("original", run.original), ("final", run.sheet)]
    save_image(folder / "front.png", enlarged(run.sheet[0]))
    save_image(folder / "views.png", contact_sheet(rows, columns=columns))
    save_movie(folder / "turntable.mp4", run.turntable, run.settings.turntable.fps)
    save_mesh(folder / "mesh.glb", run.mesh)
    save_portrait(folder / "portrait.safetensors", run.portrait)
    return sorted(path.name for path in folder.iterdir())


def write_restyled_record(
    path: Path,
    run: RestyledRun,
    *,
    times: dict[str, float],
    files: list[str],
    device: str,
    start: Path | None = None,  # the portrait that it began with
) -> None:
    """Write run.json: pack, strength, seed, versions, stage times, memory, and hashes of all."""
    own = start is None
    record = {
        "pack": {
            "prompt": run.pack.prompt,
            "hash": run.portrait.provenance["pack"]["hash"],
            "heads": run.pack.heads,
            "licence": run.pack.licence,
        },
        "strength": run.strength,
        "seed": run.settings.seed if own else None,
        "psi": run.settings.psi if own else None,
        "from": None if start is None else {"file": str(start), "sha256": sha256(start)},
        "turntable": asdict(run.settings.turntable),
        "mesh": asdict(run.settings.mesh),
        "versions": versions(),
        "eg3d": {"name": run.pack.eg3d, "renderer": run.pack.renderer},
        "device": device,
        "threads": torch.get_num_threads(),
        "seconds": {name: round(value, 2) for name, value in times.items()},
        "seconds_total": round(sum(times.values()), 2),
        "peak_memory_mb": peak_memory_mb(device),
        "files": files,
    }
    write_record(path, record, files)


def given_psi(args: argparse.Namespace) -> dict[str, Any]:
    """Return `psi` where it was given; InputError where the head is not one of a seed."""
    if args.psi is None:
        return {}
    if args.start is not None:
        raise InputError(
            "--psi says how far the head of a seed may be from the average one, but --from brings "
            "its own head; leave out one of them"
        )
    return {"psi": args.psi}


def head_of(
    file: str | None,  # of an EG3D, in place of the embedded one
    pack: StylePack,
    seed: int,
    psi: float,
    start: Path | None,  # a portrait file, in place of the head of the seed
) -> Portrait:
    """Return the head to restyle, on the CPU."""
    eg3d = load_eg3d(file) if file else None
    if start is not None:
        return load_portrait(start, eg3d=eg3d)
    eg3d = eg3d if eg3d is not None else _embedded(pack)
    return sample_portrait(eg3d, seed, psi=psi)


def _embedded(pack: StylePack) -> EG3D:
    eg3d = load_eg3d(embedded("eg3d"))
    if weights_hash(eg3d.renderer().state_dict()) != pack.renderer:
        raise MismatchError(
            f"the style pack belongs to EG3D {pack.eg3d} (renderer {pack.renderer[:12]}), which is "
            "not the embedded one; give its file with --eg3d"
        )
    return eg3d
