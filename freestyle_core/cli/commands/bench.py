"""`bench`: how long each stage takes, beside the naive way."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import torch

from ...baselines.random_models import full_size_editor, full_size_eg3d, full_size_i2t
from ...errors import InputError
from ...files.names import ending
from ...files.perceptual import AUTO, load_distance
from ...files.staging import staged
from ...models.i2t import I2T, i2t_config_for
from ...pipeline import ModelPaths, Models, PortraitSettings, load_models
from ...presets import PAPER, PRESETS
from ..bench.meter import Meter
from ..bench.report import Measured, lines, measure, record
from ..bench.stages import STYLE, Bench
from ..console import numbered_stages, say
from ..devices import chosen_device, editor_format
from ..machine import versions
from .portrait import silence_libraries

STAGES = ("edit", "render", "finetune", "whole")
UNITS = {"cpu": 4, "cuda": 16}  # views, and frames, of one measurement
STEPS = {"cpu": 10, "cuda": 30}  # of fine-tuning
FULL_SIZE_ON_CPU = 1, 2  # the same, where a view takes minutes


def run(args: argparse.Namespace) -> None:
    """Measure every stage both ways, say what came out, and write it where that is asked for."""
    if args.out is not None and ending(args.out) != ".json":
        raise InputError(f"--out must end in .json, got {args.out.name!r}")
    paper, settings = compared_settings(args)
    device = chosen_device(args.device)
    units = counted_units(args, device)
    with nullcontext() if args.out is None else staged(args.out.parent) as folder:
        bars = numbered_stages(1 + len(units))
        with bars.stage("load the models"):
            silence_libraries()
            models = full_size(device, units) if args.full_size else clay(device)
            bench = Bench(models, _i2t(models), paper, settings)
            stages = bench.stages(units)
        meter, load = Meter(device), _load()
        rates = _rates(meter, models) if meter.on_card else {}
        measured: dict[str, Measured] = {}
        for name, stage in stages.items():
            once = name == "whole"
            with bars.stage(f"measure {name}") as progress:
                measured[name] = measure(
                    stage, meter, 1 if once else args.repeats, progress, warm_up=not once
                )
        for line in lines(measured, args.preset, rates):
            say(line)
        if folder is not None:
            about = {
                "models": "full size, random weights" if args.full_size else "embedded",
                "device": str(device),
                "card": torch.cuda.get_device_name(device) if meter.on_card else None,
                "threads": torch.get_num_threads(),
                "load_before_and_after": [load, _load()],
                "versions": versions(),
                "repeats": args.repeats,
                "preset": args.preset,
                "settings": {"paper": asdict(paper), "preset": asdict(settings)},
            }
            text = json.dumps({**about, **record(measured, rates)}, indent=1)
            (folder / args.out.name).write_text(text + "\n", encoding="utf-8")


def counted_units(args: argparse.Namespace, device: torch.device) -> dict[str, int]:
    """Return how many units of each stage are measured at a time."""
    kind = "cuda" if device.type == "cuda" else "cpu"
    for name, value in (
        ("repeats", args.repeats),
        ("views", args.views),
        ("tune-steps", args.tune_steps),
    ):
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, got {value}")
    views, steps = UNITS[kind], STEPS[kind]
    if args.full_size and kind == "cpu":
        views, steps = FULL_SIZE_ON_CPU
    views = views if args.views is None else args.views
    steps = steps if args.tune_steps is None else args.tune_steps
    units = {"edit": views, "render": views, "finetune": steps, "whole": 1}
    return {name: units[name] for name in STAGES if name in args.stages}


def compared_settings(args: argparse.Namespace) -> tuple[PortraitSettings, PortraitSettings]:
    """Return the paper's settings, which the naive way has, and the preset's, for one style.

    What is shown of a portrait is the same.
    """
    chosen = PRESETS[args.preset].but(steps=args.steps)
    shown = {"frames": chosen.frames, "resolution": chosen.resolution}
    return PAPER.but(steps=args.steps, **shown).settings(STYLE), chosen.settings(STYLE)


def clay(device: torch.device) -> Models:
    """Return the embedded models."""
    return load_models(ModelPaths(), device)


def full_size(device: torch.device, stages: Collection[str]) -> Models:
    """Return networks of the official sizes, with random weights; no editor if none is used."""
    eg3d = full_size_eg3d(device)
    editor: Any = None
    if {"edit", "whole"} & set(stages):
        editor = full_size_editor(device, editor_format("auto", device, embedded=False))
    perceptual = load_distance(AUTO, image_resolution=eg3d.config.image_resolution)
    return Models(eg3d, full_size_i2t(device), perceptual.to(device), editor, {"i2t": ""})


def _i2t(models: Models) -> I2T:
    """Return the models' I2T, or one with random weights, which takes as long."""
    if models.i2t is not None:
        return models.i2t
    made = I2T(i2t_config_for(models.eg3d.config)).eval()
    return made.to(next(models.eg3d.parameters()).device)


def _rates(meter: Meter, models: Models) -> dict[str, float]:
    rate = meter.matrix_rate(torch.float32)
    editing = rate if models.editor is None else meter.matrix_rate(models.editor.dtype)
    return {"edit": editing, "render": rate, "finetune": rate}


def _load() -> float | None:
    """Return how many programs wanted a processor in the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
