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
from freestyle_core.models.perceptual import PerceptualConfig, PerceptualNet
from freestyle_core.types import Triplane
from tests.files.tiny_portraits import (
    assert_same_state,
    make_eg3d,
    make_i2t,
    make_portrait,
    rewrite,
)

ROOT = Path(__file__).resolve().parents[2]


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
