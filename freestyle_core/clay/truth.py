"""The procedural world as the matrix and the evaluation know it: styles, heads, true views.

`WORLD` is handed to commands of the command line by `freestyle_core/__main__.py`; nothing below
`clay` may import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..errors import InputError
from ..files.networks import EMBEDDED
from ..models.eg3d import EG3D
from ..types import CameraBatch, Renderer
from .data.shards import RESOLUTION
from .draw import draw, styled_head
from .evaluate import FIRST_SEED, PIPELINE_STYLES, code_of_seed
from .styles.captions import HELD_OUT, WORDINGS, canonical
from .styles.catalogue import STYLES

# one that changes colours, one that changes the material, one the shape, then the others
_FIRST = ("zombie", "bronze statue", "elf", "robot", "clown", "Na'vi")
_WORDS = {
    wording.lower(): name
    for wordings in (HELD_OUT, WORDINGS)  # where both have one, training's goes before
    for name, own in wordings.items()
    for wording in own
}


@dataclass(frozen=True)
class ClayWorld:
    """See `evaluation.world.World`."""

    name: str = "clay 1"  # raise the number when heads or styles are drawn differently
    first_seed: int = FIRST_SEED

    @property
    def styles(self) -> tuple[str, ...]:
        """Return all styles, those of the short matrix first."""
        first = [*_FIRST, *(name for name in PIPELINE_STYLES if name not in _FIRST)]
        return (*first, *(name for name in STYLES if name not in first))

    def fits(self, eg3d: EG3D | Renderer) -> bool:
        """Return whether a generator, or this part of one, is of the clay family."""
        return eg3d.config.name == EMBEDDED and eg3d.config.image_resolution == RESOLUTION

    def prompt(self, style: str) -> str:
        """Return the usual words of a style."""
        if style not in STYLES:
            raise InputError(f"there is no style {style!r}; choose from {', '.join(STYLES)}")
        return canonical(style)

    def style_of(self, words: str) -> str | None:
        """Return the style that has these words among its wordings, in small or capital letters."""
        return _WORDS.get(" ".join(words.lower().split()))

    def truth(self, style: str, seed: int) -> partial[Tensor]:
        """Return what draws the head of a seed in a style; psi is 1."""
        self.prompt(style)
        return partial(_drawn, style, seed)


WORLD = ClayWorld()


@torch.no_grad()
def _drawn(style: str, seed: int, cameras: CameraBatch) -> Tensor:
    head = styled_head(code_of_seed(seed), STYLES[style])
    return draw(head, cameras, RESOLUTION)[0]
