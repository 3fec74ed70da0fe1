"""Apply a style pack: any head of its generator is restyled in one pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..errors import InputError, MismatchError
from ..files.bundle import weights_hash
from ..method.finetune_steps import prompts_of
from ..method.flatten import flattened
from ..types import Portrait, StylePack, Triplane

MOST = 2.0  # strength


@torch.no_grad()
def apply_style_pack(
    pack: StylePack,
    portrait: Portrait,
    strength: float = 1.0,  # 0 leaves the head as it is; above 1 overdoes the style
) -> Portrait:
    """Return the portrait restyled, without training or editor; the given one stays as it is.

    Raises MismatchError for a portrait of another generator than the pack's.
    """
    check_strength(strength)
    check_generator(portrait, pack.renderer, pack.eg3d)
    plain = flattened(portrait)
    planes, network = plain.triplane.planes, pack.network
    change: Any = network
    where = next(network.parameters())
    added = change(planes.to(where)).to(planes)
    triplane = Triplane(planes + strength * added, plain.triplane.box_size)
    provenance = _history(pack, portrait, strength)
    return replace(plain, triplane=triplane, style=None, provenance=provenance)


def check_strength(strength: float) -> None:
    """Raise unless a strength is one that a pack can be applied with."""
    if not 0 <= strength <= MOST:
        raise InputError(
            f"strength must be from 0 to {MOST:g}, got {strength}; 1 is the style as it was learnt"
        )


def check_generator(portrait: Portrait, renderer: str, eg3d: str) -> None:
    """Raise unless a portrait is of the generator with that hash of its renderer, or of its kin."""
    own = weights_hash(portrait.renderer.state_dict())
    if renderer not in (own, portrait.renderer.parent):
        raise MismatchError(
            f"the style pack belongs to EG3D {eg3d} (renderer {renderer[:12]}), but the portrait "
            f"is of {portrait.renderer.config.name} (renderer {own[:12]}); use heads of the pack's "
            "generator, or learn the style on this one"
        )


def _history(pack: StylePack, portrait: Portrait, strength: float) -> dict[str, Any]:
    before = portrait.provenance
    words = prompts_of(portrait)
    kept = {k: v for k, v in before.items() if k not in ("parent", "finetune", "perceptual")}
    said: dict[str, Any] = {
        "prompt": pack.prompt,
        "pack": {"hash": weights_hash(pack.network.state_dict()), "strength": strength},
    }
    if words:
        said["prompts"] = [*words, pack.prompt]
    return {**kept, **said}
