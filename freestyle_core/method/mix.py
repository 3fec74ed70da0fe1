"""Style mixing (paper Fig. 6): what lies between two portraits of one generator.

There are two spaces to mix in. "codes" is the paper's: where both portraits belong to one jointly
fine-tuned network, only the codes w_s are interpolated; where each has its own, fine-tuned from the
same parent, the weights are interpolated along with the codes; what a style adds to its network's
planes (`StyleCode.residual`) is interpolated, too, and counts as zero where there is none. "planes"
takes any two portraits, with a network or without, restyled or as they were sampled: their planes
are interpolated, and the result has no style code. w is interpolated in both. Amount 0 is the first
portrait, 1 the second, bit by bit.

`docs/mixing.md` shows both. Read `mix_portraits`; `mix_frames` is the same for many pictures.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError, MismatchError
from ..types import Network, PlaneNetwork, Portrait, StyleCode, Triplane

MixSpace = Literal["auto", "codes", "planes"]
MIX_SPACES: tuple[MixSpace, ...] = get_args(MixSpace)


@torch.no_grad()
def mix_portraits(a: Portrait, b: Portrait, amount: float, *, space: MixSpace = "auto") -> Portrait:
    """Return the portrait that is `amount` (0 to 1) of the way from a to b.

    `space` auto mixes codes where both portraits have them from one parent, else planes.
    Raises MismatchError for portraits of different generators, and for "codes" without them.
    """
    _check_amount(amount)
    return _mixed(a, b, amount, _mixable_codes(a, b, space))


@torch.no_grad()
def mix_sweep(a: Portrait, b: Portrait, steps: int, *, space: MixSpace = "auto") -> list[Portrait]:
    """Return `steps` portraits evenly spread from a to b, both ends included."""
    amounts, codes = even_amounts(steps), _mixable_codes(a, b, space)
    return [_mixed(a, b, amount, codes) for amount in amounts]


@torch.no_grad()
def mix_frames(
    a: Portrait, b: Portrait, amounts: Sequence[float], *, space: MixSpace = "auto"
) -> Iterator[Portrait]:
    """Yield what `mix_portraits` makes of each amount, to be rendered: without a style code.

    Whether the two fit is looked at once, and two networks are mixed in one copy for all.
    """
    for amount in amounts:
        _check_amount(amount)
    codes = _mixable_codes(a, b, space)
    one = codes is None or same_weights(codes[0].network, codes[1].network)
    scratch = None if codes is None or one else copy.deepcopy(codes[0].network)
    for amount in amounts:
        planes = None
        if codes is not None and amount not in (0, 1):
            if scratch is not None:
                _set_between(scratch, codes[0].network, codes[1].network, amount)
            network = codes[0].network if scratch is None else scratch
            planes = _mixed_code(*codes, amount, network).planes()
        yield _portrait(a, b, amount, planes, None, codes is not None)


def even_amounts(steps: int) -> list[float]:
    """Return `steps` amounts evenly spread from 0 to 1, both included."""
    if steps < 2:
        raise InputError(f"a mixing sweep needs at least 2 steps, both ends, got {steps}")
    return [i / (steps - 1) for i in range(steps)]


def _mixable_codes(a: Portrait, b: Portrait, space: MixSpace) -> tuple[StyleCode, StyleCode] | None:
    """Return the codes to mix, None to mix planes; raise unless the two can be mixed as asked."""
    if space not in MIX_SPACES:
        raise InputError(f"space must be one of {', '.join(MIX_SPACES)}, got {space!r}")
    same_box = a.triplane.box_size == b.triplane.box_size
    if not (same_box and same_weights(a.renderer, b.renderer)):
        raise MismatchError(
            "the two portraits are rendered by different EG3D generators; make both with the same"
        )
    ours, theirs = (tuple(p.triplane.planes.shape) for p in (a, b))
    if ours != theirs or a.w.shape != b.w.shape:
        raise MismatchError(
            f"the planes have different shapes, {ours} and {theirs}; mix portraits one at a time"
        )
    if space == "planes":
        return None
    codes = _codes(a, b)
    if not isinstance(codes, str):
        return codes
    if space == "codes":
        raise MismatchError(f"{codes}, or mix their planes (space planes or auto)")
    return None


def _codes(a: Portrait, b: Portrait) -> tuple[StyleCode, StyleCode] | str:
    """Return the codes of the two portraits, or why they cannot be mixed and what would help."""
    if a.style is None or b.style is None:
        which = "first" if a.style is None else "second"
        return (
            f"the {which} portrait has no style code, so there are no two codes to mix; fine-tune "
            "an I2T on an edited few-shot set of it"
        )
    same_kind = _shapes(a.style.network) == _shapes(b.style.network)
    if a.style.parent != b.style.parent or not same_kind:
        return (
            "the two styles were fine-tuned from different pre-trained I2T networks "
            f"({a.style.parent[:12]} and {b.style.parent[:12]}), whose weights cannot be mixed; "
            "fine-tune both from the same one"
        )
    if a.style.w_s.shape != b.style.w_s.shape:
        return (
            f"the codes have different shapes, {tuple(a.style.w_s.shape)} and "
            f"{tuple(b.style.w_s.shape)}; mix portraits one at a time"
        )
    return a.style, b.style


def _mixed(
    a: Portrait, b: Portrait, amount: float, codes: tuple[StyleCode, StyleCode] | None
) -> Portrait:
    if codes is None:
        return _portrait(a, b, amount, None, None, False)
    network = _mixed_network(codes[0].network, codes[1].network, amount)
    style = _mixed_code(*codes, amount, network)
    planes = None if amount in (0, 1) else style.planes()
    return _portrait(a, b, amount, planes, style, True)


def _portrait(
    a: Portrait,
    b: Portrait,
    amount: float,
    planes: Tensor | None,  # None: what lies between theirs; at the ends theirs, whatever made them
    style: StyleCode | None,
    by_codes: bool,
) -> Portrait:
    if planes is None:
        planes = _between(a.triplane.planes, b.triplane.planes, amount)
    provenance = {
        "mix": [a.provenance, b.provenance],
        "amount": amount,
        "space": "codes" if by_codes else "planes",
    }
    licences = [p.provenance["licence"] for p in (a, b) if "licence" in p.provenance]
    if licences:
        provenance["licence"] = licences[0]
    triplane = Triplane(planes, a.triplane.box_size)
    return Portrait(a.renderer, triplane, _between(a.w, b.w, amount), style, provenance)


def _mixed_code(a: StyleCode, b: StyleCode, amount: float, network: PlaneNetwork) -> StyleCode:
    w_s = _between(a.w_s, b.w_s, amount)
    return replace(a, w_s=w_s, network=network, residual=_mixed_residual(a, b, amount))


def _mixed_residual(a: StyleCode, b: StyleCode, amount: float) -> Tensor | None:
    ours, theirs = a.residual, b.residual
    if theirs is None:
        return None if ours is None or amount == 1 else ours * (1 - amount)
    if ours is None:
        return None if amount == 0 else theirs.to(a.w_s) * amount
    return _between(ours, theirs, amount)


def _mixed_network(a: PlaneNetwork, b: PlaneNetwork, amount: float) -> PlaneNetwork:
    if same_weights(a, b):
        return a
    mixed = copy.deepcopy(a)
    _set_between(mixed, a, b, amount)
    return mixed


def _set_between(target: Network, a: Network, b: Network, amount: float) -> None:
    """Set the weights of `target`, a copy of a, to what lies between a and b."""
    ours, theirs = a.state_dict(), b.state_dict()
    for name, value in target.state_dict().items():
        if value.is_floating_point():
            value.copy_(_between(ours[name], theirs[name], amount))


def same_weights(a: Network, b: Network) -> bool:
    """Return whether two networks have the same weights, bit by bit."""
    if a is b:
        return True
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(
        value.shape == theirs[name].shape and torch.equal(value, theirs[name].to(value.device))
        for name, value in ours.items()
    )


def _shapes(network: Network) -> dict[str, Any]:
    return {name: value.shape for name, value in network.state_dict().items()}


def _between(a: Tensor, b: Tensor, amount: float) -> Tensor:
    # exact at both ends, so amount 0 and 1 reproduce the portraits bit by bit
    return a * (1 - amount) + b.to(a) * amount


def _check_amount(amount: float) -> None:
    if not 0 <= amount <= 1:
        raise InputError(f"the mixing amount must lie between 0 and 1, got {amount}")
