"""The standard of the pickle reader for every other file: no lie costs memory, nothing is run."""

import ast
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from freestyle_core.errors import FileFormatError, FreeStyleError, MismatchError
from freestyle_core.files.bundle import METADATA_KEY, load_bundle, load_header, save_bundle
from freestyle_core.files.networks import (
    load_eg3d,
    load_i2t,
    load_perceptual,
    save_eg3d,
    save_i2t,
    save_perceptual,
)
from freestyle_core.files.portrait import load_portrait, save_portrait
from freestyle_core.models.perceptual import PerceptualConfig, PerceptualNet
from freestyle_core.pretrain.run import load_checkpoint
from tests.pickle_tools import peak_mb
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_portrait

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [
    p
    for part in ("freestyle_core", "nodes", "benchmarks")
    for p in sorted((ROOT / part).rglob("*.py"))
] + [ROOT / "__init__.py"]
# converts the weights of a package that whoever starts it has chosen; nothing else may
CONVERTER = ROOT / "benchmarks" / "convert_mtcnn.py"
READERS_OF_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_source_reads_a_file_that_can_run_code(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = {a.name.split(".")[0] for a in node.names}
            assert not READERS_OF_CODE & named or (path == CONVERTER and named == {"joblib"})
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert node.module.split(".")[0] not in READERS_OF_CODE
            loads = node.module.split(".")[0] == "torch" and {a.name for a in node.names} & {"load"}
            assert not loads, "call it torch.load, so that this test can see its arguments"
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if name in ("torch.load", "torch.serialization.load"):
                assert given.get("weights_only") == "True", f"{path}:{node.lineno}"
            assert given.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
            assert given.get("trust_remote_code", "False") == "False", f"{path}:{node.lineno}"


def header(text, data=bytes(8), length=None):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


LIES = {
    "header of an exabyte": header(b"{}", length=2**60),
    "header of a gigabyte": header(b"{}", length=2**30),
    "header past the end": header(b"{}", length=100),
    "header that is a list": header([]),
    "header that is not JSON": header(b"{'x': 1}"),
    "header that is not text": header(b"\xff\xfe\xfd"),
    "header nested without end": header(b"[" * 100_000),
    "tensors on top of each other": header({"x": entry([2], 0, 8), "y": entry([2], 0, 8)}),
    "hole between tensors": header({"x": entry([1], 0, 4), "y": entry([1], 8, 12)}, bytes(12)),
    "terabyte tensor": header({"x": entry([2**38], 0, 2**40)}),
    "overflowing shape": header({"x": entry([2**63, 2], 0, 8)}),
    "shape of text": header({"x": entry(["2"], 0, 8)}),
    "shape of fractions": header({"x": entry([2.0], 0, 8)}),
    "offsets of text": header({"x": {"dtype": "F32", "shape": [2], "data_offsets": "08"}}),
    "half the dtype": header({"x": entry([2], 0, 8, "F64")}),
    "data after the end": header({"x": entry([2], 0, 8)}, bytes(800)),
}


@pytest.mark.parametrize("name", LIES)
def test_safetensors_that_lies_is_refused(tmp_path, name):
    path = tmp_path / "lie.safetensors"
    path.write_bytes(LIES[name])
    before = peak_mb()
    for load in (
        lambda: load_bundle(path, "eg3d"),
        lambda: load_header(path),
        lambda: load_eg3d(path),
        lambda: load_portrait(path),
    ):
        with pytest.raises(FileFormatError, match=r"lie\.safetensors"):
            load()
    assert peak_mb() - before < 100


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity", "9" * 4000])
@pytest.mark.parametrize("field", ["c_scale", "box_size", "z_dim", "plane_resolution"])
def test_config_numbers_that_are_no_numbers_are_refused(tmp_path, field, number):
    save_eg3d(tmp_path / "g", tiny_eg3d())
    bundle = load_bundle(tmp_path / "g", "eg3d")
    text = json.dumps(
        {"version": 1, "kind": "eg3d", "extra": {}, "config": {**bundle.config, field: "HERE"}}
    ).replace('"HERE"', number)
    save_file(bundle.state, tmp_path / "g", metadata={METADATA_KEY: text})
    with pytest.raises(FileFormatError):
        load_eg3d(tmp_path / "g")


FILES = {
    "eg3d": (lambda p: save_eg3d(p, tiny_eg3d()), load_eg3d),
    "i2t": (lambda p: save_i2t(p, tiny_i2t(), eg3d="abc"), load_i2t),
    "perceptual": (
        lambda p: save_perceptual(p, PerceptualNet(PerceptualConfig(channels=(4, 8)))),
        load_perceptual,
    ),
}
WRONG = (None, True, "text", "", [], {}, [[[]]], ["a"], [1, 2, 3, 4], {"a": 1}, 2**70, -1, 0.5)


@pytest.mark.parametrize("kind", FILES)
def test_config_of_wrong_types_is_refused(tmp_path, kind):
    save, load = FILES[kind]
    save(tmp_path / "whole")
    bundle = load_bundle(tmp_path / "whole", kind)
    refused = 0
    for field, right in bundle.config.items():
        for wrong in WRONG:
            fits = type(wrong) is type(right) or {type(wrong), type(right)} == {int, float}
            if fits or (field == "sr_clamp" and wrong is None):
                continue
            save_bundle(
                tmp_path / "f", kind, {**bundle.config, field: wrong}, bundle.state, bundle.extra
            )
            with pytest.raises(FileFormatError):
                load(tmp_path / "f")
            refused += 1
    assert refused > 10 * len(bundle.config) - 5


@pytest.mark.parametrize("found", [None, 3, "", "0" * 64, [], {"a": 1}, True])
def test_portrait_with_a_foreign_hash_is_refused(tmp_path, found):
    eg3d = tiny_eg3d()
    path = tmp_path / "p"
    save_portrait(path, tiny_portrait(eg3d))
    bundle = load_bundle(path, "portrait")
    save_bundle(path, "portrait", bundle.config, bundle.state, {**bundle.extra, "renderer": found})
    for options in ({"eg3d": eg3d}, {"known": []}):
        with pytest.raises(MismatchError):
            load_portrait(path, **options)


@pytest.mark.parametrize("found", [None, 3, "0" * 64, []])
def test_i2t_with_a_foreign_hash_is_refused(tmp_path, found):
    eg3d = tiny_eg3d()
    save_bundle(
        tmp_path / "i", "i2t", tiny_i2t().config.to_dict(), tiny_i2t().state_dict(), {"eg3d": found}
    )
    with pytest.raises(MismatchError):
        load_i2t(tmp_path / "i", eg3d=eg3d)


@pytest.mark.parametrize("config", [{}, {"step": "1", "task": "x"}, {"step": 1, "task": None}])
def test_checkpoint_of_wrong_types_is_refused(tmp_path, config):
    save_bundle(tmp_path / "c", "checkpoint", config, {"x": torch.zeros(1)})
    with pytest.raises(FreeStyleError):
        load_checkpoint(tmp_path / "c", {})
