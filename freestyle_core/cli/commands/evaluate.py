"""`evaluate`: how good a saved portrait is, in numbers and in one picture."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from ...errors import FileFormatError, FreeStyleError, InputError
from ...evaluation.evaluate import View, evaluate_portrait, renderer_of
from ...evaluation.report import report
from ...evaluation.world import Truth, World
from ...files.clip import load_clip
from ...files.dino import AUTO, load_dino
from ...files.media.image import save_image
from ...files.names import ending
from ...files.networks import embedded, load_eg3d
from ...files.perceptual import load_distance
from ...files.portrait import load_portrait
from ...files.record import RUN_RECORD, read_record, sha256
from ...files.staging import staged
from ...method.sample import sample_portrait
from ...types import Portrait
from ..console import numbered_stages, say
from ..devices import chosen_device
from ..edited_views import beside, read_edited
from ..machine import peak_memory_mb, versions
from ..saved import given_eg3d
from .portrait import silence_libraries

NONE = "none"  # of --clip and --dino

Network = TypeVar("Network")


def run(args: argparse.Namespace) -> None:
    """Measure a portrait, say what came out, and write it where that is asked for."""
    for path, kind in ((args.json, ".json"), (args.picture, ".png")):
        if path is not None and ending(path) != kind:
            raise InputError(f"the file must end in {kind}, got {path.name!r}")
    device = chosen_device(args.device)
    stages = numbered_stages(2)
    with ExitStack() as stack:
        folders = {
            path: stack.enter_context(staged(path.parent))
            for path in (args.json, args.picture)
            if path is not None
        }
        with stages.stage("load") as progress:
            portrait = load_portrait(args.portrait, eg3d=given_eg3d(args)).to(device)
            prompt = args.prompt if args.prompt is not None else _prompt_of(portrait)
            original, source = original_of(args, portrait, device)
            truth, no_truth = truth_of(args, portrait, prompt)
            place = args.edited or beside(args.portrait)
            edited = None if place is None else read_edited(place, args.portrait, portrait, prompt)
            silence_libraries()
            fetch = partial(load_clip, download=args.download, progress=progress)
            clip, no_clip = network_named(args.clip, fetch)
            dino, no_dino = network_named(args.dino, load_dino)
            size = portrait.renderer.config.image_resolution
            distance = load_distance(args.perceptual or AUTO, image_resolution=size).to(device)
        with stages.stage("evaluate") as progress:
            found = evaluate_portrait(
                renderer_of(portrait),
                rig=portrait.renderer.config.rig(),
                distance=distance,
                clip=None if clip is None else clip.to(device),
                dino=None if dino is None else dino.to(device),
                prompt=prompt,
                original=original,
                edited=edited,
                truth=truth,
                progress=progress,
            )
        reasons = {"clip": no_clip, "feature_consistency": no_dino, "truth": no_truth}
        found.missing.update({name: why for name, why in reasons.items() if why})
        cost = cost_of(args.portrait)
        for line in [*report(found).splitlines(), f"original: {source}", *_cost_lines(cost)]:
            say(line)
        if args.json is not None:
            about = {
                "portrait": {"file": args.portrait.name, "sha256": sha256(args.portrait)},
                "original": source,
                "edited": None if place is None else place.name,
                "made_in": cost,
            }
            record = {**about, **machine_record(device), **found.record()}
            text = json.dumps(record, indent=1)
            (folders[args.json] / args.json.name).write_text(text + "\n", encoding="utf-8")
        if args.picture is not None:
            save_image(folders[args.picture] / args.picture.name, found.picture)
    for path in folders:
        say(str(path))


def original_of(
    args: argparse.Namespace, portrait: Portrait, device: torch.device
) -> tuple[View | None, str]:
    """Return what renders the head before it was restyled, and where that came from."""
    if args.original is not None:
        before = load_portrait(args.original, eg3d=given_eg3d(args))
        return renderer_of(before.to(device)), args.original.name
    made = portrait.provenance
    if not portrait.is_stylized:
        return None, "none: the portrait was not restyled"
    if not isinstance(made.get("seed"), int) or "psi" not in made:
        return None, "none: the portrait names no seed; give --original"
    eg3d = load_eg3d(args.eg3d or embedded("eg3d"))
    before = sample_portrait(eg3d, made["seed"], psi=made["psi"], cutoff=made.get("cutoff"))
    return renderer_of(before.to(device)), f"seed {made['seed']} at psi {made['psi']:g}"


def truth_of(args: argparse.Namespace, portrait: Portrait, prompt: str) -> tuple[Truth | None, str]:
    """Return what draws the true restyled head, or why nobody knows it."""
    world: World | None = args.world() if hasattr(args, "world") else None
    if world is None or not world.fits(portrait.renderer):
        return None, ""
    made = portrait.provenance
    if not isinstance(made.get("seed"), int) or made.get("psi") != 1:
        return None, (
            "the true head is known of a seed at psi 1 alone; this portrait has seed "
            f"{made.get('seed')} and psi {made.get('psi')}"
        )
    style = world.style_of(prompt)
    if style is None:
        return None, f"{prompt!r} are no words of a style whose true heads are known"
    return world.truth(style, made["seed"]), ""


def network_named(
    choice: str,  # AUTO, NONE or what `load` knows
    load: Callable[[str], Network],
) -> tuple[Network | None, str]:
    """Return a network, or why there is none; one that is named must load."""
    if choice == NONE:
        return None, ""
    try:
        return load(choice), ""
    except FileFormatError as error:
        if choice != AUTO:
            raise
        return None, str(error)


def cost_of(file: Path) -> dict[str, Any] | None:
    """Return seconds and memory of the run that made a portrait, where its record lies beside it.

    A record of another run, or a damaged one, says nothing.
    """
    try:
        record = read_record(file.parent / RUN_RECORD)
        if record["sha256"].get(file.name) != sha256(file):
            return None
        return {name: record[name] for name in ("seconds", "seconds_total", "peak_memory_mb")}
    except (FreeStyleError, KeyError):
        return None


def machine_record(device: torch.device) -> dict[str, Any]:
    """Return what a record says of where the numbers were made."""
    return {
        "versions": versions(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "peak_memory_mb": peak_memory_mb(device),
    }


def _prompt_of(portrait: Portrait) -> str:
    prompt = portrait.provenance.get("prompt", "")
    return prompt if isinstance(prompt, str) else ""


def _cost_lines(cost: dict[str, Any] | None) -> list[str]:
    if cost is None:
        return ["time and memory: no run.json of this portrait beside it"]
    memory = cost["peak_memory_mb"].get("process")
    return [f"time and memory: {cost['seconds_total']:.0f} s, {memory} MB at most"]
