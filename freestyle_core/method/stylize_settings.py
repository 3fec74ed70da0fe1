"""How to edit views: the numbers of paper section 4.1, and what is left to the editor."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from .. import seeds
from ..checks import check_numbers
from ..errors import InputError
from ..models.editor import PAPER_STEPS, ImageEditor

# settings that are part of the words, that an editor may bring, or that change nothing
_SAID_ELSEWHERE = frozenset(
    {"template", "decorative", "negative", "image_guidance", "text_guidance", "batch_size"}
)
Noise = Literal["screen", "surface"]
Reference = Literal["none", "front"]


@dataclass(frozen=True)
class StylizeSettings:
    """How to edit. The defaults are the paper's (4.1), but for `batch_size`.

    Memory grows with `batch_size` (each view runs through the U-Net three times per step); the
    result does not depend on it. The last three leave out work and change the result a little; as
    they stand, they leave out nothing.
    """

    template: str = "turn the head into {style}, {decorative}"
    decorative: str = "realistic, detail, 8k, photorealistic"  # t_d
    negative: str = "unclear facial features, non-face objects, ugly, bad"  # t_n
    tau: float = 0.9  # in (0,1]; 1 starts from noise alone
    # of the whole schedule, of which round(tau * steps) run; None: what suits the editor, the
    # paper's 20
    steps: int | None = None
    image_guidance: float | None = None  # s_I; None: what suits the editor, the paper's 1.5
    text_guidance: float | None = None  # s_T; None: what suits the editor, the paper's 20
    seed: int = 0  # of the noise n
    # where n is fixed: the same in every picture, or on the head, so that views have the same noise
    # where they see the same point (`geometry.surface_noise`); docs/editing.md has both measured
    noise: Noise = "screen"
    # what views see besides themselves while they are edited: nothing, or the first of them, which
    # is the front view
    reference: Reference = "none"
    batch_size: int = 16  # views edited together
    # the share of the steps, from first to last, that are guided; outside it e(I, positive) alone
    # is computed, a third of the work
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    # guided steps in a row that share the image's pull, e(I, negative) - e(no image, negative)
    reuse_unconditional: int = 1
    reuse_features: int = 1  # steps in a row that share the features deep in the U-Net

    def __post_init__(self) -> None:
        check_numbers(self)
        seeds.check_seed(self.seed)
        if not 0 < self.tau <= 1:
            raise InputError(f"tau must be above 0 and at most 1, got {self.tau}; try 0.9")
        for name in ("steps", "batch_size", "reuse_unconditional", "reuse_features"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if len(self.guidance_interval) != 2 or not (
            0 <= self.guidance_interval[0] <= self.guidance_interval[1] <= 1
        ):
            raise InputError(
                "guidance_interval must be two shares of the steps, from 0 to 1 and rising, got "
                f"{self.guidance_interval}; (0, 1) guides all steps"
            )
        if self.noise not in get_args(Noise):
            raise InputError(f"noise must be screen or surface, got {self.noise!r}")
        if self.reference not in get_args(Reference):
            raise InputError(f"reference must be none or front, got {self.reference!r}")
        if "{style}" not in self.template:
            raise InputError(f"template must contain {{style}}, got {self.template!r}")

    def prompt(self, style: str) -> str:
        """Return the positive prompt of a style."""
        if not style.strip():
            raise InputError("the style is empty; say what to turn the head into, as in 'an elf'")
        filled = self.template.replace("{decorative}", self.decorative.strip())
        return filled.replace("{style}", style.strip()).strip().strip(",").strip()

    def scales(self, own: tuple[float, float]) -> tuple[float, float]:
        """Return s_I and s_T as they are used by an editor with scales of its own."""
        image, text = self.image_guidance, self.text_guidance
        return own[0] if image is None else image, own[1] if text is None else text

    def suited(self, editor: ImageEditor) -> StylizeSettings:
        """Return the settings as this editor can follow them, with its own number of steps where
        none was chosen.
        """
        steps = editor.steps if self.steps is None else self.steps
        reference = self.reference if editor.takes_reference else "none"
        return replace(self, steps=steps, reference=reference)

    def shares_front(self, views: int) -> bool:
        """Return whether so many views see the front one; one alone has only itself to see."""
        return self.reference == "front" and views > 1

    def count(self) -> int:
        """Return how many steps the whole schedule has; `suited` has seen to it that it is known.

        Without an editor it is the paper's number.
        """
        return PAPER_STEPS if self.steps is None else self.steps

    def decides(self, own: tuple[float, float]) -> dict[str, Any]:
        """Return all that decides an edit besides its words, as plain values by name.

        A new setting is among them by itself. Two edits of equal values and words are equal.
        """
        rest = {name: x for name, x in asdict(self).items() if name not in _SAID_ELSEWHERE}
        if self.noise == "screen":  # as it was before there was a choice: kept edits are found
            del rest["noise"]
        if self.reference == "none":  # the same
            del rest["reference"]
        return {**rest, "guidance": list(self.scales(own))}
