import sys
import types

import pytest
import torch
from torch import nn

from freestyle_core.errors import FileFormatError, FreeStyleError
from freestyle_core.losses import (
    density_loss,
    plane_loss,
    reconstruction_loss,
    total_loss,
    vgg_perceptual,
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


def test_vgg_without_its_package_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(FreeStyleError, match="pip install lpips"):
        vgg_perceptual()


class FakeVGG(nn.Module):
    """Two of the slices of lpips' VGG, with its names."""

    def __init__(self):
        super().__init__()
        self.slice1, self.slice2 = nn.Sequential(), nn.Sequential()
        self.slice1.add_module("0", nn.Conv2d(3, 2, 3))
        self.slice2.add_module("5", nn.Conv2d(2, 2, 3))


class FakeLPIPS(nn.Module):
    def __init__(self, net, pnet_rand, verbose):
        super().__init__()
        assert (net, pnet_rand) == ("vgg", True)  # otherwise lpips would download VGG
        self.net = FakeVGG()

    def forward(self, a, b, normalize):
        assert normalize  # images are in [0,1]
        return (a - b).abs().mean((1, 2, 3), keepdim=True) * self.net.slice1[0].bias[0]


@pytest.fixture
def fake_lpips(monkeypatch, tmp_path):
    module = types.ModuleType("lpips")
    module.LPIPS = FakeLPIPS
    monkeypatch.setitem(sys.modules, "lpips", module)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def vgg_state():
    shapes = {"0.weight": (2, 3, 3, 3), "0.bias": (2,), "5.weight": (2, 2, 3, 3), "5.bias": (2,)}
    return {f"features.{name}": torch.full(shape, 4.0) for name, shape in shapes.items()}


def test_vgg_without_its_weights_names_the_folder_and_downloads_nothing(fake_lpips):
    with pytest.raises(FileFormatError, match="vgg16-") as caught:
        vgg_perceptual()
    assert str(fake_lpips) in str(caught.value)


def test_vgg_weights_on_disk_are_used_and_frozen(fake_lpips):
    torch.save({**vgg_state(), "classifier.0.weight": torch.ones(1)}, fake_lpips / "vgg16-1.pth")
    distance = vgg_perceptual()
    a, b = torch.zeros(2, 3, 8, 8, requires_grad=True), torch.ones(2, 3, 8, 8)
    got = distance(a, b)
    torch.testing.assert_close(got, torch.tensor([4.0, 4.0]))  # |0 - 1| times the bias on disk
    got.sum().backward()
    assert a.grad is not None


def test_a_foreign_vgg_file_is_refused(fake_lpips):
    state = vgg_state()
    del state["features.5.bias"]
    torch.save(state, fake_lpips / "vgg16-1.pth")
    with pytest.raises(FileFormatError, match="features.5.bias"):
        vgg_perceptual()
