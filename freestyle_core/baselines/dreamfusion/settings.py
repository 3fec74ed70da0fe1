"""The numbers of a distillation. The defaults are those of the released code (`FAITHFUL`)."""

from __future__ import annotations

from dataclasses import dataclass

from ... import seeds
from ...checks import check_numbers
from ...errors import InputError
from ...models.text_to_image import Suits
from ...types import CameraRig
from .cameras import PUBLISHED_VIEWS, ViewRanges, generator_views


@dataclass(frozen=True)
class DreamFusionSettings:
    """How to distil. Lengths are in field units (half the side of the field's box is 1)."""

    iterations: int = 10_000
    learning_rate: float = 5e-3
    plane_rate: float = 10.0  # how many times as fast the planes learn
    betas: tuple[float, float, float] = (0.98, 0.92, 0.99)
    weight_decay: float = 2e-5
    max_norm: float = 5.0  # of the whole gradient
    average: float = 0.95  # of the weights, kept at every step
    guidance: float | None = None  # None: what suits the teacher, the published 100
    lambda_entropy: float = 1e-3
    lambda_orientation: float = 1e-2
    latent_share: float = 0.2  # of the iterations, at the beginning: see `fit`
    textureless: float = 0.2  # chance of it after that; otherwise lambertian
    least_ambient: float = 0.1
    own_background: float = 0.5  # chance of the field's own background; otherwise one colour
    views: ViewRanges | None = None  # None: what suits the teacher, the published ones
    resolution: int = 64  # pixels a side that are rendered in a step, then enlarged
    samples: int = 128  # a ray
    channels: int = 32  # of a plane
    plane_resolutions: tuple[int, ...] = (64, 128, 256)
    hidden: int = 64  # width of the network
    layers: int = 3  # of the network
    seed: int = 0
    preview_every: int = 50  # steps; 0 for none

    def __post_init__(self) -> None:
        check_numbers(self)
        seeds.check_seed(self.seed)
        for name in ("iterations", "resolution", "samples", "channels", "hidden", "layers"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lambda_entropy", "lambda_orientation", "weight_decay", "preview_every"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} cannot be negative, got {getattr(self, name)}")
        for name in ("latent_share", "textureless", "least_ambient", "own_background", "average"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie from 0 to 1, got {getattr(self, name)}")
        sides = self.plane_resolutions
        if not sides or min(sides) < 2 or list(sides) != sorted(sides):
            raise InputError(f"plane_resolutions must be rising numbers from 2, got {sides}")
        if not self.learning_rate > 0 or not self.plane_rate > 0:
            raise InputError(
                "learning_rate and plane_rate must be above 0, got "
                f"{self.learning_rate} and {self.plane_rate}"
            )

    def scale(self, suits: Suits) -> float:
        """Return the scale of the guidance for a teacher."""
        return suits.guidance if self.guidance is None else self.guidance

    def ranges(self, suits: Suits, rig: CameraRig) -> ViewRanges:
        """Return where training cameras stand for a teacher, with the generator's rig."""
        if self.views is not None:
            return self.views
        return PUBLISHED_VIEWS if suits.views is None else generator_views(rig, suits.views)


FAITHFUL = DreamFusionSettings()
LITE = DreamFusionSettings(
    iterations=2000,
    plane_rate=2.0,  # at 10 so small a field gets cracks and holes that stay
    resolution=48,
    samples=64,
    channels=16,
    plane_resolutions=(16, 32, 64),  # a texel is not much finer than a ray
    hidden=32,
    layers=2,
)
