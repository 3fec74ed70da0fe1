import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from freestyle_core.errors import InputError, MismatchError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.method import mix
from freestyle_core.method.mix import (
    checked_weights,
    many_frames,
    mix_frames,
    mix_many,
    mix_portraits,
    mix_sweep,
)
from freestyle_core.types import Triplane
from tests.method.styled import modulated, styled
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_portrait


@pytest.fixture
def eg3d():
    return tiny_eg3d()


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


def flat(eg3d, value, *, style=None, provenance=None):
    """Return a portrait whose planes and w are all `value`."""
    portrait = tiny_portrait(eg3d)
    planes = torch.full_like(portrait.triplane.planes, value)
    return replace(
        portrait,
        triplane=Triplane(planes, 1.0),
        w=torch.full_like(portrait.w, value),
        style=style,
        provenance=provenance or {},
    )


@pytest.mark.parametrize("space", ["auto", "planes"])
def test_portraits_without_a_code_are_mixed_by_their_planes(eg3d, space):
    a, b = flat(eg3d, 2.0), flat(eg3d, 6.0, provenance={"prompt": "gold"})
    got = mix_portraits(a, b, 0.25, space=space)
    assert got.style is None and got.renderer is a.renderer
    assert got.triplane.planes.unique().tolist() == [3.0]  # 0.75 * 2 + 0.25 * 6
    assert got.w.unique().tolist() == [3.0]
    expected = {"mix": [{}, {"prompt": "gold"}], "amount": 0.25, "space": "planes"}
    assert got.provenance == expected
    assert got.is_stylized and not mix_portraits(a, a, 0.25).is_stylized


def test_a_restyled_portrait_and_a_plain_one_are_mixed_by_their_planes(eg3d):
    plain, gold = tiny_portrait(eg3d), styled(eg3d, modulated(1), seed=1)
    for a, b in ((plain, gold), (gold, plain)):
        got = mix_portraits(a, b, 0.5)
        assert got.style is None and got.provenance["space"] == "planes"
        torch.testing.assert_close(got.triplane.planes, (a.triplane.planes + b.triplane.planes) / 2)
        assert torch.equal(mix_portraits(a, b, 0).triplane.planes, a.triplane.planes)
        assert torch.equal(mix_portraits(a, b, 1).triplane.planes, b.triplane.planes)


def test_codes_that_could_be_mixed_need_not_be(eg3d):
    network = modulated(1)
    a, b = (styled(eg3d, network, seed=seed) for seed in (1, 2))
    by_codes, by_planes = (mix_portraits(a, b, 0.5, space=s) for s in ("codes", "planes"))
    assert_same_planes(by_codes, mix_portraits(a, b, 0.5))
    assert by_codes.provenance["space"] == "codes" and by_planes.style is None
    straight = (a.triplane.planes + b.triplane.planes) / 2
    torch.testing.assert_close(by_planes.triplane.planes, straight)
    assert not torch.allclose(by_codes.triplane.planes, straight)


def with_residual(portrait, value):
    """Return a portrait whose style adds `value` to its network's planes."""
    planes = portrait.triplane.planes
    style = replace(portrait.style, residual=torch.full_like(planes, value))
    return replace(portrait, style=style, triplane=Triplane(planes + value, 1.0))


@pytest.mark.parametrize(
    ("residuals", "expected"),
    # of a quarter of the way; a missing one counts as zero
    [((2.0, 6.0), 3.0), ((2.0, None), 1.5), ((None, 6.0), 1.5), ((None, None), None)],
)
@pytest.mark.parametrize("seeds", [(1, 1), (1, 2)])  # one network for both, two networks
def test_residuals_are_mixed_along_with_the_codes(eg3d, seeds, residuals, expected):
    networks = [modulated(seed) for seed in seeds]
    bare = [styled(eg3d, network, seed=i) for i, network in enumerate(networks)]
    a, b = (
        portrait if value is None else with_residual(portrait, value)
        for portrait, value in zip(bare, residuals, strict=True)
    )
    got, without = mix_portraits(a, b, 0.25), mix_portraits(*bare, 0.25)
    assert torch.equal(got.style.w_s, without.style.w_s)
    if expected is None:
        assert got.style.residual is None
    else:
        assert got.style.residual.unique().tolist() == [expected]
    torch.testing.assert_close(
        got.triplane.planes, without.triplane.planes + (expected or 0.0), atol=1e-5, rtol=0
    )
    for amount, end in ((0, a), (1, b)):
        reached = mix_portraits(a, b, amount)
        assert_same_planes(reached, end)
        assert (reached.style.residual is None) == (end.style.residual is None)
        assert torch.equal(reached.style.planes(), end.style.planes())


def test_the_ends_keep_planes_that_the_network_would_not_make_to_the_bit(eg3d):
    # as another machine, or another number of threads, adds in another order
    a, b = (styled(eg3d, modulated(seed), seed=seed) for seed in (1, 2))
    a, b = (replace(p, triplane=Triplane(p.triplane.planes + 1e-6, 1.0)) for p in (a, b))
    for mixed in (mix_sweep(a, b, 2), list(mix_frames(a, b, [0, 1]))):
        for got, end in zip(mixed, (a, b), strict=True):
            assert torch.equal(got.triplane.planes, end.triplane.planes)


def test_frames_are_the_mixes_without_their_codes(eg3d):
    one, two = modulated(1), modulated(2)
    a, b = with_residual(styled(eg3d, one, seed=1), 1.0), styled(eg3d, two, seed=2)
    c, plain = styled(eg3d, one, seed=3), tiny_portrait(eg3d)
    before = [weights_hash(network.state_dict()) for network in (one, two)]
    amounts = [0.0, 0.5, 0.25, 1.0]
    for first, second in ((a, b), (a, c), (a, plain)):
        for got, amount in zip(mix_frames(first, second, amounts), amounts, strict=True):
            expected = mix_portraits(first, second, amount)
            assert torch.equal(got.triplane.planes, expected.triplane.planes)
            assert torch.equal(got.w, expected.w)
            assert got.style is None and got.provenance == expected.provenance
    assert [weights_hash(network.state_dict()) for network in (one, two)] == before


@pytest.mark.parametrize(("seeds", "copies"), [((1, 1), 0), ((1, 2), 1)])
def test_many_frames_compare_and_copy_the_networks_once(eg3d, seeds, copies, monkeypatch):
    networks = {seed: modulated(seed) for seed in seeds}
    a, b = (styled(eg3d, networks[seed], seed=i) for i, seed in enumerate(seeds))
    b = replace(b, renderer=tiny_eg3d().renderer())
    copied, compared = [], []
    same, counting = mix.same_weights, lambda n: copied.append(n) or copy.deepcopy(n)
    monkeypatch.setattr(mix, "copy", SimpleNamespace(deepcopy=counting))
    monkeypatch.setattr(mix, "same_weights", lambda *n: compared.append(n) or same(*n))
    assert len(list(mix_frames(a, b, [0.1, 0.5, 0.9]))) == 3
    assert len(copied) == copies
    assert len(compared) == 2  # the renderers and the networks


def test_different_parents_are_mixed_by_their_planes_unless_codes_are_asked_for(eg3d):
    a = styled(eg3d, modulated(1), seed=1, parent="aaaa")
    b = styled(eg3d, modulated(2), seed=2, parent="bbbb")
    with pytest.raises(MismatchError, match="aaaa and bbbb.*space planes or auto"):
        mix_portraits(a, b, 0.5, space="codes")
    assert mix_portraits(a, b, 0.5).provenance["space"] == "planes"


def test_one_parent_with_networks_of_other_sizes_has_no_mixed_codes(eg3d):
    # a damaged file could claim so; the weights must not be tried
    other = tiny_i2t(2, encoder_channels=(4, 4))
    a, b = styled(eg3d, modulated(1), seed=1), styled(eg3d, other, seed=2)
    with pytest.raises(MismatchError, match="different pre-trained I2T"):
        mix_portraits(a, b, 0.5, space="codes")
    assert mix_portraits(a, b, 0.5).style is None


def test_codes_of_a_portrait_without_style_are_refused_and_it_is_named(eg3d):
    plain, a = tiny_portrait(eg3d), styled(eg3d, modulated(1), seed=1)
    with pytest.raises(MismatchError, match="first portrait has no style"):
        mix_portraits(plain, a, 0.5, space="codes")
    with pytest.raises(MismatchError, match="second portrait has no style"):
        list(mix_frames(a, plain, [0.5], space="codes"))
    with pytest.raises(InputError, match="auto, codes, planes, got 'code'"):
        mix_portraits(a, a, 0.5, space="code")


def test_batches_of_portraits_are_refused(eg3d):
    a = tiny_portrait(eg3d)
    two = replace(a, triplane=Triplane(a.triplane.planes.expand(2, -1, -1, -1, -1), 1.0))
    with pytest.raises(MismatchError, match="one at a time"):
        mix_portraits(a, two, 0.5)


def test_different_generators_are_refused(eg3d):
    a, b = styled(eg3d, modulated(1), seed=1), styled(tiny_eg3d(seed=5), modulated(2), seed=2)
    for space in ("auto", "codes", "planes"):
        with pytest.raises(MismatchError, match="different EG3D"):
            mix_portraits(a, b, 0.5, space=space)
    wider = replace(a, triplane=Triplane(a.triplane.planes, 2.0))
    with pytest.raises(MismatchError, match="different EG3D"):
        mix_portraits(a, wider, 0.5)


@pytest.mark.parametrize("amount", [-0.1, 1.1, float("nan")])
def test_amounts_outside_the_range_are_refused(eg3d, amount):
    a = styled(eg3d, modulated(1), seed=1)
    with pytest.raises(InputError, match="between 0 and 1"):
        mix_portraits(a, a, amount)
    with pytest.raises(InputError, match="between 0 and 1"):
        list(mix_frames(a, a, [0.5, amount]))


def test_mixing_works_in_inference_mode(eg3d):
    a, b = (styled(eg3d, modulated(seed), seed=seed) for seed in (1, 2))
    outside = mix_portraits(a, b, 0.5)
    with torch.inference_mode():
        inside = mix_portraits(a, b, 0.5)
        (frame,) = mix_frames(a, b, [0.5])
    assert_same_planes(outside, inside)
    assert torch.equal(frame.triplane.planes, inside.triplane.planes)


def test_many_are_the_weighted_sum_and_the_ends_come_back(eg3d):
    portraits = [flat(eg3d, value) for value in (1.0, 2.0, 4.0, 8.0)]
    got = mix_many(portraits, [0.5, 0.25, 0.125, 0.125])
    assert got.triplane.planes.unique().tolist() == [2.5]  # 0.5 + 0.5 + 0.5 + 1
    assert got.w.unique().tolist() == [2.5]
    assert got.provenance["weights"] == [0.5, 0.25, 0.125, 0.125]
    assert len(got.provenance["mix"]) == 4
    for index, portrait in enumerate(portraits):
        end = mix_many(portraits, [float(i == index) for i in range(4)])
        assert torch.equal(end.triplane.planes, portrait.triplane.planes)


def test_many_with_codes_mix_codes_networks_and_residuals(eg3d):
    three = [styled(eg3d, modulated(seed), seed=seed) for seed in (1, 2, 3)]
    three[1] = with_residual(three[1], 2.0)
    weights = [0.5, 0.25, 0.25]
    got = mix_many(three, weights)
    codes = sum(share * p.style.w_s for share, p in zip(weights, three, strict=True))
    torch.testing.assert_close(got.style.w_s, codes)
    name = "layers.0.conv.weight"
    states = [p.style.network.state_dict()[name] for p in three]
    expected = sum(share * state for share, state in zip(weights, states, strict=True))
    torch.testing.assert_close(got.style.network.state_dict()[name], expected)
    assert got.style.residual.unique().tolist() == [0.5]
    (frame,) = many_frames(three, [weights])
    assert torch.equal(frame.triplane.planes, got.triplane.planes) and frame.style is None
    # one without a code among them: planes
    assert mix_many([*three, tiny_portrait(eg3d)], [0.25] * 4).provenance["space"] == "planes"
    with pytest.raises(MismatchError, match="third portrait has no style"):
        mix_many([three[0], three[1], tiny_portrait(eg3d)], [0.5, 0.25, 0.25], space="codes")


def test_two_by_weights_are_two_by_amount(eg3d):
    a, b = (styled(eg3d, modulated(seed), seed=seed) for seed in (1, 2))
    assert_same_planes(mix_many([a, b], [0.75, 0.25]), mix_portraits(a, b, 0.25))


BAD_WEIGHTS = {
    "too few": ([0.5, 0.5], "3 portraits need as many weights, got 2: 0.5, 0.5"),
    "negative": ([1.5, -0.25, -0.25], "weights must be from 0 to 1, got 1.5, -0.25, -0.25"),
    "nan": ([float("nan"), 0.5, 0.5], "from 0 to 1"),
    "less": ([0.5, 0.2, 0.2], "must be 1 together, got 0.5, 0.2, 0.2, which is 0.9"),
    "more": ([1.0, 0.5, 0.0], "which is 1.5"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_weights_that_share_out_no_whole_are_refused(eg3d, case):
    weights, message = BAD_WEIGHTS[case]
    three = [tiny_portrait(eg3d, seed) for seed in range(3)]
    with pytest.raises(InputError, match=message):
        mix_many(three, weights)
    with pytest.raises(InputError, match=message):
        many_frames(three, [weights])


def test_thirds_are_a_whole_and_made_one_exactly(eg3d):
    assert checked_weights([0.333, 0.333, 0.333], 3) == pytest.approx([1 / 3] * 3)


def test_mixes_are_of_two_to_four(eg3d):
    for count in (1, 5):
        with pytest.raises(InputError, match=f"of 2 to 4 portraits, got {count}"):
            mix_many([tiny_portrait(eg3d)] * count, [1 / count] * count)
    other = tiny_portrait(tiny_eg3d(seed=5))
    with pytest.raises(MismatchError, match="different EG3D"):
        mix_many([tiny_portrait(eg3d)] * 2 + [other], [0.5, 0.25, 0.25])
