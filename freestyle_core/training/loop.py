"""What the training scripts share: a resumable Adam loop with an average of the weights.

A step is a function of its number only (its random numbers come from `step_generator`), and the
learning rate too, so a run that was interrupted ends where an uninterrupted one would. Read
`Trainer.fit` first.
"""

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from ..checks import check_numbers
from ..errors import FileFormatError, InputError
from ..files.bundle import write_atomically

log = logging.getLogger(__name__)

PLANNING_STEPS = 20  # steps that are timed before `minutes` is turned into a number of steps
AVERAGE_DECAY = 0.998


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast to learn. `minutes`, when given, decides `steps` from a measurement."""

    steps: int = 3000
    minutes: float | None = None
    batch_size: int = 8
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    clip_norm: float = 1.0
    seed: int = 0
    log_seconds: float = 30.0
    checkpoint_seconds: float = 120.0

    def __post_init__(self) -> None:
        check_numbers(self)
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the CPU generator of one training step."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """Return the share of the learning rate at `step`: a linear rise, then half a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def edge_loss(a: Tensor, b: Tensor) -> Tensor:  # [...,H,W]
    """Return the L1 of the steps between neighbouring pixels, along rows plus along columns."""
    difference = a - b
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


def write_checkpoint(path: Path, state: dict) -> None:
    """Write tensors and plain values to `path`, never leaving a half-written file there."""
    with write_atomically(path) as part:
        torch.save(state, part)


def read_checkpoint(path: Path) -> dict:
    """Return what `write_checkpoint` wrote; nothing but tensors and plain values is loaded."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a damaged file can make torch.load raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FileFormatError(
            f"{path} cannot be read ({reason}); delete it to make it again"
        ) from error
    if not isinstance(state, dict):
        raise FileFormatError(
            f"{path} holds a {type(state).__name__}, expected a checkpoint; delete it"
        )
    return state


def write_sheet(path: Path, rows: list[Tensor]) -> None:
    """Write rows of images [N,3,H,W] in [0,1] as one PNG."""
    sheet = torch.cat([torch.cat(list(row.float().cpu()), dim=2) for row in rows], dim=1)
    pixels = (sheet.clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).contiguous().numpy()
    with write_atomically(path) as part:
        Image.fromarray(pixels).save(part, format="PNG")


class Trainer:
    """Adam over `networks`, and `average`, the running mean of their weights."""

    def __init__(
        self,
        networks: nn.Module,
        path: Path,  # of the checkpoint
        settings: TrainSettings,
        groups: list[dict] | None = None,  # Adam's parameter groups; a group may have "scale"
    ) -> None:
        self.networks, self.path, self.settings = networks, path, settings
        self.average = copy.deepcopy(networks).eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(
            groups or [{"params": list(networks.parameters())}],
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
            fused=True,  # one pass over the memory, where most of the time of a small step goes
        )
        self.step = 0
        self.steps = settings.steps if settings.minutes is None else 0  # 0: not yet planned
        self.losses: dict[str, float] = {}  # recent means, for the log

    def resume(self) -> bool:
        """Load the checkpoint if there is one, and say whether there was."""
        if not self.path.exists():
            return False
        state = read_checkpoint(self.path)
        try:
            self.networks.load_state_dict(state["networks"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.steps, self.losses = state["step"], state["steps"], state["losses"]
        except (KeyError, ValueError, RuntimeError) as error:  # of other networks or versions
            raise FileFormatError(
                f"{self.path} does not fit this training ({str(error).splitlines()[0]}); delete it "
                "to start again"
            ) from error
        log.info("resumed %s at step %d of %d", self.path.name, self.step, self.steps)
        return True

    def checkpoint(self) -> None:
        """Write everything `resume` needs."""
        state = {
            "networks": self.networks.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "steps": self.steps,
            "losses": self.losses,
        }
        write_checkpoint(self.path, state)

    def fit(
        self,
        losses_at: Callable[[int], dict[str, Tensor]],  # of a step; their sum is minimised
        on_checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        """Train to the last step; a stop at any time loses at most `checkpoint_seconds`."""
        settings = self.settings
        logged = saved = time.perf_counter()
        logged_step, durations = self.step, []
        while self.steps == 0 or self.step < self.steps:
            start = time.perf_counter()
            self._one_step(losses_at(self.step))
            now = time.perf_counter()
            if self.steps == 0:
                durations.append(now - start)
                self._plan(durations)
            if now - logged > settings.log_seconds or self.step == self.steps:
                seconds = (now - logged) / max(1, self.step - logged_step)
                values = " ".join(f"{name} {value:.4f}" for name, value in self.losses.items())
                log.info("step %d/%d %.3f s/step %s", self.step, self.steps, seconds, values)
                logged, logged_step = now, self.step
            if now - saved > settings.checkpoint_seconds or self.step == self.steps:
                self.checkpoint()
                on_checkpoint()
                saved = time.perf_counter()

    def _plan(self, durations: list[float]) -> None:
        if len(durations) == PLANNING_STEPS and self.settings.minutes is not None:
            typical = sorted(durations)[PLANNING_STEPS // 2]
            self.steps = max(PLANNING_STEPS + 1, int(self.settings.minutes * 60 / typical))
            log.info("%d steps of %.3f s planned", self.steps, typical)

    def _one_step(self, losses: dict[str, Tensor]) -> None:
        settings = self.settings
        factor = rate_factor(self.step, self.steps or 1_000_000, settings.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor * group.get("scale", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        total = sum(losses.values())
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.networks.parameters(), settings.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            log.warning("step %d skipped: gradient is not finite", self.step)
        self._update_average()
        for name, loss in losses.items():
            recent = self.losses.get(name, loss.item())
            self.losses[name] = 0.98 * recent + 0.02 * loss.item()
        self.step += 1

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        mean, new = list(self.average.parameters()), list(self.networks.parameters())
        torch._foreach_lerp_(mean, new, 1 - decay)
