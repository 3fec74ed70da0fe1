import pytest
import torch
from torch import nn

from freestyle_core.training.losses import (
    density_loss,
    distance_name,
    plane_loss,
    reconstruction_loss,
    total_loss,
)
from freestyle_core.types import Triplane


def test_plane_loss_is_the_mean_absolute_difference():
    a = torch.zeros(1, 3, 1, 2, 2)
    b = a.clone()
    b[0, 0, 0] = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    assert plane_loss(a, b).item() == pytest.approx(6 / 12)  # |1| + |-2| + |3| over 12 values


def test_reconstruction_loss_adds_l1_and_the_perceptual_mean():
    a, b = torch.zeros(2, 3, 4, 4), torch.full((2, 3, 4, 4), 0.25)
    perceptual = lambda x, y: (x - y).square().sum((1, 2, 3)) * torch.tensor([1.0, 3.0])  # noqa: E731
    # L1 0.25; squares: 48 * 0.0625 = 3 per image, times 1 and 3: mean 6
    assert reconstruction_loss(a, b, perceptual).item() == pytest.approx(6.25)


class RadialDensity(nn.Module):
    """Raw density 1 + 50 |x|: after softplus(raw - 1) almost exactly 50 |x| away from 0."""

    def fold(self, planes, regions=()):
        return planes

    def decode_density(self, planes, points):
        return 1 + 50 * points.norm(dim=-1, keepdim=True)


def test_density_loss_is_equation_6():
    points = torch.tensor([[[0.3, 0.0, 0.4], [0.0, 0.6, 0.0]]])
    delta = torch.tensor([[[0.1, 0.1, 0.1], [-0.5, -0.25, 9.0]]])
    triplane = Triplane(torch.zeros(1, 3, 1, 2, 2), 1.0)
    # x + delta x: 1.1 * 0.5 = 0.55 long, and 0.75 * 0.6 = 0.45 (zero coordinates stay zero)
    # |50 * 0.5 - 50 * 0.55| = 2.5 and |50 * 0.6 - 50 * 0.45| = 7.5: mean 5
    loss = density_loss(RadialDensity(), triplane, points, delta)
    assert loss.item() == pytest.approx(5.0, abs=1e-4)


def test_density_loss_is_zero_without_a_step():
    points = torch.rand(1, 9, 3, generator=torch.Generator().manual_seed(0))
    triplane = Triplane(torch.zeros(1, 3, 1, 2, 2), 1.0)
    assert density_loss(RadialDensity(), triplane, points, torch.zeros(1, 9, 3)).item() == 0


def test_total_loss_has_the_papers_weights():
    assert total_loss(torch.tensor(0.5), torch.tensor(2.0)).item() == pytest.approx(5.4)
    total = total_loss(torch.tensor(0.5), torch.tensor(2.0), lambda_rec=2.0, lambda_dr=1.0)
    assert total.item() == pytest.approx(3.0)


def test_every_distance_has_a_name_for_the_records():
    def squares(a, b):
        return (a - b).square().mean((1, 2, 3))

    assert distance_name(squares) == "squares"
    named = nn.Identity()
    assert distance_name(named) == "Identity"
    named.name = "VGG-LPIPS 0123456789ab"
    assert distance_name(named) == "VGG-LPIPS 0123456789ab"
