"""Style mixing (paper Fig. 6): portraits between two stylised portraits.

Where both portraits belong to one jointly fine-tuned network, only the codes w_s are interpolated,
as in the paper. Where each has its own network, fine-tuned from the same pre-trained parent, the
weights are interpolated along with the codes. Amount 0 is the first portrait, 1 the second.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, MismatchError
from ..types import Network, PlaneNetwork, Portrait, StyleCode, Triplane


@torch.no_grad()
def mix_portraits(a: Portrait, b: Portrait, amount: float) -> Portrait:
    """Return the portrait that is `amount` (0 to 1) of the way from a to b."""
    if not 0 <= amount <= 1:
        raise InputError(f"the mixing amount must lie between 0 and 1, got {amount}")
    style_a, style_b = _mixable(a, b)
    w_s = _between(style_a.w_s, style_b.w_s, amount)
    network = _mixed_network(style_a.network, style_b.network, amount)
    triplane = Triplane(network.decode(w_s), a.triplane.box_size)
    provenance = {"mix": [a.provenance, b.provenance], "amount": amount}
    licences = [p.provenance["licence"] for p in (a, b) if "licence" in p.provenance]
    if licences:
        provenance["licence"] = licences[0]
    style = StyleCode(w_s, network, style_a.parent)
    return Portrait(a.renderer, triplane, _between(a.w, b.w, amount), style, provenance)


def mix_sweep(a: Portrait, b: Portrait, steps: int) -> list[Portrait]:
    """Return `steps` portraits evenly spread from a to b, both ends included."""
    if steps < 2:
        raise InputError(f"a mixing sweep needs at least 2 steps, both ends, got {steps}")
    return [mix_portraits(a, b, i / (steps - 1)) for i in range(steps)]


def _mixable(a: Portrait, b: Portrait) -> tuple[StyleCode, StyleCode]:
    if a.style is None or b.style is None:
        which = "first" if a.style is None else "second"
        raise MismatchError(
            f"the {which} portrait has no style code, so there is nothing to mix; fine-tune I2T on "
            "an edited few-shot set of it first"
        )
    if a.style.parent != b.style.parent:
        raise MismatchError(
            "the two styles were fine-tuned from different pre-trained I2T networks "
            f"({a.style.parent[:12]} and {b.style.parent[:12]}), whose weights cannot be mixed; "
            "fine-tune both from the same one"
        )
    if not same_weights(a.renderer, b.renderer):
        raise MismatchError(
            "the two portraits are rendered by different EG3D generators; make both with the same"
        )
    if a.style.w_s.shape != b.style.w_s.shape or a.w.shape != b.w.shape:
        raise MismatchError(
            f"the codes have different shapes, {tuple(a.style.w_s.shape)} and "
            f"{tuple(b.style.w_s.shape)}; mix portraits one at a time"
        )
    return a.style, b.style


def _mixed_network(a: PlaneNetwork, b: PlaneNetwork, amount: float) -> PlaneNetwork:
    if same_weights(a, b):
        return a
    mixed: Any = copy.deepcopy(a)
    ours, theirs = a.state_dict(), b.state_dict()
    mixed.load_state_dict(
        {
            name: _between(value, theirs[name], amount) if value.is_floating_point() else value
            for name, value in ours.items()
        }
    )
    return mixed


def same_weights(a: Network, b: Network) -> bool:
    """Return whether two networks have the same weights, bit by bit."""
    if a is b:
        return True
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(
        value.shape == theirs[name].shape and torch.equal(value, theirs[name].to(value.device))
        for name, value in ours.items()
    )


def _between(a: Tensor, b: Tensor, amount: float) -> Tensor:
    # exact at both ends, so amount 0 and 1 reproduce the portraits bit by bit
    return a * (1 - amount) + b.to(a) * amount
