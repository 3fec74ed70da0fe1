"""StyleGAN2 layers against the reference's numbers, and the identities they rest on."""

import math

import pytest
import torch
from torch.testing import assert_close

from freestyle_core.models.layers import (
    FullyConnected,
    SynthesisLayer,
    ToRGB,
    _activated,
    filter2d,
    modulated_conv,
    normalize_2nd_moment,
    scaled_lrelu,
    smoothing_filter,
    spread_conv,
    upsample2d,
)


def parameters(ops, name):
    return {k.removeprefix(f"{name}.p."): v for k, v in ops.items() if k.startswith(f"{name}.p.")}


def test_smoothing_filter_matches_reference(ops):
    assert_close(smoothing_filter(), ops["resample_filter_1331"])
    assert smoothing_filter().sum() == 1


def test_upsample_matches_reference(ops):
    got = upsample2d(ops["upsample2d.in"], smoothing_filter())
    assert_close(got, ops["upsample2d.out"], atol=1e-6, rtol=0)


def test_upsample_of_a_constant_is_that_constant_inside():
    got = upsample2d(torch.full((1, 1, 6, 6), 3.0), smoothing_filter())
    assert_close(got[..., 2:-2, 2:-2], torch.full((1, 1, 8, 8), 3.0))


def test_filter_of_one_pixel_is_the_filter():
    x = torch.zeros(1, 1, 7, 7)
    x[..., 3, 3] = 1
    got = filter2d(x, smoothing_filter(), padding=0)
    assert_close(got[0, 0], smoothing_filter())


def test_fully_connected_matches_reference(ops):
    layer = FullyConnected(6, 5, activation="lrelu", lr_multiplier=0.01)
    layer.load_state_dict({k: ops[f"fc_lrelu_lr0.01.{k}"] for k in ("weight", "bias")})
    assert_close(layer(ops["fc_lrelu_lr0.01.x"]), ops["fc_lrelu_lr0.01.out"], atol=1e-6, rtol=0)


def test_second_moment_normalisation_matches_reference(ops):
    assert_close(normalize_2nd_moment(ops["norm2nd.in"]), ops["norm2nd.out"], atol=1e-6, rtol=0)


def test_scaled_lrelu_slopes_and_gain():
    x = torch.tensor([-10.0, -1.0, 0.0, 1.0, 10.0])
    root = math.sqrt(2)
    assert_close(scaled_lrelu(x), torch.tensor([-2 * root, -0.2 * root, 0, root, 10 * root]))


@pytest.mark.parametrize("batch", [1, 2])  # weights modulated, or input and output scaled
@pytest.mark.parametrize(
    "name, demodulate, up",
    [("modconv3", True, False), ("modconv3_up2", True, True), ("modconv1_nodemod", False, False)],
)
def test_modulated_convolution_matches_reference(ops, name, demodulate, up, batch):
    x, weight, styles = (ops[f"{name}.{k}"][:batch] for k in ("x", "weight", "styles"))
    weight = ops[f"{name}.weight"]
    taps = smoothing_filter() if up else None
    got = modulated_conv(x, weight, styles, demodulate=demodulate, up_taps=taps)
    assert_close(got, ops[f"{name}.out"][:batch], atol=2e-6, rtol=1e-5)


def test_one_style_for_a_batch_equals_the_same_style_repeated():
    generator = torch.Generator().manual_seed(0)
    x, weight, style = (
        torch.randn(s, generator=generator) for s in ((3, 5, 6, 6), (4, 5, 3, 3), (1, 5))
    )
    shared = modulated_conv(x, weight, style, up_taps=smoothing_filter())
    each = modulated_conv(x, weight, style.expand(3, -1), up_taps=smoothing_filter())
    assert_close(shared, each, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 3)])
def test_spreading_as_four_convolutions_is_the_transposed_convolution(size):
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(s, generator=generator) for s in ((2, 5, *size), (4, 5, 3, 3)))
    learnt = spread_conv(x, weight)
    with torch.no_grad():
        assert_close(spread_conv(x, weight), learnt, atol=1e-5, rtol=1e-5)
    assert learnt.shape == (2, 4, 2 * size[0] + 1, 2 * size[1] + 1)


@pytest.mark.parametrize("batch", [1, 2])  # inside the weights, or after the convolution
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("up", [True, False])
def test_gain_and_bias_are_those_of_the_result(batch, demodulate, up):
    generator = torch.Generator().manual_seed(0)
    x, weight, styles, bias = (
        torch.randn(s, generator=generator) for s in ((2, 5, 6, 6), (4, 5, 3, 3), (batch, 5), (4,))
    )
    options = {"demodulate": demodulate, "up_taps": smoothing_filter() if up else None}
    plain = modulated_conv(x, weight, styles, **options)
    got = modulated_conv(x, weight, styles, gain=1.5, bias=bias, **options)
    assert_close(got, 1.5 * plain + bias[:, None, None], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("clamp", [None, 0.7])
def test_a_layer_gives_the_same_with_and_without_gradients_and_keeps_its_input(clamp):
    torch.manual_seed(0)
    layer = SynthesisLayer(5, 4, 6, 8, clamp=clamp)
    x, w = torch.randn(2, 5, 8, 8), torch.randn(1, 6)
    before = x.clone()
    learnt = layer(x, w, "none")
    with torch.no_grad():
        assert_close(layer(x, w, "none"), learnt.detach(), atol=0, rtol=0)
    assert torch.equal(x, before) and learnt.requires_grad


@pytest.mark.parametrize("clamp", [None, 0.71])
def test_the_gradient_of_an_activation_is_that_of_its_parts(clamp):
    x = torch.linspace(-5, 1, 61, dtype=torch.float64).requires_grad_()
    weight = torch.arange(61, dtype=torch.float64)
    got = _activated(x * 1, clamp)  # in the memory of what it is given
    plain = torch.nn.functional.leaky_relu(x, 0.2)
    plain = plain if clamp is None else plain.clamp(-clamp, clamp)
    assert_close(got, plain, atol=0, rtol=0)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (got, plain)]
    assert_close(*gradients, atol=0, rtol=0)


def test_demodulation_makes_the_size_of_weights_irrelevant():
    generator = torch.Generator().manual_seed(1)
    x, weight, styles = (
        torch.randn(s, generator=generator) for s in ((2, 5, 4, 4), (4, 5, 3, 3), (2, 5))
    )
    once = modulated_conv(x, weight, styles)
    assert_close(modulated_conv(x, 7 * weight, 3 * styles), once, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "name, up, clamp",
    [
        ("synlayer_up1_clamp", False, 0.7),
        ("synlayer_up2", True, None),
        ("synlayer_up2_clamp256", True, 256.0),
    ],
)
@pytest.mark.parametrize("noise", ["const", "none"])
def test_synthesis_layer_matches_reference(ops, name, up, clamp, noise):
    layer = SynthesisLayer(5, 4, 6, 8, up=up, clamp=clamp)
    layer.load_state_dict(parameters(ops, name))
    got = layer(ops[f"{name}.x"], ops[f"{name}.w"], noise)
    expected = ops[f"{name}.out_{noise}"]
    # values reach the clamp of 256, so rounding is measured against the largest
    assert_close(got, expected, atol=2e-6 * max(1.0, expected.abs().max().item()), rtol=0)


def test_random_noise_repeats_with_the_seed_and_scales_with_strength():
    layer = SynthesisLayer(3, 4, 6, 8)
    with torch.no_grad():
        layer.noise_strength.fill_(0.5)
    x, w = torch.ones(2, 3, 8, 8), torch.ones(2, 6)
    first, again, other = (
        layer(x, w, "random", torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert_close(first, again, atol=0, rtol=0)
    assert (first - other).abs().max() > 0.1


def test_torgb_matches_reference(ops):
    layer = ToRGB(5, 3, 6)
    layer.load_state_dict(parameters(ops, "torgb"))
    assert_close(layer(ops["torgb.x"], ops["torgb.w"]), ops["torgb.out"], atol=1e-6, rtol=1e-5)
