"""How to fine-tune: the numbers of paper section 4.1, and the choice of what is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from .. import seeds
from ..checks import check_numbers
from ..errors import InputError
from ..models.config import EG3DConfig
from .render import RenderSettings, ResolvedSettings

Train = Literal["i2t", "planes", "both", "modulation"]  # see sources.py
NEED_I2T: tuple[Train, ...] = ("i2t", "both")  # what trains an I2T network


@dataclass(frozen=True)
class FinetuneSettings:
    """How to fine-tune. Optimiser and loss weights are the paper's (section 4.1).

    Batch size 1, measured on the clay EG3D (17 views of another identity, from the mean head, a
    quarter of the rays): 60 steps of one view took held-out views from 14.6 to 33.3 dB in 16 s of
    one core, 30 steps of two views to 27.3 dB in 12 s. A step of full size is 0.7 s of one core.

    `seed` decides every random number. On a CPU the same inputs and settings give the same portrait
    bit by bit where the number of threads, the kind of processor and the version of PyTorch are the
    same. Another number of threads adds in another order, which the large first steps turn into
    another way to as good a portrait, as far off as another seed's (17 views, 80 steps: 29.0 dB
    between 1 and 2 threads, 29.3 dB between two seeds, each 22.0 to 22.2 dB from its views; with an
    eps of 1e-6 or 1e-4 or a warm-up of 10 steps 30.3 to 31.4 and 28.4 to 30.3 dB, no real gain). On
    a GPU some sums have no fixed order at all.
    """

    train: Train = "planes"
    iterations: int = 150  # the paper's network needs 450
    batch_size: int = 1  # views per step; several sets take turns
    learning_rate: float = 0.002
    betas: tuple[float, float] = (0.0, 0.99)
    lambda_rec: float = 10.0
    lambda_dr: float = 0.2
    delta_std: float = 0.004  # of delta in eq. 6, relative to the distance from the box centre
    density_points: int = 8192  # per view, drawn from the sample points of the rendering
    sample_share: float = 0.5  # of the samples per ray that `render` says; 1 for the paper
    # no samples where the head was before; a tenth faster, but styles grow beyond it only slowly
    # (Hulk: 0.3 dB worse)
    skip_empty: bool = False
    # views that do not fit the others are taken less often; see method/audit.py
    robust: bool = False
    residual_gains: tuple[float, ...] = (8.0,) * 5  # of the levels, the finest first
    residual_smooth: float = 0.0  # weight of squared steps between neighbours, finest level
    fade: float = 0.7  # share of the iterations at the end in which the learning rate falls
    seed: int = 0
    preview_every: int = 10  # steps; 0 for no preview
    budget_s: float = 0.0  # seconds for as many of the iterations as fit; 0 for all of them
    render: RenderSettings = field(default_factory=RenderSettings)

    def __post_init__(self) -> None:
        check_numbers(self)
        seeds.check_seed(self.seed)
        if self.train not in get_args(Train):
            raise InputError(
                f"train must be one of {', '.join(get_args(Train))}, got {self.train!r}"
            )
        for name in ("iterations", "batch_size", "density_points"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in (
            "lambda_rec",
            "lambda_dr",
            "delta_std",
            "preview_every",
            "residual_smooth",
            "budget_s",
        ):
            if getattr(self, name) < 0:
                raise InputError(f"{name} cannot be negative, got {getattr(self, name)}")
        if not 0 < self.sample_share <= 1:
            raise InputError(f"sample_share must be above 0 and at most 1, got {self.sample_share}")
        if not self.residual_gains or not all(gain > 0 for gain in self.residual_gains):
            raise InputError(f"residual_gains must be positive numbers, got {self.residual_gains}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas must be two numbers from 0 to below 1, got {self.betas}")
        if not 0 < self.learning_rate < 1 or not 0 <= self.fade <= 1:
            raise InputError(
                f"learning_rate must lie between 0 and 1 and fade from 0 to 1, got "
                f"{self.learning_rate} and {self.fade}"
            )

    def sizes(self, config: EG3DConfig) -> ResolvedSettings:
        """Return how finely the views of a step are rendered."""
        whole = self.render.resolved(config)
        depth = max(4, round(self.sample_share * whole.depth_samples))
        fine = math.ceil(self.sample_share * whole.importance_samples - 1e-9)
        return replace(
            whole, depth_samples=min(depth, whole.depth_samples), importance_samples=fine
        )

    def rate(self, step: int, total: int | None = None) -> float:
        """Return the learning rate of a step: constant, then falling linearly to a tenth.

        `total` steps are made; None: as many as there are iterations.
        """
        total = self.iterations if total is None else total
        start = total * (1 - self.fade)
        if step < start:
            return self.learning_rate
        return self.learning_rate * (1 - 0.9 * (step - start) / max(total - start, 1))
