"""Pre-training (paper eq. 4): an I2T network learns the planes of an EG3D's own portraits.

Every step draws identities, asks the generator for their planes p and front views I_f, and lowers
|H(I_f) - p|. The result is the running average of the weights. Everything a step does follows from
its number and the seed, so a run that goes on from a checkpoint ends where an uninterrupted one
does, and several processes (`training/distributed.py`) do what one would. Read `pretrain`, then
`_Run.one_step`; the portraits come from `data.py`.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, autocast

from ..checks import check_numbers
from ..errors import FreeStyleError, InputError
from ..models.eg3d import EG3D
from ..models.i2t import I2T, check_i2t_fits
from ..progress import Progress, no_progress
from ..seeds import check_seed
from ..training.checkpoint import TrainingState, pack, unpack
from ..training.distributed import SOLO, Workers
from ..training.graphs import recordable_adam, set_rate
from ..training.loop import update_average
from ..training.losses import plane_loss
from ..training.pieces import Pieces
from .data import GeneratorBatches, HeldOut, plane_statistics

REPORT_EVERY = 10  # steps
# the loss has diverged when its running mean is this many times its best or its first value
WORSE_THAN_BEST, WORSE_THAN_FIRST = 3.0, 2.0
WATCH_DECAY, WATCH_FROM = 0.98, 50  # of that running mean; steps before it is trusted

# step number -> front views [B,3,H,W] in [0,1] and planes [B,3,C,R,R], the same for the same step
Batches = Callable[[int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class PretrainSettings:
    """How to pre-train. Optimiser and iterations are the paper's (section 4.1).

    A step of the full-size network on 4 heads is 1.86 TFLOP (benchmarks/full_size.py): 100000 of
    them take 1.3 hours on an A100 that sustains a quarter of its TF32 peak, 39 TFLOP/s.

    `seed` decides every random number of a step. On a CPU a run, stopped and resumed or not, ends
    with the same network bit by bit where the numbers of threads and processes, the kind of
    processor and the version of PyTorch are the same. On a GPU some sums have no fixed order.
    """

    iterations: int = 100_000
    batch_size: int = 4  # of all processes together
    learning_rate: float = 0.002  # after the warm-up it falls to zero along half a cosine
    betas: tuple[float, float] = (0.0, 0.99)
    warmup: int = 100  # steps, at most a tenth of all
    psi: tuple[float, float] = (0.6, 1.0)  # truncation, drawn uniformly for every identity
    statistics: int = 256  # identities whose planes give the mean head
    # of the I2T and, on a card, of the planes it learns from; weights stay float32
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    held_out: int = 8  # identities that are never trained on, for validation and preview
    preview_every: int = 100  # steps; 0 for no preview
    validate_every: int = 0  # steps; 0 for no validation

    def __post_init__(self) -> None:
        check_numbers(self)
        check_seed(self.seed)
        for name in ("iterations", "batch_size", "statistics", "held_out"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("warmup", "preview_every", "validate_every"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} cannot be negative, got {getattr(self, name)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas must be two numbers from 0 to below 1, got {self.betas}")
        if len(self.psi) != 2 or self.psi[0] > self.psi[1]:
            raise InputError(f"psi must be its lowest and its highest value, got {self.psi}")
        if not 0 < self.learning_rate < 1:
            raise InputError(f"learning_rate must lie between 0 and 1, got {self.learning_rate}")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"precision must be float32 or bfloat16, got {self.precision!r}")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        done = min(1.0, step / self.iterations)
        rise = min(1.0, (step + 1) / max(1, min(self.warmup, self.iterations // 10)))
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * done))

    def task(self) -> str:
        """Return all that decides the result; what only shows the progress is left out."""
        return str(replace(self, preview_every=0, validate_every=0, held_out=1))


@dataclass(frozen=True)
class PretrainReport:
    """How a run stands."""

    step: int  # finished steps
    total: int
    loss: float  # mean of eq. 4 since the last report
    rate: float  # learning rate
    seconds_per_step: float  # since this process began
    seconds_left: float
    psnr: float | None = None  # dB, views of held-out identities, in the steps that validate


@dataclass(frozen=True)
class PretrainWatch:
    """What a run calls while it works; only the leading process calls anything but `progress`."""

    progress: Progress = no_progress
    on_report: Callable[[PretrainReport], None] | None = None
    on_checkpoint: Callable[[TrainingState], None] | None = None  # also when `progress` cancels
    checkpoint_every: int = 0  # steps; 0 for never
    checkpoint_seconds: float = math.inf


@dataclass(frozen=True)
class PretrainResult:
    """The pre-trained network (averaged weights) and the loss of every step."""

    i2t: I2T
    losses: list[float]
    psnr: float | None = None  # dB, of the last validation
    task: str = field(default="", repr=False)  # what was trained with which settings


def pretrain(
    eg3d: EG3D,
    i2t: I2T,  # its weights are where training starts
    *,
    settings: PretrainSettings | None = None,
    watch: PretrainWatch | None = None,
    resume: TrainingState | None = None,
    batches: Batches | None = None,  # None: drawn from the generator as training goes on
    workers: Workers = SOLO,
) -> PretrainResult:
    """Return an I2T that gives this generator's planes for its front views."""
    settings, watch = settings or PretrainSettings(), watch or PretrainWatch()
    check_i2t_fits(i2t.config, eg3d.config)
    with torch.inference_mode(False), torch.enable_grad():
        run = _Run(eg3d, i2t, settings, watch, workers, batches)
        if resume is None:
            run.set_statistics()
        else:
            run.load(resume)
        run.beat()
        while run.step < settings.iterations:
            run.one_step()
            if workers.leads:
                run.look_after()
            run.beat()
    return PretrainResult(run.average, list(run.losses), run.psnr, run.task())


class _Run:
    """Private copies of the networks, and Adam over one of them."""

    def __init__(
        self,
        eg3d: EG3D,
        i2t: I2T,
        settings: PretrainSettings,
        watch: PretrainWatch,
        workers: Workers,
        batches: Batches | None,
    ) -> None:
        self.settings, self.watch, self.workers = settings, watch, workers
        self.device = next(i2t.parameters()).device
        self.eg3d = copy.deepcopy(eg3d).to(self.device).float().eval().requires_grad_(False)
        self.average = copy.deepcopy(i2t).float().eval().requires_grad_(False)
        self.network = copy.deepcopy(self.average).requires_grad_(True)
        self.optimizer = recordable_adam(
            self.network.parameters(),
            self.device,
            learning_rate=settings.learning_rate,
            betas=settings.betas,
        )
        self.pieces = Pieces()
        self.batches = self._shared(batches) if batches else self._drawn()
        self.step = 0
        self.losses: list[float] = []
        self.loss_watch = LossWatch()
        self.psnr: float | None = None
        self.held_out: HeldOut | None = None
        self.began = self.saved = time.monotonic()
        self.first_step = self.reported = 0
        self.preview: Tensor | None = None

    def _drawn(self) -> Batches:
        settings, on_card = self.settings, self.device.type != "cpu"
        return GeneratorBatches(
            self.eg3d,
            batch_size=settings.batch_size,
            psi=settings.psi,
            seed=settings.seed,
            workers=self.workers,
            beat=self.beat,
            dtype=torch.bfloat16 if settings.precision == "bfloat16" and on_card else None,
        )

    def _shared(self, batches: Batches) -> Batches:
        def mine(step: int) -> tuple[Tensor, Tensor]:
            images, planes = batches(step)
            return self.workers.share(images), self.workers.share(planes)

        return mine

    def beat(self) -> None:
        """Report the progress; when that cancels, the state between two steps is kept."""
        preview, self.preview = self.preview, None
        try:
            self.watch.progress(self.step, self.settings.iterations, preview)
        except BaseException:
            if self.step > self.first_step and self.workers.leads:
                self._checkpoint()
            raise

    def set_statistics(self) -> None:
        """Give a new network the generator's mean head; one that has a head already keeps it."""
        settings = self.settings
        if not bool(self.network.plane_mean.any()):
            mean, scale = plane_statistics(
                self.eg3d,
                count=settings.statistics,
                psi=settings.psi,
                seed=settings.seed,
                beat=self.beat,
            )
            for network in (self.network, self.average):
                network.set_plane_statistics(mean, scale)
        for network in (self.network, self.average):
            self.workers.copy_first(list(network.state_dict().values()))

    def one_step(self) -> None:
        """Lower eq. 4 on one batch and move the average along."""
        images, planes = (x.to(self.device) for x in self.batches(self.step))

        def losses(rows: slice) -> tuple[Tensor]:
            with self._precision():
                predicted = self.network(images[rows])
            return (plane_loss(predicted.float(), planes[rows]),)

        clear = partial(self.optimizer.zero_grad, set_to_none=True)
        (loss,) = self.pieces.backward(len(images), losses, clear)
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        self.workers.average([*gradients, loss])
        set_rate(self.optimizer, self.settings.rate(self.step))
        self.optimizer.step()
        self.step += 1
        update_average(self.average, self.network, self.step)
        self.losses.append(loss.item())  # last: it waits for the card
        self.loss_watch.see(self.losses[-1])

    def _precision(self) -> AbstractContextManager[Any]:
        if self.settings.precision == "bfloat16":
            return autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def look_after(self) -> None:
        """Validate, report, save and draw the preview where it is time for that."""
        settings, watch, last = self.settings, self.watch, self.step == self.settings.iterations

        def due(every: int) -> bool:
            return every > 0 and (self.step % every == 0 or last)

        validated = due(settings.validate_every)
        if validated:
            self.psnr = self._held_out().psnr(self.average)
        if watch.on_report and (validated or due(REPORT_EVERY)):
            watch.on_report(self._report(self.psnr if validated else None))
        if due(settings.preview_every):
            self.preview = self._held_out().sheet(self.average)
        late = time.monotonic() - self.saved > watch.checkpoint_seconds
        if late or (watch.checkpoint_every and self.step % watch.checkpoint_every == 0):
            self._checkpoint()

    def _checkpoint(self) -> None:
        if self.watch.on_checkpoint:
            self.watch.on_checkpoint(self.state())
        self.saved = time.monotonic()

    def _held_out(self) -> HeldOut:
        if self.held_out is None:
            settings = self.settings
            self.held_out = HeldOut(
                self.eg3d,
                count=settings.held_out,
                psi=settings.psi,
                seed=settings.seed,
                beat=self.beat,
            )
        return self.held_out

    def _report(self, psnr: float | None) -> PretrainReport:
        recent = self.losses[self.reported :] or self.losses[-1:]
        self.reported = self.step
        pace = (time.monotonic() - self.began) / max(1, self.step - self.first_step)
        left = pace * (self.settings.iterations - self.step)
        rate, total = self.settings.rate(self.step - 1), self.settings.iterations
        return PretrainReport(self.step, total, sum(recent) / len(recent), rate, pace, left, psnr)

    def state(self) -> TrainingState:
        """Return a copy of all that changes from step to step."""
        networks = {"network": self.network, "average": self.average}
        return pack(self.step, self.task(), networks, self.optimizer, {"plane": self.losses})

    def load(self, state: TrainingState) -> None:
        """Go on from a checkpoint of the same task."""
        networks = {"network": self.network, "average": self.average}
        kept = unpack(state, self.task(), networks, self.optimizer, losses=("plane",))
        self.losses = kept["plane"]
        self.step = self.first_step = self.reported = state.step
        for loss in self.losses:
            self.loss_watch.see(loss)

    def task(self) -> str:
        return f"{self.network.config} on {self.eg3d.config.name}, {self.settings.task()}"


class LossWatch:
    """Raises when the losses it sees, one per step, have diverged."""

    def __init__(self) -> None:
        self.step = self.best_step = 0
        self.mean = self.best = self.first = math.inf

    def see(self, loss: float) -> None:
        """Take note of the next loss."""
        self.step += 1
        if not math.isfinite(loss):
            raise self._diverged("is not a finite number")
        if self.step == 1:
            self.mean = self.first = loss
        self.mean = WATCH_DECAY * self.mean + (1 - WATCH_DECAY) * loss
        if self.step < WATCH_FROM:
            return
        if self.mean < self.best:
            self.best, self.best_step = self.mean, self.step
        if self.mean > min(WORSE_THAN_BEST * self.best, WORSE_THAN_FIRST * self.first):
            raise self._diverged(
                f"has risen to {self.mean:.4g}, from {self.best:.4g} at step {self.best_step}"
            )

    def _diverged(self, how: str) -> FreeStyleError:
        return FreeStyleError(
            f"pre-training diverged at step {self.step}: the loss {how}; start again with a lower "
            "learning rate"
        )
