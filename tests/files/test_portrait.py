import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from freestyle_core.errors import FileFormatError, InputError, MismatchError
from freestyle_core.files import networks as models
from freestyle_core.files.bundle import load_bundle, save_bundle, weights_hash
from freestyle_core.files.networks import (
    PARTS,
    describe,
    embedded,
    i2t_fits,
    i2t_misfit,
    load_eg3d,
    load_i2t,
    load_perceptual,
    save_eg3d,
    save_i2t,
    save_perceptual,
)
from freestyle_core.files.portrait import load_portrait, save_portrait
from freestyle_core.models.config import EG3DConfig
from freestyle_core.models.eg3d import EG3D
from freestyle_core.models.i2t import I2T, I2TConfig
from freestyle_core.models.perceptual import PerceptualConfig, PerceptualNet
from freestyle_core.types import Portrait, Region, StyleCode, Triplane

ROOT = Path(__file__).resolve().parents[2]


def make_eg3d(seed=0, **changes):
    torch.manual_seed(seed)
    sizes = dict(
        name="tiny",
        z_dim=8,
        w_dim=8,
        plane_resolution=8,
        plane_channels=4,
        channel_base=64,
        channel_max=8,
        decoder_hidden=8,
        feature_channels=4,
        image_resolution=16,
        neural_resolution=8,
        superresolution="2X",
        sr_channels=(4, 4),
        sr_input_resolution=8,
    )
    return EG3D(EG3DConfig(**{**sizes, **changes})).eval()


def make_i2t(seed=1, **changes):
    torch.manual_seed(seed)
    sizes = dict(
        image_resolution=16,
        plane_resolution=8,
        plane_channels=4,
        code_channels=4,
        code_size=4,
        channel_base=64,
        channel_max=8,
        encoder_channels=(4, 8),
    )
    return I2T(I2TConfig(**{**sizes, **changes})).eval()


def make_portrait(eg3d, *, styled):
    generator = torch.Generator().manual_seed(3)
    w = torch.randn(1, eg3d.config.num_ws, 8, generator=generator)
    provenance = {"seed": 3, "prompt": "a bronze statue"}
    if not styled:
        with torch.no_grad():
            planes = eg3d.planes(w)
        return Portrait(eg3d.renderer(), Triplane(planes, 1.0), w, None, provenance)
    network = make_i2t()
    with torch.no_grad():
        w_s = network.encode(torch.rand(1, 3, 16, 16, generator=generator))
        planes = network.decode(w_s)
    style = StyleCode(w_s, network, "parent-hash")
    return Portrait(eg3d.renderer(), Triplane(planes, 1.0), w, style, provenance)


def assert_same_state(a, b):
    assert weights_hash(a.state_dict()) == weights_hash(b.state_dict())


def test_generator_round_trip(tmp_path):
    eg3d = make_eg3d()
    save_eg3d(tmp_path / "g", eg3d, extra={"licence": "x"})
    again = load_eg3d(tmp_path / "g")
    assert again.config == eg3d.config and not again.training
    assert_same_state(again, eg3d)
    assert describe(tmp_path / "g")["extra"] == {"licence": "x"}


def test_perceptual_round_trip(tmp_path):
    net = PerceptualNet(PerceptualConfig(channels=(4, 8), styles=3, identity=2))
    save_perceptual(tmp_path / "p", net)
    again = load_perceptual(tmp_path / "p")
    assert again.config == net.config
    assert_same_state(again, net)


def test_half_precision_generator_has_a_stable_hash(tmp_path):
    save_eg3d(tmp_path / "a", make_eg3d(), dtype=torch.float16)
    loaded = load_eg3d(tmp_path / "a")
    save_eg3d(tmp_path / "b", loaded, dtype=torch.float16)
    assert_same_state(load_eg3d(tmp_path / "b"), loaded)


def test_network_loaded_in_inference_mode_can_be_trained(tmp_path):
    save_i2t(tmp_path / "i", make_i2t(), eg3d="abc")
    with torch.inference_mode():
        i2t = load_i2t(tmp_path / "i")
    i2t(torch.rand(1, 3, 16, 16)).sum().backward()
    assert i2t.start.grad is not None


def test_i2t_knows_its_generator(tmp_path):
    eg3d, i2t = make_eg3d(), make_i2t()
    save_i2t(tmp_path / "i", i2t, eg3d=weights_hash(eg3d.state_dict()))
    assert_same_state(load_i2t(tmp_path / "i", eg3d=eg3d), i2t)
    with pytest.raises(MismatchError, match="pre-trained on another EG3D"):
        load_i2t(tmp_path / "i", eg3d=make_eg3d(seed=9))
    with pytest.raises(MismatchError, match="has plane_channels 4, but EG3D tiny has 6; load"):
        load_i2t(tmp_path / "i", eg3d=make_eg3d(plane_channels=6))


def test_whether_an_i2t_belongs_to_a_generator_is_said_without_raising(tmp_path):
    eg3d, i2t, path = make_eg3d(), make_i2t(), tmp_path / "i"
    save_i2t(path, i2t, eg3d=weights_hash(eg3d.state_dict()))
    assert i2t_misfit(path, eg3d) is None and i2t_fits(path, eg3d)
    other, wider = make_eg3d(seed=9), make_eg3d(plane_channels=6)
    assert i2t_misfit(path, other).startswith("i was pre-trained on another EG3D (")
    assert i2t_misfit(path, wider).startswith("i has plane_channels 4, but EG3D tiny has 6")
    assert not i2t_fits(path, other) and not i2t_fits(path, wider)
    # whatever else may lie there is no I2T of this generator
    assert "is not there" in i2t_misfit(tmp_path / "none", eg3d)
    assert "is not there" in i2t_misfit(tmp_path, eg3d)
    (tmp_path / "half").write_bytes(path.read_bytes()[:99])
    assert "not a complete safetensors" in i2t_misfit(tmp_path / "half", eg3d)
    save_eg3d(tmp_path / "g", eg3d)
    assert "is of kind eg3d, expected i2t" in i2t_misfit(tmp_path / "g", eg3d)
    for value in (0, 3, "four", None, [4]):
        config = {**i2t.config.to_dict(), "code_size": value}
        save_bundle(tmp_path / "odd", "i2t", config, i2t.state_dict(), {"eg3d": "abc"})
        assert "impossible network" in i2t_misfit(tmp_path / "odd", eg3d)


@pytest.mark.parametrize("styled", [False, True])
def test_portrait_round_trip_is_bit_equal(tmp_path, styled):
    eg3d = make_eg3d()
    portrait = make_portrait(eg3d, styled=styled)
    save_portrait(tmp_path / "p", portrait, settings={"views": 10})
    again = load_portrait(tmp_path / "p", eg3d=eg3d)
    assert torch.equal(again.triplane.planes, portrait.triplane.planes)
    assert torch.equal(again.w, portrait.w)
    assert again.triplane.box_size == 1.0
    assert again.provenance == portrait.provenance
    assert_same_state(again.renderer, portrait.renderer)
    if styled:
        assert torch.equal(again.style.w_s, portrait.style.w_s)
        assert again.style.parent == "parent-hash"
        with torch.no_grad():
            assert torch.equal(again.style.network.decode(again.style.w_s), again.triplane.planes)
    else:
        assert again.style is None


def with_residual(portrait, value=0.5):
    """Return the portrait with a style that adds `value` to its network's planes."""
    planes = portrait.triplane.planes
    style = replace(portrait.style, residual=torch.full_like(planes, value))
    return replace(portrait, triplane=Triplane(planes + value, 1.0), style=style)


def test_portrait_with_a_residual_comes_back_bit_by_bit(tmp_path):
    eg3d = make_eg3d()
    plain = make_portrait(eg3d, styled=True)
    portrait = with_residual(plain)
    save_portrait(tmp_path / "p", portrait)
    again = load_portrait(tmp_path / "p", eg3d=eg3d)
    assert torch.equal(again.style.residual, portrait.style.residual)
    assert torch.equal(again.triplane.planes, portrait.triplane.planes)
    with torch.no_grad():
        assert torch.equal(again.style.planes(), again.triplane.planes)
    # 3 planes of 4 channels of 8 x 8 numbers of 4 bytes are all that it adds
    save_portrait(tmp_path / "q", plain)
    sizes = [sum(v.nbytes for v in load_file(tmp_path / name).values()) for name in ("p", "q")]
    assert sizes[0] - sizes[1] == 3 * 4 * 8 * 8 * 4
    assert load_portrait(tmp_path / "q", eg3d=eg3d).style.residual is None


def test_a_restyled_portrait_without_a_network_holds_planes_and_w_alone(tmp_path):
    eg3d = make_eg3d()
    portrait = make_portrait(eg3d, styled=False)
    save_portrait(tmp_path / "p", portrait)
    assert set(load_file(tmp_path / "p")) == {"planes", "w"}
    again = load_portrait(tmp_path / "p", eg3d=eg3d)
    assert again.style is None and again.is_stylized
    assert again.provenance["prompt"] == "a bronze statue"


def test_a_file_without_residual_says_what_it_always_said(tmp_path):
    # so that the same portrait is the same file, and older versions read it
    save_portrait(tmp_path / "p", make_portrait(make_eg3d(), styled=True))
    bundle = load_bundle(tmp_path / "p", "portrait")
    own = {name for name in bundle.state if not name.startswith("network.")}
    assert own == {"planes", "w", "w_s"}
    assert set(bundle.config) == {"box_size", "i2t"}
    assert set(bundle.extra) == {"renderer", "eg3d", "parent", "provenance", "settings"}


@pytest.mark.parametrize(
    "residual", [torch.zeros(1, 3, 4, 4, 4), torch.zeros(1, 3, 4, 8, 8).long(), torch.tensor(1.0)]
)
@pytest.mark.parametrize("styled", [False, True])
def test_a_residual_that_does_not_fit_is_refused(tmp_path, styled, residual):
    eg3d = make_eg3d()
    save_portrait(tmp_path / "p", make_portrait(eg3d, styled=styled))
    rewrite(tmp_path / "p", state={"residual": residual})
    with pytest.raises(FileFormatError, match="residual"):
        load_portrait(tmp_path / "p", eg3d=eg3d)


def test_portrait_decodes_the_same_bits_in_a_new_process(tmp_path):
    eg3d = make_eg3d()
    portrait = make_portrait(eg3d, styled=True)
    save_eg3d(tmp_path / "g", eg3d)
    save_portrait(tmp_path / "p", portrait)
    points = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    save_file({"points": points}, tmp_path / "points")
    script = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from safetensors.torch import load_file, save_file\n"
        "from freestyle_core.files.portrait import load_portrait\n"
        "folder = Path(sys.argv[1])\n"
        "p = load_portrait(folder / 'p', known=[folder / 'g'])\n"
        "with torch.no_grad():\n"
        "    d, c = p.renderer.decode(p.triplane.planes, load_file(folder / 'points')['points'])\n"
        "save_file({'d': d.contiguous(), 'c': c.contiguous()}, folder / 'out')\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, check=True)
    got = load_file(tmp_path / "out")
    with torch.no_grad():
        density, colour = portrait.renderer.decode(portrait.triplane.planes, points)
    assert torch.equal(got["d"], density) and torch.equal(got["c"], colour)


def test_generator_is_found_by_hash(tmp_path):
    eg3d = make_eg3d()
    save_eg3d(tmp_path / "other", make_eg3d(seed=5))
    save_eg3d(tmp_path / "right", eg3d)
    save_portrait(tmp_path / "p", make_portrait(eg3d, styled=False))
    found = load_portrait(
        tmp_path / "p", known=[tmp_path / "none", tmp_path / "other", tmp_path / "right"]
    )
    assert_same_state(found.renderer, eg3d.renderer())
    with pytest.raises(MismatchError, match="not among the known files"):
        load_portrait(tmp_path / "p", known=[tmp_path / "other"])


def test_wrong_generator_is_refused(tmp_path):
    save_portrait(tmp_path / "p", make_portrait(make_eg3d(), styled=False))
    with pytest.raises(MismatchError, match="with other weights; give the EG3D file"):
        load_portrait(tmp_path / "p", eg3d=make_eg3d(seed=5))


def rewrite(path, *, config=None, state=None, extra=None):
    bundle = load_bundle(path, "portrait")
    save_bundle(
        path,
        "portrait",
        {**bundle.config, **(config or {})},
        {**bundle.state, **(state or {})},
        {**bundle.extra, **(extra or {})},
    )


LIES = {
    "planes of another size": {"state": {"planes": torch.zeros(1, 3, 4, 16, 16)}},
    "planes without axes": {"state": {"planes": torch.zeros(4)}},
    "planes that are a number": {"state": {"planes": torch.tensor(1.0)}},
    "two portraits": {"state": {"planes": torch.zeros(2, 3, 4, 8, 8)}},
    "nan": {"state": {"planes": torch.full((1, 3, 4, 8, 8), float("nan"))}},
    "w of another model": {"state": {"w": torch.zeros(1, 4, 9)}},
    "unknown tensor": {"state": {"surprise": torch.zeros(1)}},
    "code of another size": {"state": {"w_s": torch.zeros(1, 4, 8, 8)}},
    "network of another size": {"state": {"network.start": torch.zeros(1, 8, 5, 5)}},
    "network without config": {"config": {"i2t": None}},
    "impossible network": {"config": {"i2t": {"image_resolution": 3}}},
    "network config is a list": {"config": {"i2t": [1, 2]}},
    "another cube": {"config": {"box_size": 2.0}},
    "cube is text": {"config": {"box_size": "1.0"}},
    "provenance is text": {"extra": {"provenance": "me"}},
}


@pytest.mark.parametrize("case", LIES)
def test_portrait_that_lies_is_refused(tmp_path, case):
    eg3d = make_eg3d()
    save_portrait(tmp_path / "p", make_portrait(eg3d, styled=True))
    rewrite(tmp_path / "p", **LIES[case])
    with pytest.raises(FileFormatError):
        load_portrait(tmp_path / "p", eg3d=eg3d)


def test_config_that_claims_a_giant_network_is_refused_without_building_it(tmp_path):
    i2t = make_i2t()
    config = {**i2t.config.to_dict(), "plane_resolution": 2**20, "plane_channels": 2**20}
    save_bundle(tmp_path / "i", "i2t", config, i2t.state_dict(), {"eg3d": "abc"})
    with pytest.raises(FileFormatError, match="lacks tensor|impossible|misshapen"):
        load_i2t(tmp_path / "i")


def test_missing_and_unknown_tensors_are_named(tmp_path):
    eg3d = make_eg3d()
    state = eg3d.state_dict()
    del state["decoder.net.0.bias"]
    save_bundle(tmp_path / "g", "eg3d", eg3d.config.to_dict(), state)
    with pytest.raises(FileFormatError, match=r"lacks tensor decoder\.net\.0\.bias;"):
        load_eg3d(tmp_path / "g")
    state = {**eg3d.state_dict(), "x": torch.zeros(1), "y": torch.zeros(1)}
    save_bundle(tmp_path / "g", "eg3d", eg3d.config.to_dict(), state)
    with pytest.raises(FileFormatError, match="unknown tensor x and 1 more"):
        load_eg3d(tmp_path / "g")


def test_pickle_is_never_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "boom",))

    (tmp_path / "g").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FileFormatError):
        load_eg3d(tmp_path / "g")
    assert not (tmp_path / "boom").exists()


def test_embedded_parts_have_paths_and_unknown_ones_do_not():
    for part, name in PARTS.items():
        assert embedded(part) == models.ASSETS / name
    with pytest.raises(InputError, match="no embedded 'vae'"):
        embedded("vae")


def make_tuned(eg3d):
    """Return a portrait whose renderer is no generator's any more."""
    portrait = make_portrait(eg3d, styled=False)
    parent = weights_hash(eg3d.renderer().state_dict())
    tuned = EG3D(eg3d.config)
    tuned.load_state_dict(eg3d.state_dict())
    with torch.no_grad():
        tuned.decoder.net[0].weight.mul_(1.5)
    return replace(portrait, renderer=tuned.eval().renderer(parent=parent))


def test_a_tuned_renderer_travels_in_the_file(tmp_path):
    eg3d = make_eg3d()
    portrait = make_tuned(eg3d)
    save_portrait(tmp_path / "p.safetensors", portrait)
    again = load_portrait(tmp_path / "p.safetensors")  # no EG3D file holds these weights
    ours, theirs = portrait.renderer.state_dict(), again.renderer.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert again.renderer.parent == portrait.renderer.parent
    assert again.renderer.config == eg3d.config and not again.renderer.training
    save_portrait(tmp_path / "q.safetensors", again)
    assert (tmp_path / "p.safetensors").read_bytes() == (tmp_path / "q.safetensors").read_bytes()


def test_a_renderer_that_tuning_left_as_it_was_is_named_as_ever(tmp_path):
    eg3d = make_eg3d()
    plain = make_portrait(eg3d, styled=False)
    same = replace(plain, renderer=eg3d.renderer(parent=weights_hash(plain.renderer.state_dict())))
    save_portrait(tmp_path / "plain.safetensors", plain)
    save_portrait(tmp_path / "same.safetensors", same)
    files = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("plain", "same")]
    assert files[0] == files[1]
    assert not any(
        name.startswith("renderer.") for name in load_file(tmp_path / "same.safetensors")
    )


def test_a_tuned_portrait_takes_its_parent_and_no_other_generator(tmp_path):
    eg3d = make_eg3d()
    save_portrait(tmp_path / "p.safetensors", make_tuned(eg3d))
    assert load_portrait(tmp_path / "p.safetensors", eg3d=eg3d).renderer.parent is not None
    with pytest.raises(MismatchError, match="was tuned from EG3D tiny"):
        load_portrait(tmp_path / "p.safetensors", eg3d=make_eg3d(seed=9))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c, s: s.pop("renderer.decoder.net.0.bias"), "lacks tensor decoder.net.0.bias"),
        (lambda c, s: s.update({"renderer.more": torch.zeros(1)}), "unknown tensor more"),
        (lambda c, s: c.pop("tuned_from"), "what its renderer was tuned from"),
        (lambda c, s: c.pop("renderer"), "not among the known|not those of a portrait"),
        (lambda c, s: c["renderer"].update(w_dim=9), "w"),
        (lambda c, s: c["renderer"].update(w_dim=-1), "impossible network"),
    ],
)
def test_a_damaged_tuned_renderer_is_named(tmp_path, damage, message):
    path = tmp_path / "p.safetensors"
    save_portrait(path, make_tuned(make_eg3d()))
    bundle = load_bundle(path, "portrait")
    damage(bundle.config, bundle.state)
    save_bundle(path, "portrait", bundle.config, bundle.state, bundle.extra)
    with pytest.raises((FileFormatError, MismatchError), match=message):
        load_portrait(path)


def with_regions(portrait, count=2):
    generator = torch.Generator().manual_seed(5)
    shape = portrait.triplane.planes.shape
    regions = tuple(
        Region(
            torch.rand(5, 5, 5, generator=generator),
            torch.randn(shape, generator=generator),
        )
        for _ in range(count)
    )
    return replace(portrait, triplane=replace(portrait.triplane, regions=regions))


def test_a_portrait_mixed_by_region_comes_back_bit_by_bit(tmp_path):
    eg3d = make_eg3d()
    portrait = with_regions(make_portrait(eg3d, styled=False))
    save_portrait(tmp_path / "p", portrait)
    again = load_portrait(tmp_path / "p", eg3d=eg3d)
    assert len(again.triplane.regions) == 2
    for one, two in zip(again.triplane.regions, portrait.triplane.regions, strict=True):
        assert torch.equal(one.weights, two.weights) and torch.equal(one.planes, two.planes)
    save_portrait(tmp_path / "q", again)
    assert (tmp_path / "p").read_bytes() == (tmp_path / "q").read_bytes()
    assert load_bundle(tmp_path / "p", "portrait").config["regions"] == 2


def test_a_tuned_renderer_and_regions_travel_together(tmp_path):
    save_portrait(tmp_path / "p", with_regions(make_tuned(make_eg3d()), 1))
    again = load_portrait(tmp_path / "p")
    assert again.renderer.parent is not None and len(again.triplane.regions) == 1


WRONG_REGIONS = {
    "one claimed": ({"regions": 1}, {}),
    "three claimed": ({"regions": 3}, {}),
    "none claimed": ({"regions": 0}, {}),
    "text": ({"regions": "2"}, {}),
    "true": ({"regions": True}, {}),
    "a million": ({"regions": 10**6}, {}),
    "flat weights": ({}, {"region.0.weights": torch.zeros(5, 5)}),
    "uneven weights": ({}, {"region.0.weights": torch.zeros(5, 5, 6)}),
    "one weight": ({}, {"region.0.weights": torch.zeros(1, 1, 1)}),
    "a number": ({}, {"region.0.weights": torch.tensor(1.0)}),
    "whole weights": ({}, {"region.0.weights": torch.zeros(5, 5, 5).long()}),
    "other planes": ({}, {"region.1.planes": torch.zeros(1, 3, 4, 4, 4)}),
    "nan": ({}, {"region.1.planes": torch.full((1, 3, 4, 8, 8), float("nan"))}),
    "more": ({}, {"region.0.more": torch.zeros(1)}),
}


@pytest.mark.parametrize("case", WRONG_REGIONS)
def test_regions_that_lie_are_refused(tmp_path, case):
    eg3d = make_eg3d()
    save_portrait(tmp_path / "p", with_regions(make_portrait(eg3d, styled=False)))
    config, state = WRONG_REGIONS[case]
    rewrite(tmp_path / "p", config=config, state=state)
    with pytest.raises(FileFormatError, match="region|tensors|NaN|finite"):
        load_portrait(tmp_path / "p", eg3d=eg3d)
