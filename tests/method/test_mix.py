from dataclasses import replace

import pytest
import torch

from freestyle_core.errors import InputError, MismatchError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.method.mix import mix_portraits, mix_sweep
from freestyle_core.types import StyleCode, Triplane
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_portrait


@pytest.fixture
def eg3d():
    return tiny_eg3d()


@torch.no_grad()
def styled(eg3d, network, *, seed, parent="p"):
    """Return a portrait whose code comes from a made-up front view."""
    generator = torch.Generator().manual_seed(seed)
    w_s = network.encode(torch.rand(1, 3, 16, 16, generator=generator))
    portrait = tiny_portrait(eg3d, seed)
    return replace(
        portrait,
        triplane=Triplane(network.decode(w_s), 1.0),
        style=StyleCode(w_s, network, parent),
    )


def modulated(seed):
    """Return a network whose planes depend on its code (a new one starts at gamma 1, beta 0)."""
    network = tiny_i2t(seed).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for layer in network.layers:
        weight = layer.gamma_beta.weight
        weight.copy_(torch.randn(weight.shape, generator=generator))
    return network


def assert_same_planes(a, b):
    assert torch.equal(a.triplane.planes, b.triplane.planes)
    assert torch.equal(a.w, b.w) and torch.equal(a.style.w_s, b.style.w_s)


def test_the_ends_are_the_two_portraits_bit_by_bit(eg3d):
    a, b = (styled(eg3d, modulated(seed), seed=seed) for seed in (1, 2))
    assert_same_planes(mix_portraits(a, b, 0.0), a)
    assert_same_planes(mix_portraits(a, b, 1.0), b)


def test_one_shared_network_interpolates_the_code_only(eg3d):
    network = modulated(1)
    a, b = (styled(eg3d, network, seed=seed) for seed in (1, 2))
    got = mix_portraits(a, b, 0.25)
    assert got.style.network is network
    torch.testing.assert_close(got.style.w_s, 0.75 * a.style.w_s + 0.25 * b.style.w_s)
    torch.testing.assert_close(got.triplane.planes, network.decode(got.style.w_s))
    torch.testing.assert_close(got.w, 0.75 * a.w + 0.25 * b.w)


def test_two_networks_are_interpolated_with_their_codes(eg3d):
    one, two = modulated(1), modulated(2)
    a, b = styled(eg3d, one, seed=1), styled(eg3d, two, seed=2)
    got = mix_portraits(a, b, 0.5)
    weights = [n.state_dict()["layers.0.conv.weight"] for n in (one, two, got.style.network)]
    torch.testing.assert_close(weights[2], (weights[0] + weights[1]) / 2)
    torch.testing.assert_close(got.triplane.planes, got.style.network.decode(got.style.w_s))


def test_both_forms_agree_where_the_two_networks_are_copies(eg3d):
    shared = modulated(1)
    a, b = styled(eg3d, shared, seed=1), styled(eg3d, shared, seed=2)
    separate = replace(b, style=replace(b.style, network=modulated(1)))
    assert_same_planes(mix_portraits(a, b, 0.3), mix_portraits(a, separate, 0.3))


def test_mixing_changes_neither_portrait(eg3d):
    one, two = modulated(1), modulated(2)
    a, b = styled(eg3d, one, seed=1), styled(eg3d, two, seed=2)
    before = [weights_hash(n.state_dict()) for n in (one, two)], a.triplane.planes.clone()
    mix_portraits(a, b, 0.5)
    assert [weights_hash(n.state_dict()) for n in (one, two)] == before[0]
    assert torch.equal(a.triplane.planes, before[1])


def test_a_sweep_is_even_and_includes_both_ends(eg3d):
    network = modulated(1)
    a, b = (styled(eg3d, network, seed=seed) for seed in (1, 2))
    sweep = mix_sweep(a, b, 5)
    assert [p.provenance["amount"] for p in sweep] == [0, 0.25, 0.5, 0.75, 1]
    assert_same_planes(sweep[0], a)
    assert_same_planes(sweep[4], b)
    with pytest.raises(InputError, match="at least 2"):
        mix_sweep(a, b, 1)


def test_a_mixed_portrait_can_be_mixed_again_and_remembers_its_parts(eg3d):
    a, b, c = (styled(eg3d, modulated(seed), seed=seed) for seed in (1, 2, 3))
    got = mix_portraits(mix_portraits(a, b, 0.5), c, 0.5)
    expected = 0.25 * a.style.w_s + 0.25 * b.style.w_s + 0.5 * c.style.w_s
    torch.testing.assert_close(got.style.w_s, expected)
    assert got.provenance["mix"][0]["mix"][1]["seed"] == 2


def test_different_parents_are_refused(eg3d):
    a = styled(eg3d, modulated(1), seed=1, parent="aaaa")
    b = styled(eg3d, modulated(2), seed=2, parent="bbbb")
    with pytest.raises(MismatchError, match="aaaa and bbbb"):
        mix_portraits(a, b, 0.5)


def test_a_portrait_without_style_is_refused_and_named(eg3d):
    plain, a = tiny_portrait(eg3d), styled(eg3d, modulated(1), seed=1)
    with pytest.raises(MismatchError, match="first portrait has no style"):
        mix_portraits(plain, a, 0.5)
    with pytest.raises(MismatchError, match="second portrait has no style"):
        mix_portraits(a, plain, 0.5)


def test_different_generators_are_refused(eg3d):
    a, b = styled(eg3d, modulated(1), seed=1), styled(tiny_eg3d(seed=5), modulated(2), seed=2)
    with pytest.raises(MismatchError, match="different EG3D"):
        mix_portraits(a, b, 0.5)


@pytest.mark.parametrize("amount", [-0.1, 1.1, float("nan")])
def test_amounts_outside_the_range_are_refused(eg3d, amount):
    a = styled(eg3d, modulated(1), seed=1)
    with pytest.raises(InputError, match="between 0 and 1"):
        mix_portraits(a, a, amount)


def test_mixing_works_in_inference_mode(eg3d):
    a, b = (styled(eg3d, modulated(seed), seed=seed) for seed in (1, 2))
    outside = mix_portraits(a, b, 0.5)
    with torch.inference_mode():
        inside = mix_portraits(a, b, 0.5)
    assert_same_planes(outside, inside)
