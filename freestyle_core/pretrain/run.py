"""A pre-training run on disk: one call that survives kill -9 at any moment.

Beside the network NAME.safetensors lie, while it trains, NAME.checkpoint (replaced every few
minutes), NAME.jsonl (one line of numbers per report) and NAME_previews. Read `pretrain_to_file`;
the command line and the node I2T Pretrain both call it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError, InputError, WriteError
from ..files.bundle import load_bundle, load_header, save_bundle, weights_hash, write_atomically
from ..files.media.image import save_image
from ..files.names import ending
from ..files.networks import load_i2t, save_i2t
from ..files.staging import staged
from ..models.eg3d import EG3D
from ..models.i2t import I2T, I2TConfig, i2t_config_for
from ..progress import Progress, no_progress
from ..seeds import folded
from ..training.checkpoint import TrainingState
from ..training.distributed import SOLO, Workers
from .train import PretrainReport, PretrainResult, PretrainSettings, PretrainWatch, pretrain

CHECKPOINT_MINUTES = 3.0
MODEL_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class PretrainFiles:
    """Where a run keeps what."""

    out: Path  # the finished network, NAME.safetensors

    def __post_init__(self) -> None:
        if ending(self.out) != MODEL_SUFFIX:
            raise InputError(f"--out must end in {MODEL_SUFFIX}, got {self.out.name!r}")

    @property
    def checkpoint(self) -> Path:
        """The state to go on from; not .safetensors, so that no loader offers it as a model."""
        return self.out.with_suffix(".checkpoint")

    @property
    def log(self) -> Path:
        """One JSON object per line."""
        return self.out.with_suffix(".jsonl")

    def preview(self, step: int) -> Path:
        """Input front view | view of the predicted planes | true view, one identity per row."""
        return self.out.with_name(f"{self.out.stem}_previews") / f"{step:08}.png"


@dataclass(frozen=True)
class PretrainRun:
    """A finished run."""

    i2t: I2T
    losses: list[float]  # of every step
    psnr: float | None  # dB, last validation


def pretrain_to_file(
    eg3d: EG3D,  # on the device to train on
    out: Path,
    *,
    settings: PretrainSettings | None = None,
    resume: bool = False,
    config: I2TConfig | None = None,  # None: chosen for the generator
    checkpoint_minutes: float = CHECKPOINT_MINUTES,
    progress: Progress = no_progress,
    on_report: Callable[[PretrainReport], None] | None = None,
    workers: Workers = SOLO,
) -> PretrainRun:
    """Write an I2T for `eg3d` to `out` and return it.

    With `resume` it goes on from the checkpoint, starts where there is none, and only loads a
    network that the same run has finished. Without, an unfinished run is never overwritten.
    """
    settings, files = settings or PretrainSettings(), PretrainFiles(Path(out))
    if not 0 < checkpoint_minutes < math.inf:
        raise InputError(f"checkpoints need a time above 0 minutes, got {checkpoint_minutes}")
    config, owner = config or i2t_config_for(eg3d.config), weights_hash(eg3d.state_dict())
    about = {"eg3d": owner, "settings": settings.task(), "i2t": config.to_dict()}
    finished = _finished(files, about, resume)
    if finished is not None:
        return finished
    device = eg3d.backbone.mapping.w_avg.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(folded(settings.seed))
        i2t = I2T(config).to(device)
    state = None
    if files.checkpoint.exists():
        state = load_checkpoint(files.checkpoint, about)
    if workers.leads:
        _check_space(files, i2t)
    record = RunLog(files.log)
    if workers.leads:
        record.begin(0 if state is None else state.step, settings, about, workers)
    watch = PretrainWatch(
        _with_previews(progress, files),
        _both(record.report, on_report),
        lambda state: save_checkpoint(files.checkpoint, state, about),
        checkpoint_seconds=60 * checkpoint_minutes,
    )
    result = pretrain(eg3d, i2t, settings=settings, watch=watch, resume=state, workers=workers)
    if workers.leads:
        _finish(files, result, about, settings)
    return PretrainRun(result.i2t, result.losses, result.psnr)


def _finish(
    files: PretrainFiles, result: PretrainResult, about: dict, settings: PretrainSettings
) -> None:
    extra = {
        "run": about,
        "settings": asdict(settings),
        "psnr": result.psnr,
        "losses_last": result.losses[-100:],
    }
    save_i2t(files.out, result.i2t, eg3d=about["eg3d"], extra=extra)
    files.checkpoint.unlink(missing_ok=True)


def _finished(files: PretrainFiles, about: dict, resume: bool) -> PretrainRun | None:
    """Return what this very run has made before; refuse to overwrite another one."""
    if files.checkpoint.exists():
        if not resume:
            raise InputError(
                f"{files.checkpoint} holds an unfinished run; go on with --resume, or delete it"
            )
        return None
    if not resume or not files.out.exists():
        return None
    extra = load_header(files.out, "i2t").extra
    if extra.get("run") != about:
        raise InputError(
            f"{files.out} was made by a run with other settings or another EG3D; choose another "
            "name, or delete it"
        )
    return PretrainRun(load_i2t(files.out), list(extra["losses_last"]), extra["psnr"])


def _check_space(files: PretrainFiles, i2t: I2T) -> None:
    """Refuse a folder that cannot hold two checkpoints, before the work."""
    weights = sum(p.nbytes for p in i2t.state_dict().values()) / 2**20
    with staged(files.out.parent, needed_mb=10 * weights + 1):
        pass


def _both(
    first: Callable[[PretrainReport], None], second: Callable[[PretrainReport], None] | None
) -> Callable[[PretrainReport], None]:
    def call(report: PretrainReport) -> None:
        first(report)
        if second is not None:
            second(report)

    return call


def _with_previews(progress: Progress, files: PretrainFiles) -> Progress:
    """Return a progress that also writes every preview it is given."""

    def shown(done: float, total: int, preview: Tensor | None = None) -> None:
        if preview is not None:
            save_image(files.preview(int(done)), preview)
        progress(done, total, preview)

    return shown


class RunLog:
    """The numbers of a run as JSON lines; a resumed run leaves no line twice."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, step: int, settings: PretrainSettings, about: dict, workers: Workers) -> None:
        """Drop what came after `step` (0: everything), and note how the run goes on."""
        kept = [line for line in self._lines() if line.get("step", 0) <= step] if step else []
        with write_atomically(self.path) as part:
            part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._add(
            {
                "event": "resume" if step else "start",
                "step": step,
                "processes": workers.count,
                "settings": asdict(settings),
                "eg3d": about["eg3d"],
                "i2t": about["i2t"],
                "torch": torch.__version__,
            }
        )

    def report(self, report: PretrainReport) -> None:
        """Add one line."""
        values = {k: v for k, v in asdict(report).items() if v is not None}
        self._add({"event": "step", **values})

    def _add(self, values: dict[str, Any]) -> None:
        line = {"time": datetime.now().astimezone().isoformat(timespec="seconds"), **values}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise WriteError(
                f"cannot write {self.path}: {error.strerror or error}; free some space and go on "
                "with --resume"
            ) from error

    def _lines(self) -> Iterable[dict[str, Any]]:
        if not self.path.exists():
            return
        try:
            content = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise FileFormatError(
                f"{self.path} cannot be read: {error.strerror or error}; move it away to go on"
            ) from error
        for text in content.splitlines():
            with suppress(ValueError):  # the last line of a killed process may be torn
                line = json.loads(text)
                if isinstance(line, dict):
                    yield line


def save_checkpoint(path: Path, state: TrainingState, about: dict[str, Any]) -> None:
    """Write a checkpoint; the one before stays until this one is complete."""
    described = {"step": state.step, "task": state.task, "run": about}
    save_bundle(path, "checkpoint", described, state.tensors)


def load_checkpoint(path: Path, about: dict[str, Any]) -> TrainingState:
    """Return the checkpoint at `path`, which must be of the run `about`."""
    bundle = load_bundle(path, "checkpoint")
    step, task = bundle.config.get("step"), bundle.config.get("task")
    if type(step) is not int or step < 0 or not isinstance(task, str):
        raise FileFormatError(f"{path} is a damaged checkpoint; delete it to start again")
    if bundle.config.get("run") != about:
        raise InputError(
            f"{path} is of a run with other settings or another EG3D; restore them, choose "
            "another name, or delete it to start again"
        )
    return TrainingState(step, bundle.state, task)
