"""`mix`: what lies between two saved portraits."""

from __future__ import annotations

import argparse

from ...errors import InputError
from ...files.portrait import load_portrait, save_portrait
from ...files.record import MIX_RECORD, sha256, write_record
from ...files.staging import staged
from ...method.mix import mix_portraits
from ...pipeline import PortraitSettings
from ...visualize.mix_video import mixed_pictures
from ..console import numbered_stages, say
from ..devices import chosen_device
from ..machine import versions
from ..run_files import SPARE_MB, write_mix
from ..saved import given_eg3d


def run(args: argparse.Namespace) -> None:
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
