"""Where a head is, and which stretch of a ray goes through it."""

import pytest
import torch

from freestyle_core.geometry.occupancy import GROWN, PROBES, filled_cells, tightened
from freestyle_core.geometry.rays import Rays

CPU = torch.device("cpu")


def ball(radius, raw=50.0):
    def density(points):
        return torch.where(points.norm(dim=-1, keepdim=True) < radius, raw, -50.0)

    return density


def rays(*heights):
    """Return rays along z from z = -2, at some heights y."""
    count = len(heights)
    origins = torch.tensor([[[0.0, y, -2.0] for y in heights]])
    directions = torch.tensor([0.0, 0.0, 1.0]).expand(1, count, 3)
    return Rays(origins, directions), torch.full((1, count), 1.0), torch.full((1, count), 3.0)


def test_cells_of_a_ball_and_some_around_it_are_filled():
    grid = 48
    filled = filled_cells(ball(0.25), 1.0, CPU, grid)
    middle = filled[grid // 2, grid // 2]
    # cells within 0.25 are 24 in a row of 48; two more on either side have grown
    assert int(middle.sum()) == 24 + 2 * GROWN
    assert not filled[0].any()


def test_axes_are_z_y_x():
    def density(points):
        return torch.where(points[..., :1] > 0.3, 50.0, -50.0)  # where x is large

    filled = filled_cells(density, 1.0, CPU, 48)
    assert filled[:, :, -1].all() and not filled[-1, -1, 0] and not filled[0, -1, 10]


@pytest.mark.parametrize("raw, shown", [(-9.0, False), (-3.0, True)])
def test_thin_fog_counts_where_a_whole_ray_of_it_could_be_seen(raw, shown):
    # density softplus(raw - 1) = e^(raw - 1): along the box 4.5e-5 and 1.8 per cent of opacity
    assert bool(filled_cells(ball(9.0, raw), 1.0, CPU).any()) == shown


def test_a_ray_keeps_its_filled_stretch_and_one_that_meets_nothing_all():
    filled = filled_cells(ball(0.25), 1.0, CPU)
    near, far, hit = tightened(*rays(0.0, 0.45), filled, 1.0, outside=False)
    assert hit.tolist() == [[True, False]]
    probe = 2.0 / (PROBES - 1)
    grown = 0.25 + GROWN / 48
    # no later than the filled stretch begins, and at most two probes sooner; the same at the end
    assert 2 - grown - 2 * probe <= near[0, 0] <= 2 - grown
    assert 2 + grown <= far[0, 0] <= 2 + grown + 2 * probe
    assert (near[0, 1], far[0, 1]) == (1.0, 3.0)


def test_what_may_lie_outside_the_box_is_not_cut_off():
    filled = filled_cells(ball(0.25), 1.0, CPU)
    near, far, hit = tightened(*rays(0.0, 0.45), filled, 1.0, outside=True)
    assert hit.all()
    torch.testing.assert_close(near, torch.full_like(near, 1.0))
    torch.testing.assert_close(far, torch.full_like(far, 3.0))
