"""Plane sampling against the reference, and the folding of three planes into two."""

import pytest
import torch
from torch.testing import assert_close

from freestyle_core.geometry.triplane import fold_planes, outside_box, sample_folded
from freestyle_core.models.config import PLANE_AXES


@pytest.mark.parametrize("box_size, name", [(1.0, "boxwarp1"), (1.6, "boxwarp1.6")])
def test_folded_sampling_is_the_mean_of_the_reference(ops, box_size, name):
    folded = fold_planes(ops["planes.features"], PLANE_AXES, box_size)
    assert folded.axes == ("xy", "xz")
    got = sample_folded(folded, ops["planes.points"])
    expected = ops[f"planes.sampled_{name}"].mean(dim=1).transpose(1, 2)
    assert_close(got, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("pair", ["xy", "xz", "yz", "yx", "zx", "zy"])
def test_any_two_coordinates_are_width_and_height(pair):
    planes = torch.zeros(1, 1, 1, 4, 4)
    planes[0, 0, 0, 1, 3] = 1.0  # row 1 is height -0.25 of the box, column 3 width 0.75
    points = torch.zeros(1, 1, 3)
    points[..., "xyz".index(pair[0])], points[..., "xyz".index(pair[1])] = 0.75, -0.25
    got = sample_folded(fold_planes(planes, (pair,), 2.0), points)
    assert_close(got, torch.ones(1, 1, 1))


@pytest.mark.parametrize("plane, axes", list(enumerate(PLANE_AXES)))
def test_each_plane_lies_where_the_reference_has_it(ops, plane, axes):
    folded = fold_planes(ops["planes.features"][:, plane : plane + 1], [axes], 1.0)
    got = sample_folded(folded, ops["planes.points"])
    expected = ops["planes.sampled_boxwarp1"][:, plane].transpose(1, 2)
    assert_close(got, expected, atol=1e-6, rtol=0)


def test_other_axes_keep_three_planes(ops):
    folded = fold_planes(ops["planes.features"], ("xy", "xz", "zy"), 1.0)
    assert folded.axes == ("xy", "xz", "zy")
    assert folded.planes.shape[1] == 3


def test_texel_centre_gives_the_texel_and_outside_gives_zero():
    planes = torch.arange(16.0).view(1, 1, 1, 4, 4)
    folded = fold_planes(planes, ["xy"], 2.0)
    # box of 2: texels are 0.5 wide, centres at -0.75, -0.25, 0.25, 0.75; x is the width axis
    points = torch.tensor([[[-0.25, 0.75, 9.0], [0.75, -0.75, 0.0], [1.3, 0.0, 0.0]]])
    assert sample_folded(folded, points)[0, 0].tolist() == [13.0, 3.0, 0.0]


def test_one_identity_serves_many_views_like_copies_of_it():
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(1, 3, 4, 8, 8, generator=generator)
    points = torch.rand(5, 30, 3, generator=generator) - 0.5
    one = sample_folded(fold_planes(planes, PLANE_AXES, 1.0), points)
    copies = sample_folded(fold_planes(planes.expand(5, -1, -1, -1, -1), PLANE_AXES, 1.0), points)
    assert_close(one, copies, atol=1e-6, rtol=0)


def test_gradients_of_planes_and_points():
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(2, 3, 2, 5, 5, generator=generator, dtype=torch.float64)
    points = torch.rand(2, 7, 3, generator=generator, dtype=torch.float64) * 0.8 - 0.4

    def sample(planes, points):
        return sample_folded(fold_planes(planes, PLANE_AXES, 1.0), points)

    assert torch.autograd.gradcheck(sample, (planes.requires_grad_(), points.requires_grad_()))


def test_outside_box_counts_the_faces_as_inside():
    points = torch.tensor([[[0.5, 0.0, -0.5], [0.0, 0.51, 0.0], [0.0, 0.0, -0.6]]])
    assert outside_box(points, 1.0).tolist() == [[False, True, True]]


def test_turning_the_world_turns_the_planes():
    # A quarter turn about z takes (x, y, z) to (-y, x, z): what stood in the plane (x, y) is read
    # at (y, -x), which is the plane turned by rot90.
    generator = torch.Generator().manual_seed(3)
    plane = torch.randn(1, 1, 4, 8, 8, generator=generator)
    points = torch.rand(1, 40, 3, generator=generator) - 0.5
    turned = torch.stack([-points[..., 1], points[..., 0], points[..., 2]], dim=-1)
    before = sample_folded(fold_planes(plane, ["xy"], 1.0), points)
    after = sample_folded(fold_planes(plane.rot90(-1, (-2, -1)), ["xy"], 1.0), turned)
    assert_close(after, before, atol=1e-6, rtol=0)
