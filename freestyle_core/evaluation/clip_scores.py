"""The CLIP scores of an evaluation; the arithmetic is in `metrics/clip.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from ..metrics.clip import (
    clip_consistency,
    clip_direction,
    clip_gain,
    clip_identity,
    clip_min_pair,
    clip_text,
)


class Encoder(Protocol):
    """What the CLIP scores ask of a network; `models.clip.Clip` is one."""

    name: str

    def encode_images(self, images: Tensor) -> Tensor:  # [N,3,H,W] in [-1,1]
        """Return features [N,D] of length one."""

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return features [M,D] of length one."""


def clip_scores(
    clip: Encoder,
    images: Sequence[Tensor | None],  # held-out views and path, the same of the original
    texts: tuple[str, str] | None,  # of a styled and an unstyled head
    scores: dict[str, float],  # gets what could be measured
    missing: dict[str, str],  # gets what could not
) -> None:
    """Add clip_text, clip_gain, clip_direction, clip_consistency, clip_min_pair and identity."""
    held, path, before, before_path = (
        None if view is None else clip.encode_images(view * 2 - 1) for view in images
    )
    assert held is not None and path is not None  # the portrait itself is always rendered
    scores["clip_min_pair"] = clip_min_pair(path)[0]
    if before is not None and before_path is not None:
        scores["clip_consistency"] = clip_consistency(path, before_path)
        scores["identity"] = clip_identity(held, before)
    else:
        missing["clip_consistency"] = missing["identity"] = "no original was given"
    if texts is None:
        missing["clip_text"] = "no prompt was given, and the portrait names none"
        return
    text, neutral = clip.encode_texts(list(texts)).split(1)
    scores["clip_text"] = clip_text(held, text)
    if before is None:
        missing["clip_gain"] = missing["clip_direction"] = "no original was given"
        return
    scores["clip_gain"] = clip_gain(held, before, text)
    scores["clip_direction"] = clip_direction(held, before, text, neutral)
