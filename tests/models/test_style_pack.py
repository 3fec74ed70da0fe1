import pytest
import torch

from freestyle_core.errors import InputError, ShapeError
from freestyle_core.models.style_pack import StylePackConfig, StylePackNet, aligned
from tests.tiny import tiny_eg3d


def network(**sizes):
    torch.manual_seed(0)
    sizes = {"hidden": 5, "mean_reduction": 2, "mean_levels": 2, **sizes}
    return StylePackNet(StylePackConfig(4, 8, ("xy", "xz", "yz"), **sizes))


def planes(batch=2, seed=1):
    return torch.randn(batch, 3, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def awake(net):
    """Let the last convolutions do something."""
    for layers in net.planes:
        torch.nn.init.ones_(layers.last.weight)
    return net


def test_a_new_one_changes_nothing():
    assert torch.equal(network()(planes()), torch.zeros(2, 3, 4, 8, 8))


def test_the_mean_is_the_same_for_every_head_in_deviations_of_its_channel():
    net = network(gain=3.0)
    with torch.no_grad():
        net.scale.copy_(torch.arange(1.0, 13.0).reshape(3, 4))
        net.mean[0].fill_(2.0)  # 4 x 4 texels
        net.mean[1].fill_(0.5)  # 2 x 2, enlarged and added
    change = net(planes())
    expected = 3.0 * 2.5 * torch.arange(1.0, 13.0).reshape(1, 3, 4, 1, 1)
    torch.testing.assert_close(change, expected.expand(2, 3, 4, 8, 8))


def test_what_is_convolved_depends_on_the_head_and_not_on_its_company():
    net, heads = awake(network()), planes()
    change = net(heads)
    assert not torch.allclose(change[0], change[1], atol=1e-3)
    torch.testing.assert_close(net(heads[1:])[0], change[1])


def test_planes_in_other_units_are_changed_alike():
    net, heads = awake(network()), planes()
    before = net(heads)
    net.scale.mul_(10)
    torch.testing.assert_close(net(10 * heads), 10 * before)


def test_a_profile_lies_along_the_axis_that_two_planes_share():
    plane = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])  # rows: height axis, columns: width axis
    along_width, along_height = [2.0, 4.0], [1.5, 4.5]
    cases = {
        ("xy", "xz"): [along_width] * 2,  # x is the width of both
        ("xy", "zx"): [[v] * 2 for v in along_width],  # x is the height of the target
        ("yx", "xz"): [along_height] * 2,  # x is the height of the source
        ("xy", "yz"): [along_height] * 2,
        ("xz", "zx"): [[1.0, 3.0], [2.0, 6.0]],
        ("xz", "xz"): [[1.0, 2.0], [3.0, 6.0]],
    }
    for (source, target), expected in cases.items():
        assert aligned(plane, source, target)[0, 0].tolist() == expected, (source, target)


@pytest.mark.parametrize("axes", [("xy", "xz", "zx"), ("xy", "xz", "yz")])
def test_it_fits_the_generator_whose_config_it_is_made_of(axes):
    eg3d = tiny_eg3d(plane_axes=axes)
    config = StylePackConfig.of(eg3d.config, hidden=3)
    assert StylePackConfig.from_dict(config.to_dict()) == config
    made = eg3d.planes(torch.zeros(1, eg3d.config.num_ws, 8))
    assert StylePackNet(config)(made).shape == made.shape


@pytest.mark.parametrize(
    "shape", [(1, 3, 4, 8), (1, 3, 5, 8, 8), (1, 3, 4, 16, 16), (1, 2, 4, 8, 8)]
)
def test_planes_of_another_generator_are_refused(shape):
    with pytest.raises(ShapeError, match=r"changes planes \[B,3, 4, 8, 8\], got"):
        network()(torch.zeros(shape))


BAD = {
    "hidden": ({"hidden": 0}, "cannot have the sizes"),
    "huge": ({"hidden": 10**6}, "cannot have the sizes"),
    "layers": ({"layers": -1}, "-1 layers"),
    "reduction": ({"reduction": 3}, "8 texels cannot be made 3 times smaller"),
    "mean": ({"mean_reduction": 5}, "cannot be made 5 times"),
    "gain": ({"gain": float("nan")}, "gain of a style pack must be positive"),
}


@pytest.mark.parametrize("case", BAD)
def test_impossible_sizes_are_refused(case):
    sizes, message = BAD[case]
    with pytest.raises(InputError, match=message):
        network(**sizes)


def test_axes_that_are_none_are_refused():
    for axes in (("xy", "xz"), ("xy", "xz", "xx"), ("xy", "xz", "yw")):
        with pytest.raises(InputError, match="three pairs such as xy"):
            StylePackConfig(4, 8, axes)
