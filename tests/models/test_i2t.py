from dataclasses import replace

import pytest
import torch

from freestyle_core.errors import InputError, ShapeError
from freestyle_core.models.i2t import (
    I2T,
    POSITION_GAIN,
    SML,
    I2TConfig,
    PositionMixer,
    ScaledConv,
    check_i2t_fits,
    fresh_i2t,
    i2t_config_for,
    normalise_channels,
    resize_code,
)
from tests.tiny import tiny_eg3d, tiny_i2t


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_defaults_are_the_papers_sizes():
    config = I2TConfig()
    assert config.layer_resolutions == (4, 8, 16, 32, 64, 128, 256)  # seven modulation layers
    assert (config.code_size, config.plane_channels, config.image_resolution) == (32, 32, 512)
    with torch.device("meta"):
        net = I2T(config)
        image = torch.empty(1, 3, 512, 512)
        assert net.encode(image).shape == (1, config.code_channels, 32, 32)
        assert net(image).shape == (1, 3, 32, 256, 256)


def test_normalisation_is_across_channels_at_every_position():
    x = torch.tensor([1.0, 2.0, 3.0, 6.0])[None, :, None, None].repeat(1, 1, 1, 2)
    x[..., 1] *= 10
    # mean 3, deviations -2 -1 0 3, variance (4 + 1 + 0 + 9) / 4 = 3.5
    expected = torch.tensor([-2.0, -1.0, 0.0, 3.0]) / 3.5**0.5
    got = normalise_channels(x)[0, :, 0]
    torch.testing.assert_close(got[:, 0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got[:, 1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("resolution", [2, 4, 8])
def test_a_modulation_layer_is_equation_3(resolution):
    layer = SML(code=3, code_size=4, inputs=5, channels=6, resolution=resolution)
    with torch.no_grad():
        for name, p in layer.named_parameters():
            p.copy_(noise(*p.shape, seed=len(name)))
    x, w_s = noise(2, 5, resolution, resolution, seed=1), noise(2, 3, 4, 4, seed=2)
    got = layer(x, w_s)
    f = layer.conv(x) + POSITION_GAIN * layer.position
    mu, sigma = f.mean(1, keepdim=True), f.var(1, unbiased=False, keepdim=True).add(1e-5).sqrt()
    code = torch.nn.functional.leaky_relu(layer.hidden(resize_code(w_s, resolution)), 0.2)
    gamma, beta = layer.gamma_beta(code).chunk(2, 1)
    expected = torch.nn.functional.leaky_relu((1 + gamma) * (f - mu) / sigma + beta, 0.2)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_modulation_depends_on_the_place_in_the_code():
    layer = SML(code=3, code_size=4, inputs=5, channels=6, resolution=4)
    with torch.no_grad():
        layer.gamma_beta.weight.copy_(noise(*layer.gamma_beta.weight.shape))
    x, w_s = noise(1, 5, 4, 4), noise(1, 3, 4, 4, seed=1)
    changed = w_s.clone()
    changed[0, :, 0, 0] += 1
    difference = (layer(x, changed) - layer(x, w_s)).abs().amax(1)[0]
    assert difference[:2, :2].min() > 1e-4  # the 3x3 neighbourhood of the changed corner
    assert difference[2:].max() == 0 and difference[:, 2:].max() == 0


def test_resizing_a_code_averages_down_and_interpolates_up():
    code = torch.arange(16.0).view(1, 1, 4, 4)
    assert resize_code(code, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert resize_code(code, 4) is code
    up = resize_code(code, 8)
    assert up[0, 0, 0, :4].tolist() == [0.0, 0.25, 0.75, 1.25]
    assert resize_code(torch.ones(1, 2, 1, 1), 8).eq(1).all()


def test_a_new_network_makes_nearly_the_mean_head_for_any_image():
    net = tiny_i2t()
    mean = noise(3, 4, 8, 8)
    scale = torch.full((3, 4), 0.01)
    net.set_plane_statistics(mean, scale)
    planes = net(torch.rand(2, 3, 16, 16))
    assert torch.equal(planes[0], planes[1])  # gamma 1 and beta 0 whatever the code
    assert (planes[0] - mean).abs().max() < 0.02


def test_plane_scale_multiplies_what_the_layers_add():
    net = tiny_i2t()
    code = noise(1, 4, 4, 4)
    added = net.decode(code)
    scale = torch.arange(12.0).view(3, 4) + 1
    net.set_plane_statistics(torch.zeros(3, 4, 8, 8), scale)
    torch.testing.assert_close(net.decode(code), added * scale[:, :, None, None])


def test_statistics_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match="different planes"):
        tiny_i2t().set_plane_statistics(torch.zeros(3, 4, 16, 16), torch.ones(3, 4))


@pytest.mark.parametrize("code_size", [1, 2, 4, 8])
def test_every_code_size_encodes_and_trains(code_size):
    net = tiny_i2t(code_size=code_size)
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert net.encode(image).shape == (2, 4, code_size, code_size)
    target = noise(2, 3, 4, 8, 8)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005, betas=(0.0, 0.99))
    losses = []
    for _ in range(40):
        loss = (net(image) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    missing = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing


def test_forward_is_encode_then_decode():
    net, image = tiny_i2t(), torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(net(image), net.decode(net.encode(image)))


def test_scaled_weights_act_at_he_scale():
    torch.manual_seed(0)
    conv = ScaledConv(64, 256)
    acting = conv.weight * conv.gain
    assert acting.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert conv.weight.std().item() == pytest.approx(0.2, rel=0.02)


def test_a_1x1_convolution_is_the_matrix_product_it_is_computed_as():
    conv = ScaledConv(3, 5, 1)
    x, scale = noise(2, 3, 4, 4), noise(5, seed=3)
    with torch.no_grad():
        conv.bias.copy_(noise(5, seed=4))
    expected = torch.nn.functional.conv2d(x, conv.weight * conv.gain, conv.bias)
    torch.testing.assert_close(conv(x), expected)
    torch.testing.assert_close(conv(x, scale), expected * scale[:, None, None])


def test_position_mixing_reaches_every_place_at_once():
    torch.manual_seed(0)
    mixer = PositionMixer(4)
    x = noise(1, 3, 4, 4)
    changed = x.clone()
    changed[0, 0, 3, 3] += 1
    assert (mixer(changed) - mixer(x)).abs().amax(1).min() > 0


def test_wrong_shapes_are_refused():
    net = tiny_i2t()
    with pytest.raises(ShapeError, match=r"encodes images \[B,3,16,16\]"):
        net.encode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ShapeError, match=r"decodes codes \[B,4,4,4\]"):
        net.decode(torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"code_size": 3},
        {"code_size": 512},
        {"plane_resolution": 2},
        {"encoder_channels": ()},
        {"image_resolution": 16},
        {"code_channels": 0},
    ],
)
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(InputError):
        I2TConfig(**wrong)


def test_a_config_survives_json():
    config = tiny_i2t().config
    assert I2TConfig.from_dict(config.to_dict()) == config
    with pytest.raises(InputError, match="no surprise"):
        I2TConfig.from_dict({**config.to_dict(), "surprise": 1})


def test_a_fresh_network_is_seeded_knows_no_head_and_leaves_torch_as_it_was():
    config = tiny_eg3d().config
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    a, b, other = fresh_i2t(config), fresh_i2t(config), fresh_i2t(config, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.start, other.start)
    assert a.plane_mean.abs().max() == 0 and torch.equal(a.plane_scale, torch.ones(3, 4))
    check_i2t_fits(a.config, config)


def test_the_code_may_have_no_spatial_dimension():
    config = i2t_config_for(tiny_eg3d().config, 1)
    assert config == replace(i2t_config_for(tiny_eg3d().config), code_size=1)
    assert i2t_config_for(tiny_eg3d().config).code_size == 4
    net = I2T(config)
    assert net.encode(torch.rand(2, 3, 16, 16)).shape == (2, config.code_channels, 1, 1)
