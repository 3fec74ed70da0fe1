"""`ablate`: the matrix of methods over styles and heads, and the tables made from it."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import torch

from ...errors import FreeStyleError, InputError
from ...evaluation.ablate import SHORT_EVALUATION, Failure, Matrix, Tally, run_pairs
from ...evaluation.cells import CellStore, pairs_of
from ...evaluation.matrix_pictures import chart, grid
from ...evaluation.methods import DREAMFUSION, methods
from ...evaluation.results import collect, read_results
from ...evaluation.runners import Workshop
from ...evaluation.settings import EvaluateSettings
from ...evaluation.tables import page
from ...evaluation.workers import run_in_processes
from ...evaluation.world import World
from ...files.bundle import weights_hash, write_atomically
from ...files.clip import load_clip
from ...files.dino import load_dino
from ...files.editors.text_to_image import CLAY, load_text_to_image
from ...files.media.image import save_image
from ...files.networks import PARTS, load_i2t
from ...models.text_to_image import TextToImage
from ...pipeline import ModelPaths, load_models
from ..bench.meter import Meter
from ..console import numbered_stages, say
from ..devices import chosen_device
from ..machine import commit, hardware, versions
from .evaluate import network_named
from .portrait import silence_libraries

STYLES, HEADS = {True: 6, False: 12}, {True: 2, False: 3}  # of a short and of a long matrix
MOST_WORKERS = 64
NOTES = "notes.md"  # beside results: what a person says of them, part of the page
RECORD, PICTURE = "results.json", "results.png"
FLAT = Path("clay_data") / "models" / "i2t_flat.safetensors"  # where clay's training puts it

T = TypeVar("T")
Network = TypeVar("Network", bound=torch.nn.Module)


@dataclass(frozen=True)
class Plan:
    """All that a process needs to make the matrix its own."""

    short: bool
    methods: tuple[str, ...] | None
    styles: tuple[str, ...] | None
    heads: int
    out: Path
    paths: ModelPaths
    flat: Path | None
    clip: str
    dino: str
    teacher: Path | None  # DreamFusion's text-to-image model; None: the editor's folder
    device: str
    world: World | None  # what knows the true heads, of the embedded models
    about: dict[str, Any]


def run(args: argparse.Namespace) -> None:
    """Make what is missing of the matrix, then its results; or only tables of results."""
    if args.report is not None:
        say(write_report(args.report))
        return
    methods(args.short, args.methods)  # a wrong name is told before anything is loaded
    plan = plan_of(args)
    stages = numbered_stages(2 if args.collect else 3)
    with stages.stage("load the models"):
        silence_libraries()
        matrix = matrix_of(plan)
    for method in matrix.methods:
        missing = matrix.shop.missing(method)
        if missing is not None:
            say(f"{method.name} is left out: it needs {missing}")
    say(_standing(matrix))
    failed: list[Failure] = []
    if not args.collect:
        with stages.stage("make the matrix") as progress:
            failed = _made(matrix, plan, args.workers, Tally(len(matrix.cells()), progress))
    with stages.stage("tables"):
        write_results(matrix, failed, plan)
    for failure in failed:
        say(f"{failure.method} on {failure.pair} failed: {failure.reason}")
    say(f"{plan.out / RECORD}: {_standing(matrix)}")
    if failed:
        raise FreeStyleError(f"{len(failed)} cells failed; the same command tries them again")


def plan_of(args: argparse.Namespace) -> Plan:
    """Return the checked arguments."""
    if not 1 <= args.workers <= MOST_WORKERS:
        raise InputError(f"--workers must be 1 to {MOST_WORKERS}, got {args.workers}")
    heads = HEADS[args.short] if args.heads is None else args.heads
    if heads < 1:
        raise InputError(f"--heads must be at least 1, got {heads}")
    given = {part: getattr(args, part) for part in PARTS if getattr(args, part) is not None}
    if str(given.get("i2t", "")) == "none":
        given["i2t"] = None
    about = {"commit": commit(), "hardware": hardware(), "versions": versions()}
    return Plan(
        args.short,
        None if args.methods is None else tuple(args.methods),
        None if args.styles is None else tuple(args.styles),
        heads,
        args.out,
        replace(ModelPaths(), **given),
        FLAT if args.i2t_flat is None and FLAT.is_file() else args.i2t_flat,
        args.clip,
        args.dino,
        args.text_to_image,
        str(chosen_device(args.device)),
        args.world() if hasattr(args, "world") else None,
        about,
    )


def matrix_of(plan: Plan) -> Matrix:
    """Return the matrix of a plan, its models loaded."""
    device = torch.device(plan.device)
    models = load_models(plan.paths, device)
    world = plan.world if plan.world is not None and plan.world.fits(models.eg3d) else None
    flat = None
    if plan.flat is not None:
        network = load_i2t(plan.flat, eg3d=models.eg3d)
        if network.config.code_size != 1:
            raise InputError(
                f"--i2t-flat needs a code of size 1, {plan.flat.name} has "
                f"{network.config.code_size}; make one with pretrain --code-size 1"
            )
        flat = network.to(device), weights_hash(network.state_dict())
    store = CellStore(plan.out)
    chosen = methods(plan.short, plan.methods)
    teacher = None
    if any(method.runner == DREAMFUSION for method in chosen):
        teacher = _teacher(plan, device)
    shop = Workshop(
        models,
        store.edits,
        flat=flat,
        clip=_scorer(plan.clip, load_clip, device),
        dino=_scorer(plan.dino, load_dino, device),
        text_to_image=teacher,
    )
    first = 0 if world is None else world.first_seed
    return Matrix(
        shop,
        chosen,
        pairs_of(_styles(plan, world), range(first, first + plan.heads)),
        store,
        world=world,
        settings=SHORT_EVALUATION if plan.short else EvaluateSettings(),
        about=plan.about,
        measure=_Memory(device),
    )


def write_results(matrix: Matrix, failed: list[Failure], plan: Plan) -> None:
    """Write results.json and results.png into the folder of the matrix."""
    words = ["python", "-m", "freestyle_core", *sys.argv[1:]]
    about = {
        "command": shlex.join(words),
        "date": date.today().isoformat(),
        "short": plan.short,
        "seed": [pair.seed for pair in matrix.pairs],
        **plan.about,
    }
    text = json.dumps(collect(matrix, failed, about), indent=1) + "\n"
    with write_atomically(plan.out / RECORD) as part:
        part.write_text(text, encoding="utf-8")
    sheet = grid(matrix)
    if sheet is not None:
        save_image(plan.out / PICTURE, sheet)


def write_report(folder: Path) -> str:
    """Write FOLDER.md and the chart from the last results in a folder; return what was written."""
    found = sorted(folder.glob("*.json"))
    if not found:
        raise InputError(f"{folder} holds no results (.json); copy results.json of a matrix there")
    name = found[-1].stem
    results = read_results(found[-1])
    target, said = folder.with_suffix(".md"), folder / NOTES
    notes = said.read_text(encoding="utf-8") if said.is_file() else ""
    save_image(folder / f"{name}-matrix.png", chart(results))
    with write_atomically(target) as part:
        part.write_text(page(results, name, notes), encoding="utf-8")
    return f"{target}: from {found[-1]}"


def _styles(plan: Plan, world: World | None) -> list[tuple[str, str]]:
    if world is None:
        if plan.styles is None:
            raise InputError("these models know no styles by name; give some with --styles")
        return [(style, style) for style in plan.styles]
    names = plan.styles or tuple(world.styles)[: STYLES[plan.short]]
    return [(name, world.prompt(name)) for name in names]


def _teacher(plan: Plan, device: torch.device) -> tuple[TextToImage, str] | None:
    """Return DreamFusion's teacher and its hash; None: an editor that is not the embedded one."""
    if plan.teacher is None and plan.paths.editor != ModelPaths.editor:
        return None
    teacher = load_text_to_image(CLAY if plan.teacher is None else plan.teacher)
    return teacher.to(device), weights_hash(teacher.unet.state_dict())


def _scorer(choice: str, load: Callable[[str], Network], device: torch.device) -> Network | None:
    network, why = network_named(choice, load)
    if network is None:
        if why:
            say(f"without a score: {why}")
        return None
    return network.to(device)


def _made(matrix: Matrix, plan: Plan, workers: int, tally: Tally) -> list[Failure]:
    if workers == 1:
        return run_pairs(matrix, tally)
    return run_in_processes(matrix_of, (plan,), workers, tally)


def _standing(matrix: Matrix) -> str:
    cells = matrix.cells()
    done = [matrix.store.load(matrix.keys(*cell)[2]) is not None for cell in cells]
    return f"{sum(done)} of {len(cells)} cells are finished"


@dataclass(frozen=True)
class _Memory:
    """Measures the memory of a piece of work on a device."""

    device: torch.device

    def __call__(self, work: Callable[[], T], /) -> tuple[T, float | None]:
        sample, made = Meter(self.device).measure(lambda ready: work())
        return made, sample.memory_mb
