"""Official EG3D pickles: the sample, the format, other writers, and the way to safetensors."""

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from freestyle_core.__main__ import main
from freestyle_core.errors import FileFormatError, InputError
from freestyle_core.files.bundle import load_bundle, load_header, weights_hash
from freestyle_core.files.networks import convert_official, describe, load_eg3d, load_i2t, save_i2t
from freestyle_core.files.official.eg3d import LICENCE, open_official
from freestyle_core.files.official.pickles import Record
from freestyle_core.files.official.storages import StoredTensor
from freestyle_core.files.portrait import load_portrait, save_portrait
from freestyle_core.method.render import render
from freestyle_core.method.sample import sample_portrait
from freestyle_core.models.eg3d import EG3D
from freestyle_core.types import Triplane
from tests.official_pickle import write_official
from tests.pickle_tools import SAMPLE, peak_mb, records_of
from tests.pickle_writer import STORAGE, TENSOR, Call, storage_bytes
from tests.tiny import tiny_eg3d, tiny_i2t

ROOT = Path(__file__).resolve().parents[3]
PICTURE = {"atol": 3e-4, "rtol": 0}


@pytest.fixture(scope="module")
def sample():
    return load_eg3d(SAMPLE)


def assert_same_network(a, b):
    # several channel_base and channel_max give the same widths, which the tensors show
    same = dict(name="", licence="", channel_base=1, channel_max=1)
    assert replace(a.config, **same) == replace(b.config, **same)
    assert set(a.state_dict()) == set(b.state_dict())
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name]), name


# The sample ---------------------------------------------------------------------------------------


def test_sample_has_the_bits_of_the_reference(sample, tiny):
    expected = load_file(SAMPLE.parent / "eg3d_tiny_state.safetensors")
    with open_official(SAMPLE) as official:
        state = official.read()
    assert set(state) == set(expected) - {"dataset_label_std"}
    for name, value in state.items():
        assert value.dtype == torch.float32 and torch.equal(value, expected[name]), name
    assert_same_network(sample, tiny.eg3d)
    assert sample.config.name == SAMPLE.stem and not sample.training


def test_everything_that_a_picture_depends_on_comes_along(sample):
    config = sample.config
    assert config.licence == LICENCE and "non-commercial" in config.licence
    assert (config.neural_resolution, config.image_resolution) == (16, 64)
    assert config.plane_axes == ("xy", "xz", "zx")
    assert (config.camera_radius, config.camera_pivot) == (2.7, (0, 0, 0.2))
    assert (config.ray_start, config.ray_end, config.box_size) == (2.25, 3.3, 1)
    assert (config.depth_samples, config.importance_samples) == (12, 12)
    assert (config.sr_channels, config.sr_input_resolution, config.sr_clamp) == ((32, 16), 16, 256)


@pytest.mark.parametrize("camera", [0, 1, 2])
@pytest.mark.parametrize("identity", [0, 1])
def test_frames_of_the_sample_match_reference(sample, tiny, identity, camera):
    label = tiny.io["c_cond"]
    ws = sample.map(tiny.io["z"][identity : identity + 1], label, psi=0.7, cutoff=5)
    assert_close(ws, tiny.io["ws_psi0.7_cut5"][identity : identity + 1], atol=1e-5, rtol=0)
    planes = sample.planes(ws)
    assert_close(planes.flatten(1, 2), tiny.io[f"z{identity}.planes_const"], atol=1e-5, rtol=0)
    triplane = Triplane(planes, sample.config.box_size)
    with torch.no_grad():
        got = render(sample.renderer(), triplane, ws, tiny.cameras[camera])
    name = f"frame.z{identity}.c{camera}.mid"
    assert_close(got.image * 2 - 1, tiny.io[f"{name}.image"], **PICTURE)
    assert_close(got.raw * 2 - 1, tiny.io[f"{name}.image_raw"], **PICTURE)
    seen = got.alpha > 1e-4
    assert_close(got.depth[seen], tiny.io[f"{name}.image_depth"][seen], **PICTURE)


# The format ---------------------------------------------------------------------------------------


def assert_same_records(a, b, path=""):
    assert type(a) is type(b), path
    if isinstance(a, Record):
        assert a.kind == b.kind, path
        assert_same_records(a.state, b.state, path)
    elif isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_same_records(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, StoredTensor):
        assert (a.shape, a.stride, a.storage.dtype) == (b.shape, b.stride, b.storage.dtype), path
        assert "dataset_label_std" in path or torch.equal(a.read(), b.read()), path
    else:
        assert a == b, path


def test_the_writer_of_these_tests_makes_what_the_reference_made(sample, tmp_path):
    path = write_official(tmp_path / "w.pkl", sample)
    with records_of(SAMPLE) as expected, records_of(path) as got:
        assert list(got) == list(expected)
        assert_same_records(got["G_ema"], expected["G_ema"])


VARIANTS = {
    "ffhq": dict(superresolution="8XDC", image_resolution=32),
    "cars": dict(
        superresolution="2X",
        white_background=True,
        box_size=1.6,
        c_zero=True,
        focal=1.7074,
        camera_radius=1.7,
        camera_pivot=(0, 0, 0),
        ray_start=0.1,
        ray_end=2.6,
    ),
    "auto limits": dict(ray_start="auto", ray_end="auto"),
    "4X": dict(superresolution="4X"),
    "8X": dict(superresolution="8X", image_resolution=32),
    "no half precision": dict(sr_clamp=None),
    "narrow everywhere": dict(channel_base=16, channel_max=16, plane_resolution=16),
    "deep mapping": dict(mapping_layers=5, z_dim=12, w_dim=6),
    "unconditional": dict(c_dim=0),
    "fork with a yz plane": dict(plane_axes=("xy", "xz", "zy")),
    "other samples": dict(
        depth_samples=9,
        importance_samples=5,
        disparity_sampling=True,
        sr_noise="const",
        c_scale=0.5,
        decoder_lr_mul=0.5,
        sr_antialias=False,
    ),
}


@pytest.mark.parametrize("sizes", ["stored", "from tensors"])
@pytest.mark.parametrize("name", VARIANTS)
def test_numbers_and_tensors_survive(tmp_path, name, sizes):
    eg3d = tiny_eg3d(**VARIANTS[name])
    path = write_official(tmp_path / "n.pkl", eg3d, explicit_sizes=sizes == "stored")
    assert_same_network(load_eg3d(path), eg3d)


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("old", [False, True])
def test_other_writers_load(tmp_path, protocol, old):
    eg3d = tiny_eg3d()
    path = write_official(tmp_path / "n.pkl", eg3d, protocol=protocol, old=old)
    assert_same_network(load_eg3d(path), eg3d)


def test_tensor_left_on_a_gpu_and_a_view_load(tmp_path):
    """An attribute may have stayed on the GPU of the training; a tensor may be part of another."""
    axes = torch.eye(3)[torch.tensor([[2, 1, 0], [0, 2, 1], [1, 0, 2]])]
    blob = storage_bytes(
        torch.cat([torch.ones(2), axes.flatten()]).numpy().tobytes(),
        count=29,
        device="cuda:0",
        module="torch.cuda",
    )
    view = Call(TENSOR, (Call(STORAGE, (blob,)), 2, (3, 3, 3), (9, 3, 1), False, {}))
    eg3d = tiny_eg3d(plane_axes=("zy", "xz", "yx"))
    path = write_official(
        tmp_path / "n.pkl", eg3d, change=lambda layout: setattr(layout, "plane_axes", lambda: view)
    )
    assert_same_network(load_eg3d(path), eg3d)


def test_transposed_tensors_load(tmp_path):
    eg3d = tiny_eg3d()
    layer = eg3d.decoder.net[0]
    layer.weight = torch.nn.Parameter(layer.weight.detach().t().contiguous().t())
    assert not layer.weight.is_contiguous()
    assert_same_network(load_eg3d(write_official(tmp_path / "n.pkl", eg3d)), eg3d)


CHANGED = {
    "clamp_mode": (dict(rendering={"clamp_mode": "relu"}), "clamp_mode 'relu'"),
    "clamped backbone": (dict(init={"conv_clamp": 256}), "conv_clamp"),
    "unknown super-resolution": (
        dict(rendering={"superresolution_module": "training.superresolution.Mine"}),
        "Mine",
    ),
    "box of text": (dict(rendering={"box_warp": "wide"}), "ValueError"),
    "no box": (dict(rendering={"box_warp": None}), "TypeError"),
    "endless rays": (dict(rendering={"depth_resolution": 10**9}), "depth_samples"),
    "radius zero": (dict(rendering={"avg_camera_radius": 0.0}), "camera_radius"),
    "noise": (dict(rendering={"superresolution_noise_mode": ["none"]}), "sr_noise"),
    "pivot": (dict(rendering={"avg_camera_pivot": [0, 0]}), "camera_pivot"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_cannot_be_rendered_the_same_is_refused(tmp_path, name):
    changes, message = CHANGED[name]
    with pytest.raises(FileFormatError, match=message):
        load_eg3d(write_official(tmp_path / "n.pkl", tiny_eg3d(), **changes))


# From there on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_converted_file_is_bit_equal(tmp_path, dtype):
    eg3d = tiny_eg3d()
    source = write_official(tmp_path / "cats.pkl", eg3d, dtype=dtype)
    config = convert_official(source, tmp_path / "cats.safetensors")
    bundle = load_bundle(tmp_path / "cats.safetensors", "eg3d")
    assert bundle.config == config.to_dict() and bundle.extra == {"converted_from": "cats.pkl"}
    stored = load_file(tmp_path / "cats.safetensors")
    for name, value in eg3d.state_dict().items():
        assert stored[name].dtype == torch.float32
        assert torch.equal(stored[name], value.to(dtype).float()), name
    assert weights_hash(load_eg3d(source).state_dict()) == weights_hash(stored)


def test_i2t_of_the_pickle_fits_the_converted_file(tmp_path):
    eg3d = load_eg3d(write_official(tmp_path / "n.pkl", tiny_eg3d()))
    save_i2t(tmp_path / "i2t", tiny_i2t(), eg3d=weights_hash(eg3d.state_dict()))
    convert_official(tmp_path / "n.pkl", tmp_path / "n.safetensors")
    load_i2t(tmp_path / "i2t", eg3d=load_eg3d(tmp_path / "n.safetensors"))


def test_convert_and_info_commands(tmp_path, capsys):
    source = write_official(tmp_path / "ffhq.pkl", tiny_eg3d())
    assert main(["convert", str(source), str(tmp_path / "out" / "ffhq.safetensors")]) == 0
    assert LICENCE in capsys.readouterr().out
    assert load_header(tmp_path / "out" / "ffhq.safetensors").config["name"] == "ffhq"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["ffhq.safetensors"]
    assert main(["info", str(source)]) == 0
    assert "non-commercial" in capsys.readouterr().out
    assert describe(source)["kind"] == "eg3d"


@pytest.mark.parametrize(
    "source, target",
    [
        ("whole.pkl", "out/a.bin"),
        ("none.pkl", "out/a.safetensors"),
        ("whole.safetensors", "out/a.safetensors"),
        ("broken.pkl", "out/a.safetensors"),
    ],
)
def test_failed_conversion_leaves_nothing(tmp_path, capsys, source, target):
    write_official(tmp_path / "whole.pkl", tiny_eg3d())
    (tmp_path / "broken.pkl").write_bytes((tmp_path / "whole.pkl").read_bytes()[:-1000])
    assert main(["convert", str(tmp_path / source), str(tmp_path / target)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_convert_takes_pickles_only(tmp_path):
    with pytest.raises(InputError, match=r"official \.pkl files, got 'x\.safetensors'"):
        convert_official(tmp_path / "x.safetensors", tmp_path / "y.safetensors")


def test_licence_is_recorded_in_the_portrait(tmp_path):
    path = write_official(tmp_path / "n.pkl", tiny_eg3d())
    save_portrait(tmp_path / "p.safetensors", sample_portrait(load_eg3d(path), 3))
    again = load_portrait(tmp_path / "p.safetensors", known=[path])
    assert again.provenance["licence"] == LICENCE
    assert load_header(tmp_path / "p.safetensors").extra["provenance"]["licence"] == LICENCE


def test_broken_file_does_not_hide_the_right_one(tmp_path, caplog):
    path = write_official(tmp_path / "n.pkl", tiny_eg3d())
    (tmp_path / "a.pkl").write_bytes(b"<html>")
    save_portrait(tmp_path / "p.safetensors", sample_portrait(load_eg3d(path), 3))
    with caplog.at_level(logging.WARNING):
        load_portrait(tmp_path / "p.safetensors", known=[tmp_path / "a.pkl", path])
    assert "a.pkl is a web page" in caplog.text


# At full size -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_full_size_file_needs_little_memory_beside_the_model(tmp_path):
    """Peak of loading, above a process that only builds the model, is at most 1.5 file sizes."""
    script = "import sys\nfrom tests.test_official import {0}\n{0}(sys.argv[1])\n"
    path = tmp_path / "ffhq512-128.pkl"

    def peak(job):
        run = subprocess.run(
            [sys.executable, "-c", script.format(job), str(path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return float(run.stdout)  # MB

    peak("write_full_size")
    size = path.stat().st_size / 2**20
    model, loaded = peak("build_full_size"), peak("load_full_size")
    sys.stdout.write(f"file {size:.0f} MB, model {model:.0f} MB, loading {loaded:.0f} MB\n")
    assert size > 360
    assert loaded - model < 1.5 * size


def write_full_size(path):
    from freestyle_core.models.config import EG3DConfig

    torch.manual_seed(0)
    eg3d = EG3D(EG3DConfig())
    filler = Call(
        TENSOR,
        (
            Call(STORAGE, (storage_bytes(bytes(4 * 31_360_000), count=31_360_000),)),
            0,
            (31_360_000,),
            (1,),
            False,
            {},
        ),
    )  # D has about as many numbers
    write_official(path, eg3d, copies=("G", "G_ema"), explicit_sizes=False, snapshot={"D": filler})
    report_peak()


def build_full_size(path):
    from freestyle_core.models.config import EG3DConfig

    network = EG3D(EG3DConfig())
    assert sum(p.numel() for p in network.parameters()) == 30_662_136
    report_peak()


def load_full_size(path):
    network = load_eg3d(path)
    assert sum(p.numel() for p in network.parameters()) == 30_662_136
    assert network.config.plane_resolution == 256 and network.config.num_ws == 14
    report_peak()


def report_peak():
    sys.stdout.write(str(peak_mb()))
