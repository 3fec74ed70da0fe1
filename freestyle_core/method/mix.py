"""Style mixing (paper Fig. 6): what lies between two to four portraits of one generator.

There are two spaces to mix in. "codes" is the paper's: where both portraits belong to one jointly
fine-tuned network, only the codes w_s are interpolated; where each has its own, fine-tuned from the
same parent, the weights are interpolated along with the codes; what a style adds to its network's
planes (`StyleCode.residual`) is interpolated, too, and counts as zero where there is none. "planes"
takes any two portraits, with a network or without, restyled or as they were sampled: their planes
are interpolated, and the result has no style code. w is interpolated in both. Amount 0 is the first
portrait, 1 the second, bit by bit. With an `Area` (`areas.py`) all this happens only in a part of
the head (`blends.py`), and the first portrait is left as it is everywhere else.

`docs/mixing.md` shows all. Read `mix_portraits`; `mix_many` is the same for more than two, and
`mix_frames` and `many_frames` are for many pictures.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import InputError, MismatchError
from ..types import Network, PlaneNetwork, Portrait, StyleCode, Triplane
from .areas import Area
from .blends import between, mixed_triplane, within_area

MixSpace = Literal["auto", "codes", "planes"]
MIX_SPACES: tuple[MixSpace, ...] = get_args(MixSpace)
MOST_MIXED = 4  # portraits in one mix
WEIGHT_SLACK = 1e-3  # by which the sum of given weights may miss 1
ORDINALS = ("first", "second", "third", "fourth")


@torch.no_grad()
def mix_portraits(
    a: Portrait,
    b: Portrait,
    amount: float,
    *,
    space: MixSpace = "auto",
    area: Area | None = None,
) -> Portrait:
    """Return the portrait that is `amount` (0 to 1) of the way from a to b.

    `space` auto mixes codes where both portraits have them from one parent, else planes. With an
    `area` it is that only there, and a everywhere else.
    Raises MismatchError for portraits of different generators, and for "codes" without them.
    """
    _check_amount(amount)
    shares = (1 - amount, amount)
    return _mixed((a, b), shares, _mixable_codes((a, b), space), area, amount)


@torch.no_grad()
def mix_many(
    portraits: Sequence[Portrait],
    weights: Sequence[float],  # one each, none below 0, 1 together
    *,
    space: MixSpace = "auto",
    area: Area | None = None,
) -> Portrait:
    """Return what lies between two to four portraits; a weight of 1 gives that portrait back.

    With an `area` it is that only there, and the first portrait everywhere else.
    """
    _check_count(portraits)
    shares = checked_weights(weights, len(portraits))
    return _mixed(portraits, shares, _mixable_codes(portraits, space), area, None)


@torch.no_grad()
def mix_sweep(a: Portrait, b: Portrait, steps: int, *, space: MixSpace = "auto") -> list[Portrait]:
    """Return `steps` portraits evenly spread from a to b, both ends included."""
    amounts, codes = even_amounts(steps), _mixable_codes((a, b), space)
    return [_mixed((a, b), (1 - amount, amount), codes, None, amount) for amount in amounts]


def mix_frames(
    a: Portrait,
    b: Portrait,
    amounts: Sequence[float],
    *,
    space: MixSpace = "auto",
    area: Area | None = None,
) -> Iterator[Portrait]:
    """Yield what `mix_portraits` makes of each amount, to be rendered: without a style code.

    Whether the two fit is looked at once, and two networks are mixed in one copy for all.
    """
    for amount in amounts:
        _check_amount(amount)
    return _frames((a, b), [(1 - t, t) for t in amounts], amounts, space, area)


def many_frames(
    portraits: Sequence[Portrait],
    weights: Sequence[Sequence[float]],  # of each frame, as in `mix_many`
    *,
    space: MixSpace = "auto",
    area: Area | None = None,
) -> Iterator[Portrait]:
    """Yield what `mix_many` makes of each frame's weights, as `mix_frames` does of two."""
    _check_count(portraits)
    shares = [checked_weights(row, len(portraits)) for row in weights]
    return _frames(portraits, shares, [None] * len(shares), space, area)


@torch.no_grad()
def _frames(
    portraits: Sequence[Portrait],
    shares: Sequence[Sequence[float]],
    amounts: Sequence[float | None],  # of a mix of two, for its history
    space: MixSpace,
    area: Area | None,
) -> Iterator[Portrait]:
    codes = _mixable_codes(portraits, space)
    networks = [] if codes is None else [code.network for code in codes]
    one = codes is None or _all_same(networks)
    scratch = None if codes is None or one else copy.deepcopy(networks[0])
    for row, amount in zip(shares, amounts, strict=True):
        planes = None
        if codes is not None and 1 not in row:
            if scratch is not None:
                _set_between(scratch, networks, row)
            network = networks[0] if scratch is None else scratch
            planes = _mixed_code(codes, row, network).planes()
        yield _portrait(portraits, row, planes, None, codes is not None, area, amount)


def even_amounts(steps: int) -> list[float]:
    """Return `steps` amounts evenly spread from 0 to 1, both included."""
    if steps < 2:
        raise InputError(f"a mixing sweep needs at least 2 steps, both ends, got {steps}")
    return [i / (steps - 1) for i in range(steps)]


def checked_weights(weights: Sequence[float], count: int) -> tuple[float, ...]:
    """Return the weights of `count` portraits; raise unless they share out one whole."""
    given = ", ".join(f"{weight:g}" for weight in weights)
    if len(weights) != count:
        raise InputError(f"{count} portraits need as many weights, got {len(weights)}: {given}")
    if not all(0 <= weight <= 1 for weight in weights):
        raise InputError(f"weights must be from 0 to 1, got {given}")
    total = math.fsum(weights)
    if abs(total - 1) > WEIGHT_SLACK:
        raise InputError(f"weights must be 1 together, got {given}, which is {total:g}")
    return tuple(weights) if total == 1 else tuple(weight / total for weight in weights)


def _check_count(portraits: Sequence[Portrait]) -> None:
    if not 2 <= len(portraits) <= MOST_MIXED:
        raise InputError(f"a mix is of 2 to {MOST_MIXED} portraits, got {len(portraits)}")


def _mixable_codes(portraits: Sequence[Portrait], space: MixSpace) -> list[StyleCode] | None:
    """Return the codes to mix, None to mix planes; raise unless all can be mixed as asked."""
    if space not in MIX_SPACES:
        raise InputError(f"space must be one of {', '.join(MIX_SPACES)}, got {space!r}")
    first = portraits[0]
    for other in portraits[1:]:
        _check_fit(first, other)
    if space == "planes":
        return None
    codes = _codes(portraits)
    if not isinstance(codes, str):
        return codes
    if space == "codes":
        raise MismatchError(f"{codes}, or mix their planes (space planes or auto)")
    return None


def _check_fit(a: Portrait, b: Portrait) -> None:
    same_box = a.triplane.box_size == b.triplane.box_size
    if not (same_box and same_weights(a.renderer, b.renderer)):
        raise MismatchError(
            "the portraits are rendered by different EG3D generators; make all with the same"
        )
    ours, theirs = (tuple(p.triplane.planes.shape) for p in (a, b))
    if ours != theirs or a.w.shape != b.w.shape:
        raise MismatchError(
            f"the planes have different shapes, {ours} and {theirs}; mix portraits one at a time"
        )


def _codes(portraits: Sequence[Portrait]) -> list[StyleCode] | str:
    """Return the codes of the portraits, or why they cannot be mixed and what would help."""
    codes = [p.style for p in portraits if p.style is not None]
    if len(codes) < len(portraits):
        which = ORDINALS[[p.style is None for p in portraits].index(True)]
        return (
            f"the {which} portrait has no style code, so there are no codes to mix; fine-tune "
            "an I2T on an edited few-shot set of it"
        )
    first = codes[0]
    for code in codes[1:]:
        if code.parent != first.parent or _shapes(code.network) != _shapes(first.network):
            return (
                "the styles were fine-tuned from different pre-trained I2T networks "
                f"({first.parent[:12]} and {code.parent[:12]}), whose weights cannot be mixed; "
                "fine-tune all from the same one"
            )
        if code.w_s.shape != first.w_s.shape:
            return (
                f"the codes have different shapes, {tuple(first.w_s.shape)} and "
                f"{tuple(code.w_s.shape)}; mix portraits one at a time"
            )
    return codes


def _mixed(
    portraits: Sequence[Portrait],
    shares: Sequence[float],
    codes: list[StyleCode] | None,
    area: Area | None,
    amount: float | None,
) -> Portrait:
    if codes is None:
        return _portrait(portraits, shares, None, None, False, area, amount)
    network = _mixed_network([code.network for code in codes], shares)
    style = _mixed_code(codes, shares, network)
    planes = None if 1 in shares else style.planes()
    return _portrait(portraits, shares, planes, style, True, area, amount)


def _portrait(
    portraits: Sequence[Portrait],
    shares: Sequence[float],
    planes: Tensor | None,  # None: what lies between theirs; at the ends theirs, whatever made them
    style: StyleCode | None,
    by_codes: bool,
    area: Area | None,
    amount: float | None,
) -> Portrait:
    first = portraits[0]
    triplane = mixed_triplane([p.triplane for p in portraits], shares)
    if planes is not None:
        triplane = Triplane(planes, first.triplane.box_size)
    provenance: dict[str, Any] = {
        "mix": [p.provenance for p in portraits],
        **({"weights": list(shares)} if amount is None else {"amount": amount}),
        "space": "codes" if by_codes else "planes",
    }
    if area is not None:
        provenance["area"] = area.name
    licences = [p.provenance["licence"] for p in portraits if "licence" in p.provenance]
    if licences:
        provenance["licence"] = licences[0]
    if area is not None:  # w, which sharpens the whole picture, stays that of the first
        triplane = within_area(first.triplane, triplane, area.weights)
        return Portrait(first.renderer, triplane, first.w, None, provenance)
    w = between([p.w for p in portraits], shares)
    return Portrait(first.renderer, triplane, w, style, provenance)


def _mixed_code(
    codes: Sequence[StyleCode], shares: Sequence[float], network: PlaneNetwork
) -> StyleCode:
    w_s = between([code.w_s for code in codes], shares)
    return replace(codes[0], w_s=w_s, network=network, residual=_mixed_residual(codes, shares))


def _mixed_residual(codes: Sequence[StyleCode], shares: Sequence[float]) -> Tensor | None:
    there = [
        (code.residual.to(codes[0].w_s), share)
        for code, share in zip(codes, shares, strict=True)
        if code.residual is not None and share
    ]
    return between([r for r, _ in there], [share for _, share in there]) if there else None


def _mixed_network(networks: Sequence[PlaneNetwork], shares: Sequence[float]) -> PlaneNetwork:
    if _all_same(networks):
        return networks[0]
    mixed = copy.deepcopy(networks[0])
    _set_between(mixed, networks, shares)
    return mixed


def _set_between(target: Network, networks: Sequence[Network], shares: Sequence[float]) -> None:
    """Set the weights of `target`, a copy of the first, to what lies between all."""
    states = [network.state_dict() for network in networks]
    for name, value in target.state_dict().items():
        if value.is_floating_point():
            value.copy_(between([state[name] for state in states], shares))


def _all_same(networks: Sequence[Network]) -> bool:
    return all(same_weights(networks[0], other) for other in networks[1:])


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


def _check_amount(amount: float) -> None:
    if not 0 <= amount <= 1:
        raise InputError(f"the mixing amount must lie between 0 and 1, got {amount}")
