"""Styles: distinct from the plain head and from each other, varied on purpose, deterministic."""

import math

import pytest
import torch

from freestyle_core.clay.data.shards import cameras_at
from freestyle_core.clay.draw import draw, plain_head, styled_head
from freestyle_core.clay.heads.noise import (
    Look,
    fractal_noise,
    recolor,
    smoothstep,
    value_noise,
    veins,
)
from freestyle_core.clay.styles.catalogue import STYLES, jitter_style
from freestyle_core.clay.styles.filters import blur
from freestyle_core.clay.styles.style import Style
from freestyle_core.errors import InputError
from tests.identities import identity_code

SIZE = 40
IDENTITY = identity_code(3)
FILTERS = {"pixel art", "pencil sketch", "watercolor"}


def _picture(style: Style | None) -> torch.Tensor:
    head = plain_head(IDENTITY) if style is None else styled_head(IDENTITY, style)
    image, _, _ = draw(head, cameras_at(torch.tensor([[15.0, 5.0]])), SIZE)
    return image[0]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().mean())


@pytest.fixture(scope="module")
def pictures() -> dict[str, torch.Tensor]:
    return {name: _picture(style) for name, style in STYLES.items()}


def test_every_style_stands_under_its_own_name():
    assert len(STYLES) == 34  # of which the shipped editor knows every one
    assert all(style.name == name for name, style in STYLES.items())


def test_only_image_filters_are_inconsistent():
    assert {name for name, style in STYLES.items() if not style.consistent_3d} == FILTERS


def test_pictures_are_finite_and_in_range(pictures):
    for picture in pictures.values():
        assert picture.shape == (3, SIZE, SIZE)
        assert torch.isfinite(picture).all()
        assert 0 <= picture.min() and picture.max() <= 1


def test_background_stays_white(pictures):
    for name, picture in pictures.items():
        torch.testing.assert_close(picture[:, 0, 0], torch.ones(3), msg=name)


def test_every_style_changes_the_head(pictures):
    plain = _picture(None)  # closest: child 0.049, then watercolor 0.075
    changes = {name: _distance(plain, picture) for name, picture in pictures.items()}
    assert min(changes.values()) > 0.03, min(changes, key=changes.get)


def test_no_two_styles_look_alike(pictures):
    names = list(pictures)  # closest: stone and sand 0.069
    pairs = {
        (a, b): _distance(pictures[a], pictures[b]) for i, a in enumerate(names) for b in names[:i]
    }
    assert min(pairs.values()) > 0.04, min(pairs, key=pairs.get)


def test_plain_style_changes_nothing():
    torch.testing.assert_close(_picture(Style("none")), _picture(None))


@pytest.mark.parametrize("name", ["marble statue", "zombie", "pencil sketch", "Hulk"])
def test_jitter_varies_within_the_style(name, pictures):
    first, second = (_picture(jitter_style(STYLES[name], _seeded(seed))) for seed in (1, 2))
    assert _distance(first, second) > 0.005  # Hulk 0.008, pencil 0.043
    nearest = min(STYLES, key=lambda other: _distance(first, pictures[other]))
    assert nearest == name


def test_jitter_is_deterministic_and_leaves_the_style_alone():
    before = STYLES["stone"]
    a, b = (jitter_style(before, _seeded(7)) for _ in range(2))
    assert a.look == b.look and a.shifts == b.shifts
    torch.testing.assert_close(_picture(a), _picture(b), rtol=0, atol=0)
    assert STYLES["stone"] is before and before.look == Look() and before.shifts == {}


def test_jitter_of_an_unknown_style_is_a_clear_error():
    with pytest.raises(InputError, match="got 'cubist'"):
        jitter_style(Style("cubist"), _seeded(0))


def test_apply_replaces_then_shifts():
    style = Style("x", parameters={"jaw": 1.4}, shifts={"jaw": 0.1, "smile": -0.2})
    got = style.apply({"jaw": 0.9, "smile": 0.5, "ear": 1.0})
    assert got == pytest.approx({"jaw": 1.5, "smile": 0.3, "ear": 1.0})


def test_recolor_turns_red_to_green_and_scales():
    red = torch.tensor([[0.6, 0.0, 0.0]])
    third = Look(hue=1 / 3)  # a third of the circle permutes the channels
    torch.testing.assert_close(recolor(red, third), torch.tensor([[0.0, 0.6, 0.0]]))
    grey = Look(saturation=0.0, brightness=0.5)  # mean 0.2, halved
    torch.testing.assert_close(recolor(red, grey), torch.full((1, 3), 0.1))


def test_the_style_itself_is_drawn_without_any_change():
    assert Look() == Look((0.0, 0.0, 0.0), 1.0, 1.0, 0.0, 1.0, 1.0)
    points, colors = torch.rand(2, 50, 3, generator=_seeded(0))
    torch.testing.assert_close(Look().place(points), points)
    torch.testing.assert_close(recolor(colors, Look()), colors)


def test_noise_is_smooth_bounded_and_moves_with_the_look():
    q = torch.rand(4000, 3, generator=_seeded(0)) - 0.5
    for values in (value_noise(q, 10.0), fractal_noise(q, 10.0), veins(q, 5.0)):
        assert values.shape == (4000,)
        assert 0 <= values.min() and values.max() <= 1
    step = (value_noise(q + 1e-4, 10.0) - value_noise(q, 10.0)).abs().max()
    assert step < 1e-4 * 10 * math.sqrt(3) * 1.5 * 2  # slope of 3u^2 - 2u^3 is at most 1.5
    moved = Look(offset=(0.7, 0.0, 0.0)).place(q)
    assert float((value_noise(moved, 10.0) - value_noise(q, 10.0)).abs().mean()) > 0.1


def test_value_noise_meets_its_lattice():
    cell = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.1, 0.2]])
    # sin(0) = 0 at the origin; a quarter of the way out the value has moved
    assert value_noise(cell, 1.0)[0] == 0.0
    assert value_noise(cell, 1.0)[1] > 0.0


def test_smoothstep_rises_and_falls():
    at = torch.tensor([0.0, 0.25, 0.5, 1.0])
    torch.testing.assert_close(smoothstep(0.0, 1.0, at), torch.tensor([0.0, 0.15625, 0.5, 1.0]))
    torch.testing.assert_close(smoothstep(1.0, 0.0, at), torch.tensor([1.0, 0.84375, 0.5, 0.0]))


def test_blur_keeps_a_constant_and_spreads_a_point():
    constant = torch.full((1, 2, 9, 9), 0.3)
    torch.testing.assert_close(blur(constant, 1.0), constant)
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1.0
    spread = blur(point, 1.0)
    torch.testing.assert_close(spread.sum(), torch.tensor(1.0))
    # kernel exp(-k^2/2), k = -2..2: centre 1 / (1 + 2 e^-0.5 + 2 e^-2) = 0.40262
    torch.testing.assert_close(spread[0, 0, 4, 4], torch.tensor(0.40262**2), rtol=1e-4, atol=0)
