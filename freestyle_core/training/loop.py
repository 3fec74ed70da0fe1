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
from functools import reduce
from operator import add
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..checks import check_numbers
from ..errors import InputError, MismatchError

log = logging.getLogger(__name__)

_Networks = TypeVar("_Networks", bound=nn.Module)

AVERAGE_DECAY = 0.998  # of the running mean of the weights; less in the first steps


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast to learn."""

    steps: int = 3000
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


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """Return the share of the learning rate at `step`: a linear rise, then half a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@torch.no_grad()
def update_average(average: nn.Module, networks: nn.Module, step: int) -> None:
    """Move the running mean of the weights towards the present ones, the less the later `step`."""
    decay = min(AVERAGE_DECAY, (1 + step) / (10 + step))
    mean: list[Tensor] = list(average.parameters())
    new: list[Tensor] = list(networks.parameters())
    torch._foreach_lerp_(mean, new, 1 - decay)


class Checkpoints(Protocol):
    """Where a training is kept; `files/tensors.py` has the one on disk."""

    def load(self) -> dict[str, Any] | None:
        """Return the state that was saved last; None where there is none."""

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state in place of the one before."""


class Trainer(Generic[_Networks]):
    """Adam over `networks`, and `average`, the running mean of their weights."""

    def __init__(
        self,
        networks: _Networks,
        checkpoints: Checkpoints,
        settings: TrainSettings,
        groups: list[dict] | None = None,  # Adam's parameter groups; a group may have "scale"
    ) -> None:
        self.networks, self.checkpoints, self.settings = networks, checkpoints, settings
        self.average = copy.deepcopy(networks).eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(
            groups or [{"params": list(networks.parameters())}],
            lr=settings.learning_rate,
            betas=(0.9, 0.99),
            fused=True,  # one pass over the memory, where most of the time of a small step goes
        )
        self.step = 0
        self.losses: dict[str, float] = {}  # recent means, for the log

    def resume(self) -> bool:
        """Load the checkpoint if there is one, and say whether there was."""
        state = self.checkpoints.load()
        if state is None:
            return False
        try:
            self.networks.load_state_dict(state["networks"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.losses = state["step"], state["losses"]
        except (KeyError, ValueError, RuntimeError) as error:  # of other networks or versions
            raise MismatchError(
                f"the checkpoint {self.checkpoints} does not fit this training "
                f"({str(error).splitlines()[0]}); delete it to start again"
            ) from error
        log.info("resumed at step %d of %d", self.step, self.settings.steps)
        return True

    def checkpoint(self) -> None:
        """Write everything `resume` needs."""
        state = {
            "networks": self.networks.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "losses": self.losses,
        }
        self.checkpoints.save(state)

    def fit(
        self,
        losses_at: Callable[[int], dict[str, Tensor]],  # of a step; their sum is minimised
        on_checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        """Train to the last step; a stop at any time loses at most `checkpoint_seconds`."""
        settings = self.settings
        logged = saved = time.perf_counter()
        logged_step = self.step
        while self.step < settings.steps:
            self._one_step(losses_at(self.step))
            now = time.perf_counter()
            if now - logged > settings.log_seconds or self.step == settings.steps:
                seconds = (now - logged) / max(1, self.step - logged_step)
                values = " ".join(f"{name} {value:.4f}" for name, value in self.losses.items())
                log.info("step %d/%d %.3f s/step %s", self.step, settings.steps, seconds, values)
                logged, logged_step = now, self.step
            if now - saved > settings.checkpoint_seconds or self.step == settings.steps:
                self.checkpoint()
                on_checkpoint()
                saved = time.perf_counter()

    def _one_step(self, losses: dict[str, Tensor]) -> None:
        settings = self.settings
        factor = rate_factor(self.step, settings.steps, settings.warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor * group.get("scale", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        total = reduce(add, losses.values())
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.networks.parameters(), settings.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            log.warning("step %d skipped: gradient is not finite", self.step)
        update_average(self.average, self.networks, self.step)
        for name, loss in losses.items():
            recent = self.losses.get(name, loss.item())
            self.losses[name] = 0.98 * recent + 0.02 * loss.item()
        self.step += 1
