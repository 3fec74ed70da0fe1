"""Features of regions: planes that count times a weight in a part of the cube."""

import pytest
import torch

from freestyle_core.errors import ShapeError
from freestyle_core.geometry.isosurface import density_lattice
from freestyle_core.geometry.triplane import fold_planes, sample_folded
from freestyle_core.types import Region, Triplane

AXES = ("xy", "xz", "zx")


def even(value, size=4):
    return torch.full((1, 3, 2, size, size), value)


def ramp(size):
    """Return weights that are 0 at the left face of the cube and 1 at the right one."""
    return torch.linspace(0, 1, size).view(-1, 1, 1).expand(size, size, size).contiguous()


def test_a_region_adds_its_features_times_its_weight():
    # even planes have their value everywhere; the weight at x is x + 1/2 in a cube of side 1
    folded = fold_planes(even(3.0), AXES, 1.0, [Region(ramp(5), even(8.0))])
    points = torch.tensor([[[-0.3, 0.2, 0.1], [0.0, 0.0, 0.0], [0.25, -0.1, 0.3]]])
    got = sample_folded(folded, points)
    expected = 3 + 8 * torch.tensor([0.2, 0.5, 0.75])
    torch.testing.assert_close(got, expected.expand(1, 2, 3))


def test_the_axes_of_the_weights_are_x_y_z():
    weights = torch.zeros(3, 3, 3)
    weights[2, 1, 0] = 1.0  # at x = 1/2, y = 0, z = -1/2
    folded = fold_planes(even(0.0), AXES, 1.0, [Region(weights, even(1.0))])
    corners = torch.tensor([[[0.375, 0.0, -0.375], [-0.375, 0.0, 0.375], [0.375, 0.0, 0.375]]])
    got = sample_folded(folded, corners)[0, 0]
    # trilinear: three quarters of the way from 0 towards 1, along x and along z
    torch.testing.assert_close(got, torch.tensor([0.75 * 0.75, 0.0, 0.0]))


def test_weights_go_on_outside_the_cube():
    # where the (x,y) plane still has features, of a third of the mean
    folded = fold_planes(even(0.0), AXES, 1.0, [Region(ramp(5), even(3.0))])
    got = sample_folded(folded, torch.tensor([[[0.25, 0.0, -0.7]]]))
    torch.testing.assert_close(got, torch.full((1, 2, 1), 0.75))


def test_where_the_weight_is_zero_features_are_the_same_bits():
    generator = torch.Generator().manual_seed(0)
    planes, added = (torch.randn(1, 3, 2, 4, 4, generator=generator) for _ in range(2))
    weights = torch.zeros(9, 9, 9)
    weights[:4] = 1.0  # nothing from x = 0 on
    points = torch.rand(1, 200, 3, generator=generator) - 0.5
    got = sample_folded(fold_planes(planes, AXES, 1.0, [Region(weights, added)]), points)
    plain = sample_folded(fold_planes(planes, AXES, 1.0), points)
    far = points[0, :, 0] >= 0
    assert torch.equal(got[..., far], plain[..., far])
    assert not torch.isclose(got[..., ~far], plain[..., ~far]).any(dim=1).all()


def test_views_of_one_portrait_share_its_regions():
    generator = torch.Generator().manual_seed(0)
    planes, added = (torch.randn(1, 3, 2, 4, 4, generator=generator) for _ in range(2))
    folded = fold_planes(planes, AXES, 1.0, [Region(ramp(5), added)])
    points = torch.rand(3, 20, 3, generator=generator) - 0.5
    each = torch.cat([sample_folded(folded, one[None]) for one in points])
    torch.testing.assert_close(sample_folded(folded, points), each)


def test_gradients_reach_the_planes_of_a_region():
    added = even(1.0).requires_grad_(True)
    folded = fold_planes(even(0.0), AXES, 1.0, [Region(ramp(5), added)])
    sample_folded(folded, torch.tensor([[[0.1, 0.0, 0.0]]])).sum().backward()
    # two channels, each the mean of three planes times the weight 0.6
    assert float(added.grad.sum()) == pytest.approx(2 * 0.6, abs=1e-6)


@pytest.mark.parametrize("size", [5, 8])
def test_a_lattice_has_the_regions_too(size):
    generator = torch.Generator().manual_seed(0)
    planes, added = (torch.randn(1, 3, 2, 4, 4, generator=generator) for _ in range(2))
    weights = torch.rand(5, 5, 5, generator=generator)
    folded = fold_planes(planes, AXES, 1.0, [Region(weights, added)])
    got = density_lattice(folded, lambda f: f.sum(dim=1, keepdim=True), size, memory_mb=1)
    axis = torch.linspace(-0.5, 0.5, size)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    expected = sample_folded(folded, points.reshape(1, -1, 3)).sum(dim=1).view(got.shape)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_regions_that_fit_no_planes_are_refused():
    with pytest.raises(ShapeError, match=r"weights \[N,N,N\]"):
        Region(torch.zeros(4, 4, 5), even(1.0))
    with pytest.raises(ShapeError, match=r"needs planes \[1,3,C,R,R\]"):
        Region(ramp(3), torch.zeros(2, 3, 2, 4, 4))
    with pytest.raises(ShapeError, match="same size"):
        Triplane(even(1.0), 1.0, (Region(ramp(3), even(1.0, size=8)),))
    with pytest.raises(ShapeError, match="of one portrait"):
        Triplane(even(1.0).expand(2, -1, -1, -1, -1), 1.0, (Region(ramp(3), even(1.0)),))
