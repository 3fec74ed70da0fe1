"""Weighted sums of triplanes whose regions add up as they must."""

import pytest
import torch

from freestyle_core.errors import InputError
from freestyle_core.geometry.triplane import fold_planes, sample_folded
from freestyle_core.method.blends import (
    MOST_REGIONS,
    between,
    mixed_triplane,
    within_area,
)
from freestyle_core.types import Region, Triplane

AXES = ("xy", "xz", "yz")


def drawn(seed, regions=0, size=7):
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(1, 3, 2, 4, 4, generator=generator) for _ in range(regions + 1)]
    made = [Region(torch.rand((size,) * 3, generator=generator), planes) for planes in draw[1:]]
    return Triplane(draw[0], 1.0, tuple(made))


def features(triplane, size=7):
    """Return the features at the points of the lattice, where products of weights are exact."""
    axis = torch.linspace(-0.5, 0.5, size)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).view(1, -1, 3)
    folded = fold_planes(triplane.planes, AXES, 1.0, triplane.regions)
    return sample_folded(folded, points)[0].view(2, size, size, size)


@pytest.mark.parametrize("regions", [(0, 0), (1, 0), (0, 2), (2, 1)])
def test_a_mix_has_the_weighted_features(regions):
    a, b = (drawn(seed, count) for seed, count in enumerate(regions))
    got = mixed_triplane([a, b], [0.25, 0.75])
    expected = 0.25 * features(a) + 0.75 * features(b)
    torch.testing.assert_close(features(got), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("regions", [(0, 0), (1, 0), (0, 2), (2, 1)])
def test_within_an_area_the_features_are_those_of_the_inside(regions):
    outside, inside = (drawn(seed, count) for seed, count in enumerate(regions))
    weights = torch.rand(7, 7, 7, generator=torch.Generator().manual_seed(9))
    got = within_area(outside, inside, weights)
    expected = (1 - weights) * features(outside) + weights * features(inside)
    torch.testing.assert_close(features(got), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(got.planes, outside.planes)


def test_the_same_planes_are_kept_once():
    a, b, c = drawn(0), drawn(1), drawn(2)
    weights = torch.rand(7, 7, 7, generator=torch.Generator().manual_seed(9))
    one = within_area(a, b, weights)
    again = mixed_triplane([a, one], [0.5, 0.5])
    assert len(again.regions) == 1
    torch.testing.assert_close(again.regions[0].weights, weights / 2)
    # a twin of it from a file: equal planes, not the same ones
    twin = Triplane(one.planes.clone(), 1.0, (Region(weights, one.regions[0].planes.clone()),))
    assert len(mixed_triplane([one, twin], [0.5, 0.5]).regions) == 1
    assert len(mixed_triplane([one, c], [0.5, 0.5]).regions) == 1
    assert mixed_triplane([one, c], [0.0, 1.0]).regions == ()


def test_an_area_of_nothing_leaves_no_region():
    a, b = drawn(0), drawn(1)
    assert within_area(a, b, torch.zeros(7, 7, 7)).regions == ()
    assert within_area(a, a, torch.ones(7, 7, 7)).regions == ()


def test_weights_of_two_lattices_meet_on_the_finer():
    # a lattice's own numbers are on every second point of one twice as fine
    a, b = drawn(0, 1, size=4), drawn(1)
    got = within_area(a, b, torch.zeros(7, 7, 7))
    assert got.regions[0].weights.shape == (7, 7, 7)
    torch.testing.assert_close(got.regions[0].weights[::2, ::2, ::2], a.regions[0].weights)


def test_one_portrait_alone_comes_back_bit_by_bit():
    a, b = drawn(0, 1), drawn(1, 1)
    got = mixed_triplane([a, b], [0.0, 1.0])
    assert torch.equal(got.planes, b.planes)
    assert torch.equal(got.regions[0].weights, b.regions[0].weights)
    assert torch.equal(between([a.planes, b.planes], [1, 0]), a.planes)


def test_more_regions_than_files_hold_are_refused():
    many = [drawn(seed, 3) for seed in range(3)]
    assert MOST_REGIONS < 9
    with pytest.raises(InputError, match="of 9 regions, more than 8; mix fewer"):
        mixed_triplane(many, [0.25, 0.25, 0.5])
