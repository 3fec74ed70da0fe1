"""The rendering integral against the reference and against closed forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from freestyle_core.geometry.volume import (
    activate_density,
    expected_depth,
    importance_depths,
    interval_weights,
    merged_weights,
    sample_weights,
    smoothed_weights,
)


def raw_for(density: float) -> float:
    """Return the raw value whose activation is `density`: softplus(raw - 1)."""
    return math.log(math.expm1(density)) + 1


@pytest.mark.parametrize("white", [0, 1])
def test_compositing_matches_reference(ops, white):
    depths, raw = ops["march.depths"][..., 0], ops["march.densities"][..., 0]
    weights = interval_weights(depths, raw)
    assert_close(weights, ops[f"march.wb{white}.weights"][..., 0], atol=1e-6, rtol=0)
    per_sample, alpha = sample_weights(weights), weights.sum(dim=-1)
    colour = (per_sample[..., None] * ops["march.colors"]).sum(dim=-2)
    colour = colour + white * (1 - alpha)[..., None]
    assert_close(colour * 2 - 1, ops[f"march.wb{white}.rgb"], atol=2e-6, rtol=0)
    limits = (depths.min(), depths.max())
    depth = expected_depth(per_sample, depths, alpha, limits)
    assert_close(depth, ops[f"march.wb{white}.depth"][..., 0], atol=1e-5, rtol=0)
    assert depth[0, 0] == depths.max()  # this ray is empty


def test_importance_sampling_matches_reference(ops):
    depths, weights = ops["importance.depths"][..., 0], ops["importance.weights"][..., 0]
    smoothed = smoothed_weights(weights)
    assert_close(smoothed.flatten(0, 1), ops["importance.smoothed_weights"], atol=1e-6, rtol=0)
    u = ops["importance.u"].view(*depths.shape[:2], -1)
    got = importance_depths(depths, weights, u)
    assert_close(got, ops["importance.depths_fine"][..., 0], atol=1e-5, rtol=0)


def test_importance_sampling_finds_the_dense_part_and_is_sorted():
    depths = torch.linspace(2.0, 3.0, 21)[None]
    weights = torch.zeros(1, 20)
    weights[0, 10] = 1.0
    got = importance_depths(depths, weights, (torch.arange(200) + 0.5) / 200)
    assert (got.diff() >= 0).all()
    inside = ((got > 2.4) & (got < 2.65)).float().mean()
    # smoothing: 2 intervals at 0.51 or 1.01, the floor 0.01 elsewhere; far more than 3/4 is inside
    assert inside > 0.75


@pytest.mark.parametrize("density, thickness", [(0.5, 1.0), (3.0, 0.4), (40.0, 0.5)])
def test_uniform_slab_absorbs_as_beer_and_lambert_say(density, thickness):
    depths = torch.linspace(1.0, 1.0 + thickness, 33, dtype=torch.float64)
    weights = interval_weights(depths, torch.full_like(depths, raw_for(density)))
    assert_close(weights.sum().item(), 1 - math.exp(-density * thickness), atol=1e-8, rtol=0)
    # interval i: exp(-density t_i) (1 - exp(-density delta))
    delta = thickness / 32
    start = torch.arange(32, dtype=torch.float64) * delta
    expected = torch.exp(-density * start) * (1 - math.exp(-density * delta))
    assert_close(weights, expected, atol=1e-8, rtol=0)


def test_empty_space_has_no_weight_and_the_far_depth():
    depths = torch.linspace(2.0, 3.0, 12)
    raw = torch.full((12,), -1000.0, requires_grad=True)
    weights = interval_weights(depths, raw)
    assert weights.sum() == 0
    depth = expected_depth(
        sample_weights(weights), depths, weights.sum(), (depths.min(), depths.max())
    )
    assert depth == 3.0
    (depth + weights.sum()).backward()
    assert raw.grad.isfinite().all()


def test_opaque_wall_is_seen_at_its_depth():
    depths = torch.linspace(2.0, 3.0, 101)
    raw = torch.where(depths < 2.495, -9000.0, 5000.0)  # their mean is still empty
    weights = interval_weights(depths, raw)
    depth = expected_depth(
        sample_weights(weights), depths, weights.sum(), (depths.min(), depths.max())
    )
    assert_close(depth, torch.tensor(2.505), atol=1e-5, rtol=0)  # first interval wholly inside


def test_density_activation_is_shifted_softplus():
    assert_close(activate_density(torch.tensor([1.0, 101.0])), torch.tensor([math.log(2), 100.0]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(3, 20))
def test_order_of_samples_does_not_matter(seed, count):
    generator = torch.Generator().manual_seed(seed)
    depths = torch.rand(4, count, generator=generator, dtype=torch.float64).sort(dim=-1).values + 2
    raw = 3 * torch.randn(4, count, generator=generator, dtype=torch.float64)
    expected = sample_weights(interval_weights(depths, raw))
    order = torch.randperm(count, generator=generator)
    got, alpha = merged_weights(depths[:, order], raw[:, order])
    assert_close(got, expected[:, order])
    assert_close(alpha, expected.sum(dim=-1))
    assert (alpha >= 0).all() and (alpha <= 1 + 1e-8).all()


def test_sample_weights_composite_the_middle_colours():
    generator = torch.Generator().manual_seed(0)
    weights, colours = (torch.rand(s, generator=generator) for s in ((5, 8), (5, 9, 3)))
    middle = (colours[:, :-1] + colours[:, 1:]) / 2
    expected = (weights[..., None] * middle).sum(dim=1)
    assert_close((sample_weights(weights)[..., None] * colours).sum(dim=1), expected)


def test_gradients_of_depth_and_weights():
    generator = torch.Generator().manual_seed(0)
    depths = 2 + torch.rand(3, 8, generator=generator, dtype=torch.float64)
    raw = torch.randn(3, 8, generator=generator, dtype=torch.float64).requires_grad_()
    limits = (torch.tensor(2.0).double(), torch.tensor(3.0).double())

    def integrate(raw, depths):
        weights, alpha = merged_weights(depths, raw)
        return weights, alpha, expected_depth(weights, depths, alpha, limits)

    assert torch.autograd.gradcheck(integrate, (raw, depths.requires_grad_()))
