"""Warp errors of painted balls: 0 where the paint stays, large where it turns with the camera."""

import pytest
import torch

from freestyle_core.geometry.warps import Warps, pairs_at, warps_between
from freestyle_core.metrics.warps import WarpErrors, feature_error, masked_rmse, warp_errors
from tests.spheres import BALL, NOSE, balls, row

SIZE = 64
YAWS = (-15.0, -9.0, 15.0, 21.0)


def distance(a, b):  # of a window, so that it is no RMSE
    return torch.nn.functional.avg_pool2d(a - b, 4).square().mean((1, 2, 3))


def errors(views, degrees, images=None):
    pairs = pairs_at(views.cameras, degrees)
    warps = warps_between(views.depth, views.alpha, views.cameras, pairs, SIZE)
    return warp_errors(views.image if images is None else images, warps, distance)


@pytest.mark.parametrize("degrees", [6.0, 30.0])
@pytest.mark.parametrize("spheres", [(BALL,), (BALL, NOSE)])
def test_consistent_views_have_no_error_but_interpolation(degrees, spheres):
    rmse, perceptual = errors(balls(row(*YAWS), SIZE, spheres=spheres), degrees).mean()
    assert rmse < 0.02 and perceptual < 1e-4


def test_paint_that_turns_with_the_camera_is_an_error():
    still = balls(row(*YAWS), SIZE)
    turned = balls(row(*YAWS), SIZE, turn=torch.deg2rad(torch.tensor(YAWS)))
    near, far = (errors(turned, degrees).mean() for degrees in (6.0, 30.0))
    assert near[0] > 3 * errors(still, 6.0).mean()[0] and far[0] > 0.2
    assert far[0] > near[0] and far[1] > near[1] > 1e-4


def test_errors_are_the_same_both_ways_round():
    views = balls(row(0.0, 30.0), SIZE, turn=torch.tensor([0.0, 0.4]))
    there, back = errors(views, 30.0).rmse.tolist()
    assert there == pytest.approx(back, rel=0.15)  # not the same pixels
    flipped = balls(row(30.0, 0.0), SIZE, turn=torch.tensor([0.4, 0.0]))
    assert errors(flipped, 30.0).rmse.tolist() == pytest.approx([back, there], rel=1e-4)


def test_only_what_both_see_counts():
    views = balls(row(0.0, 30.0), SIZE)
    spoilt = views.image.clone()
    spoilt[1, :, :, :4] = 0  # there is no ball
    assert torch.equal(errors(views, 30.0, spoilt).rmse, errors(views, 30.0).rmse)


def still(images, mask):
    """Return warps that move nothing."""
    size = images.shape[-1]
    centres = (torch.arange(size) + 0.5) / size * 2 - 1
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    grid = torch.stack([u, v], dim=-1)[None]
    return Warps(torch.tensor([[0, 1]]), grid, mask)


def test_rmse_is_a_mean_over_what_is_seen():
    images = torch.zeros(2, 3, 4, 4)
    images[1, 0, 0, 0], images[1, :, 3, 3] = 0.6, 1.0
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., 0, :] = True
    found = warp_errors(images, still(images, mask), distance)
    assert found.rmse.item() == pytest.approx((0.36 / 12) ** 0.5, abs=1e-5)
    # the distance sees black where nothing is seen: the mean of red is 0.6 / 16
    assert found.perceptual.item() == pytest.approx((0.6 / 16) ** 2 / 3, rel=1e-4)
    assert found.share.item() == 0.25


def test_a_pair_that_shares_nothing_does_not_count():
    images, mask = torch.rand(2, 3, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    found = warp_errors(images, still(images, mask), distance)
    assert found.rmse.isnan().all() and found.perceptual.isnan().all()
    both = WarpErrors(torch.tensor([torch.nan, 0.25]), torch.tensor([torch.nan, 0.5]), found.share)
    assert both.mean() == (0.25, 0.5)


def test_masked_rmse_of_each_picture():
    a, b = torch.zeros(2, 3, 2, 2), torch.full((2, 3, 2, 2), 0.5)
    mask = torch.ones(2, 1, 2, 2)
    mask[1, 0, 0, 0] = 0
    assert masked_rmse(a, b, mask).tolist() == [0.5, 0.5]


def test_feature_error_is_one_minus_the_cosine():
    features = torch.zeros(2, 2, 4, 4)
    features[0, 0], features[1, 0], features[1, 1] = 1.0, 1.0, 1.0  # 45 degrees
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    assert feature_error(features, still(features, mask)) == pytest.approx(1 - 0.5**0.5, abs=1e-6)
    features[1] = 3 * features[0]  # their length does not matter
    assert feature_error(features, still(features, mask)) == pytest.approx(0, abs=1e-6)
