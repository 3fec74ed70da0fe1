"""What a world that knows the truth tells the matrix. The clay models have one, photographs none.

It is handed in from above (`clay/truth.py`), for nothing here may know the world of some models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from ..models.eg3d import EG3D
from ..types import CameraBatch, Renderer

Truth = Callable[[CameraBatch], Tensor]  # V cameras -> the true views [V,3,H,W] in [0,1]


class World(Protocol):
    """Styles by name, heads that no model was trained on, and what both together look like."""

    @property
    def name(self) -> str:
        """Return what protocols call it; another way to draw needs another name."""

    @property
    def styles(self) -> Sequence[str]:
        """Return the names of the styles, those that are measured first at the front."""

    @property
    def first_seed(self) -> int:
        """Return the first of the heads that no model was trained on."""

    def fits(self, eg3d: EG3D | Renderer) -> bool:
        """Return whether the heads of this generator, or of this part, are those of the world."""

    def prompt(self, style: str) -> str:
        """Return the words of a style; raises InputError for a name that there is not."""

    def style_of(self, words: str) -> str | None:
        """Return the style that words stand for, None where they stand for none."""

    def truth(self, style: str, seed: int) -> Truth:
        """Return what shows the head of a seed in a style from every side."""
