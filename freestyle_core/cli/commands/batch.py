"""`batch`: every portrait of a job file, and how far such a batch is."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from ...batch.engine import Engine
from ...batch.folder import BatchFolder
from ...batch.job_file import read_entries
from ...batch.jobs import Task, make_jobs, tasks_of
from ...batch.local import LocalEngine, seats, visible_cards
from ...batch.model_files import model_hashes
from ...batch.page import INDEX
from ...batch.ray_engine import RayEngine, ray_package
from ...batch.run import Run
from ...batch.status import status_of
from ...batch.worker import Plan
from ...errors import FreeStyleError, InputError
from ...files.networks import i2t_misfit, load_eg3d
from ...files.record import RUN_RECORD
from ...pipeline import ModelPaths, Models, PortraitRun
from ...restyle import RestyledRun
from ..batch_screen import JsonLines, Screen, say_status, summary
from ..console import say
from ..devices import AUTO, chosen_device, editor_format
from ..restyle import write_restyled, write_restyled_record
from ..run_files import write_run, write_run_record
from .portrait import model_paths, silence_libraries

STATUS, RAY = "status", "ray"
MOST_WORKERS = 256


def run(args: argparse.Namespace) -> None:
    """Make what is missing of a batch, or say how far it is."""
    if args.file == STATUS:
        tell_status(args)
        return
    if args.folder is not None:
        raise InputError(f"a folder belongs to {STATUS} only; the results go to --out")
    if args.workers is not None and not 1 <= args.workers <= MOST_WORKERS:
        raise InputError(f"--workers must be 1 to {MOST_WORKERS}, got {args.workers}")
    if args.engine != RAY and (args.address is not None or args.results != "folder"):
        raise InputError("--address and --results belong to --engine ray; add it")
    if args.engine == RAY:
        ray_package()  # a package that is missing is told before the work
    tasks, plan = planned(args)
    if args.dry_run:
        for task in tasks:
            say(f"{task.job.key} {task.job.name}")
        return
    folder = BatchFolder(args.out)
    folder.prepare()
    folder.keep_plan([task.job for task in tasks], {"file": Path(args.file).name})
    screen = None if args.json else Screen()
    try:
        report = Run(tasks, folder, engine_of(args, plan), screen or JsonLines()).run()
    finally:
        if screen is not None:
            screen.close()
    if args.json:
        own = {k: v for k, v in asdict(report).items() if k != "failed"}
        JsonLines()({"event": "end", **own, "failed": len(report.failed)})
    else:
        say(summary(report, tasks, {t.job.key for t in tasks if folder.is_done(t.job.key)}))
        say(str(args.out / INDEX))
    if report.failed:
        raise FreeStyleError(
            f"{len(report.failed)} of {report.jobs} jobs failed; the same command tries them again"
        )


def planned(args: argparse.Namespace) -> tuple[list[Task], Plan]:
    """Return the jobs of a job file, all checked, and what workers need to know."""
    entries = read_entries(args.file)
    paths = fitting(model_paths(args), args)
    hashes = model_hashes(paths)
    if args.editor_precision != AUTO:
        hashes["editor"] += f" in {args.editor_precision}"
    tasks = tasks_of(make_jobs(entries, hashes), share=args.share)
    if not any(task.job.settings.tune.train in ("i2t", "both") for task in tasks):
        paths = ModelPaths(paths.eg3d, None, paths.perceptual, paths.editor)
    is_embedded = paths.editor == ModelPaths.editor
    device = partial(device_of, args.device, args.editor_precision, is_embedded)
    return tasks, Plan(args.out.resolve(), paths, device, write_files, time.time())


def fitting(paths: ModelPaths, args: argparse.Namespace) -> ModelPaths:
    """Return the models without the embedded I2T where that belongs to another EG3D."""
    foreign = args.eg3d is not None and args.i2t is None and paths.i2t is not None
    if foreign and i2t_misfit(Path(str(paths.i2t)), load_eg3d(paths.eg3d)) is not None:
        return ModelPaths(paths.eg3d, None, paths.perceptual, paths.editor)
    return paths


def engine_of(args: argparse.Namespace, plan: Plan) -> Engine:
    """Return what holds the workers."""
    if args.engine != RAY:
        return local_engine(args, plan)
    return RayEngine(
        plan, workers=args.workers, address=args.address, bytes_back=args.results == "bytes"
    )


def local_engine(args: argparse.Namespace, plan: Plan) -> LocalEngine:
    """Return the processes of this machine."""
    use_cards = args.device in (AUTO, "cuda")
    cards = visible_cards() if use_cards and torch.cuda.is_available() else []
    return LocalEngine(plan, seats(args.workers, cards, torch.get_num_threads()))


def device_of(name: str, precision: str, embedded: bool) -> tuple[torch.device, torch.dtype]:
    """Return what a worker computes on, and the number format of its editor."""
    silence_libraries()
    device = chosen_device(name)
    return device, editor_format(precision, device, embedded=embedded)


def write_files(
    folder: Path,
    made: PortraitRun | RestyledRun,
    models: Models,
    times: dict[str, float],
    device: str,
) -> Sequence[str]:
    """Write the files of a run as `portrait` and `style apply` do, its record last."""
    if isinstance(made, RestyledRun):
        files = sorted([*write_restyled(folder, made), RUN_RECORD])
        write_restyled_record(folder / RUN_RECORD, made, times=times, files=files, device=device)
        return files
    files = sorted([*write_run(folder, made), RUN_RECORD])
    write_run_record(folder / RUN_RECORD, made, models, times=times, files=files, device=device)
    return files


def tell_status(args: argparse.Namespace) -> None:
    """Say how far the batch in a folder is."""
    if args.folder is None:
        raise InputError("say which folder, as in: batch status batch_out")
    status = status_of(BatchFolder(args.folder))
    if args.json:
        say(json.dumps(asdict(status)))
    else:
        say_status(status)
