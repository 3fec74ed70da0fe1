"""The rivals as rows of the matrix: what each is called, follows and is set to. Read `RIVALS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from .methods import Method


@dataclass(frozen=True)
class Rival:
    """One method of `baselines/`."""

    fit: Callable[..., Any]  # (reference, prompt, models, settings, progress) -> its result
    published: Any  # its settings as published
    lite: Any  # for few cores and the embedded models
    follows_picture: bool = True  # the edited front view; otherwise the words alone


RIVALS: dict[str, Rival] = {}


def rival_settings(method: Method, seed: int) -> Any:
    """Return the settings with which a rival makes a head."""
    rival = RIVALS[method.runner]
    return replace(rival.lite if method.lite else rival.published, seed=seed, preview_every=0)


def rival_record(method: Method, seed: int) -> Mapping[str, Any] | None:
    """Return those settings as plain values, None for a method that is no rival."""
    if method.runner not in RIVALS:
        return None
    return asdict(rival_settings(method, seed))
