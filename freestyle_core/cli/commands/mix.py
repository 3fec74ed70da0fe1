"""`mix`: what lies between saved portraits, everywhere or in a region."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ...errors import InputError
from ...files.media.image import load_mask
from ...files.portrait import load_portrait, save_portrait
from ...files.record import MIX_RECORD, sha256, write_record
from ...files.staging import staged
from ...method.areas import Area, LiftSettings, check_mask, masked_area, named_area
from ...method.mix import MOST_MIXED, checked_weights, mix_many, mix_portraits
from ...pipeline import PortraitSettings
from ...types import Portrait
from ...visualize.mix_video import mixed_pictures
from ..console import numbered_stages, say
from ..devices import chosen_device
from ..machine import versions
from ..run_files import SPARE_MB, write_mix
from ..saved import given_eg3d


def run(args: argparse.Namespace) -> None:
    """Mix saved portraits."""
    device = chosen_device(args.device)
    sources = [args.a, args.b, *args.others]
    _check(args, len(sources))
    settings = PortraitSettings(prompts=("first", "second"), mix_steps=args.mix)
    with staged(args.out, needed_mb=SPARE_MB, record=MIX_RECORD) as folder:
        eg3d = given_eg3d(args)
        portraits = [load_portrait(file, eg3d=eg3d).to(device) for file in sources]
        area = _area(args, portraits)
        between = _between(args, portraits, area)
        with numbered_stages(1).stage("mix the styles") as progress:
            mixed = mixed_pictures(
                portraits[0],
                portraits[1],
                others=portraits[2:],
                steps=settings.mix_steps,
                frames=settings.mix_frames,
                turntable=settings.turntable,
                space=args.space,
                area=area,
                settings=settings.render,
                progress=progress,
            )
        write_mix(folder, mixed, settings, len(portraits))
        if between is not None:
            save_portrait(folder / "portrait.safetensors", between)
        files = sorted([*(path.name for path in folder.iterdir()), MIX_RECORD])
        write_record(folder / MIX_RECORD, _described(args, sources, files), files)
    say(f"{args.out}: {', '.join(files)}")


def _check(args: argparse.Namespace, count: int) -> None:
    if count > MOST_MIXED:
        raise InputError(f"a mix is of 2 to {MOST_MIXED} portraits, got {count}")
    if args.amount is not None and not 0 <= args.amount <= 1:
        raise InputError(f"--amount must be from 0 to 1, got {args.amount}")
    if args.amount is not None and (count > 2 or args.weights is not None):
        raise InputError(
            f"--amount is between two portraits, got {count} of them"
            if count > 2
            else "--amount and --weights say the same in two ways; leave one out"
        )
    if args.weights is not None:
        checked_weights(args.weights, count)
    if args.through and args.mask is None:
        raise InputError("--through is about a mask; add --mask FILE")


def _area(args: argparse.Namespace, portraits: Sequence[Portrait]) -> Area | None:
    """Return where to mix, None for everywhere."""
    config, areas = portraits[0].renderer.config, []
    if args.mask is not None:
        mask = load_mask(args.mask)
        check_mask(mask, config.image_resolution)
        areas.append(masked_area(mask, portraits, settings=LiftSettings(through=args.through)))
    if args.region is not None:
        areas.append(named_area(args.region, config.rig(), box_size=config.box_size))
    if not areas:
        return None
    return areas[0] if len(areas) == 1 else areas[0] & areas[1]


def _between(
    args: argparse.Namespace, portraits: Sequence[Portrait], area: Area | None
) -> Portrait | None:
    """Return the portrait to save, None for none."""
    if args.weights is not None:
        return mix_many(portraits, args.weights, space=args.space, area=area)
    amount = args.amount
    if amount is None and area is not None and len(portraits) == 2:
        amount = 1.0  # who paints where the second shall be wants it there
    if amount is None:
        return None
    first, second = portraits
    return mix_portraits(first, second, amount, space=args.space, area=area)


def _described(args: argparse.Namespace, sources: list, files: list[str]) -> dict:
    mask = None if args.mask is None else {"file": str(args.mask), "sha256": sha256(args.mask)}
    where = {"mask": mask, "region": args.region, "through": args.through}
    given = {"weights": args.weights, "where": where if mask or args.region else None}
    return {
        "mixed": [{"file": str(f), "sha256": sha256(f)} for f in sources],
        "columns": args.mix,
        "amount": args.amount,
        "space": args.space,
        **{name: value for name, value in given.items() if value is not None},
        "versions": versions(),
        "files": files,
    }
