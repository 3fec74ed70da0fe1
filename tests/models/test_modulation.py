"""Modulation layers in a frozen generator, the paper's ablation "w/o I2T"."""

import pytest
import torch

from freestyle_core.errors import InputError
from freestyle_core.models.config import EG3DConfig
from freestyle_core.models.modulation import LAYERS, Modulation, ModulationLayer
from tests.tiny import tiny_eg3d

RESOLUTIONS = (4, 8)  # of the tiny generator's backbone


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_layer_is_equation_3_given_back_its_mean_and_deviation():
    layer = ModulationLayer(2, 4)
    with torch.no_grad():
        layer.gamma_beta.bias[:4] = torch.tensor([1.0, 0.0, 0.0, -1.0])  # gamma 2 1 1 0
        layer.gamma_beta.bias[4:] = torch.tensor([0.0, 0.0, 0.5, 0.0])
    x = torch.tensor([1.0, 2.0, 3.0, 6.0])[None, :, None, None]
    # mean 3, deviation sqrt((4 + 1 + 0 + 9) / 4); 3 + 2 * -2, 2, 3 + deviation / 2, 3 + 0 * 3
    expected = torch.tensor([-1.0, 2.0, 3.0 + 3.5**0.5 / 2, 3.0])
    torch.testing.assert_close(layer(x, torch.zeros(1, 2)).flatten(), expected)
    # each position has a mean and a deviation of its own: ten times the features, ten times as far
    both = torch.cat([x, 10 * x], dim=3)
    torch.testing.assert_close(layer(both, torch.zeros(1, 2))[0, :, 0, 1], 10 * expected)


def test_gamma_and_beta_follow_w():
    layer = ModulationLayer(4, 1)
    with torch.no_grad():
        layer.gamma_beta.weight[0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    x = torch.ones(2, 1, 1, 1)
    w = torch.tensor([[0.0, 9.0, 9.0, 9.0], [2.0, 9.0, 9.0, 9.0]])
    # one channel is its own mean, so gamma changes nothing; beta acts in units of the deviation
    torch.testing.assert_close(layer(x, w), x)
    three = torch.tensor([0.0, 3.0])[None, :, None, None].expand(2, 2, 1, 1)
    layer = ModulationLayer(4, 2)
    with torch.no_grad():
        layer.gamma_beta.weight[0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    # stored weights act 1 / sqrt(4) as large: gamma of channel 0 is 1 + 2 / 2, (0 - 1.5) * 2 + 1.5
    expected = torch.tensor([[0.0, 3.0], [-1.5, 3.0]])
    torch.testing.assert_close(layer(three, w).flatten(1), expected)


def test_the_generator_is_unchanged_at_first_and_changed_where_a_layer_acts():
    eg3d = tiny_eg3d()
    ws = eg3d.map(drawn(2, 8), torch.zeros(2, 25))
    modulation = Modulation(eg3d.config)
    assert list(modulation.layers) == [str(r) for r in RESOLUTIONS]
    torch.testing.assert_close(eg3d.planes(ws, modulation=modulation), eg3d.planes(ws))
    with torch.no_grad():
        modulation.layers["8"].gamma_beta.bias.fill_(0.3)
    # by hand: the features of 8 x 8 are changed before they become planes
    blocks = eg3d.backbone.synthesis
    x, image = blocks.b4(None, None, ws[:, :2], "const")
    x, image = blocks.b8(x, image, ws[:, 1:4], "const", change=modulation.at(8, ws[:, 3]))
    expected = image.unflatten(1, (3, -1))
    got = eg3d.planes(ws, modulation=modulation)
    torch.testing.assert_close(got, expected)
    assert (got - eg3d.planes(ws)).abs().max() > 1e-3


def test_two_layers_act_at_8_and_16_where_the_planes_are_larger():
    with torch.device("meta"):
        assert list(Modulation(EG3DConfig()).layers) == ["8", "16"]
    assert LAYERS == 2


@pytest.mark.parametrize("wrong", [(), (16,), (8, 8)])
def test_resolutions_that_the_generator_lacks_are_refused(wrong):
    with pytest.raises(InputError, match=r"resolutions of the generator, \(4, 8\), each once; got"):
        Modulation(tiny_eg3d().config, wrong)
