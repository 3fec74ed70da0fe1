import errno
import json
import os
import struct

import pytest
import torch
from safetensors.torch import save_file

from freestyle_core.errors import FileFormatError, WriteError
from freestyle_core.files.bundle import (
    METADATA_KEY,
    load_bundle,
    load_header,
    save_bundle,
    weights_hash,
    write_atomically,
)


def make_state():
    generator = torch.Generator().manual_seed(0)
    return {
        "b.weight": torch.randn(5, 3, generator=generator),
        "a.steps": torch.tensor([3, 4]),
        "a.scalar": torch.tensor(0.1),
        "a.flag": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4),
    }


def test_round_trip_is_bit_equal(tmp_path):
    state = make_state()
    config, extra = {"size": 3, "name": "x"}, {"hash": "abc", "losses": [0.5, 0.25]}
    save_bundle(tmp_path / "part.safetensors", "demo", config, state, extra)
    bundle = load_bundle(tmp_path / "part.safetensors", "demo")
    assert (bundle.kind, bundle.config, bundle.extra) == ("demo", config, extra)
    assert set(bundle.state) == set(state)
    for name, value in state.items():
        assert bundle.state[name].dtype == value.dtype
        assert torch.equal(bundle.state[name], value)


def test_same_content_gives_the_same_bytes(tmp_path):
    state = make_state()
    backwards = dict(reversed(list(state.items())))
    save_bundle(tmp_path / "a", "demo", {"x": 1, "y": 2}, state, {"p": 1, "q": 2})
    save_bundle(tmp_path / "b", "demo", {"y": 2, "x": 1}, backwards, {"q": 2, "p": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_half_precision_storage_loads_as_float32(tmp_path):
    # 0.1 in half precision is 0.0999755859375; integers and flags are untouched
    save_bundle(tmp_path / "h", "demo", {}, make_state(), dtype=torch.float16)
    state = load_bundle(tmp_path / "h", "demo").state
    assert state["a.scalar"].dtype == torch.float32
    assert state["a.scalar"].item() == 0.0999755859375
    assert state["a.steps"].tolist() == [3, 4]


def test_half_precision_refuses_to_overflow(tmp_path):
    with pytest.raises(FileFormatError, match="too large"):
        save_bundle(tmp_path / "h", "demo", {}, {"w": torch.tensor([1e6])}, dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []


def test_views_of_one_tensor_are_saved_whole(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    save_bundle(tmp_path / "v", "demo", {}, {"t": base.T, "row": base[1], "all": base})
    state = load_bundle(tmp_path / "v", "demo").state
    assert torch.equal(state["t"], base.T)
    assert state["row"].tolist() == [4.0, 5.0, 6.0, 7.0]


def test_header_is_read_without_tensors(tmp_path):
    save_bundle(tmp_path / "p", "demo", {"size": 3}, make_state(), {"hash": "abc"})
    header = load_header(tmp_path / "p")
    assert (header.kind, header.state, header.extra) == ("demo", {}, {"hash": "abc"})


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileFormatError, match=r"none\.safetensors is not there"):
        load_bundle(tmp_path / "none.safetensors", "demo")


def test_another_kind_is_refused(tmp_path):
    save_bundle(tmp_path / "p", "portrait", {}, make_state())
    with pytest.raises(FileFormatError, match="is of kind portrait, expected eg3d"):
        load_bundle(tmp_path / "p", "eg3d")


def test_foreign_safetensors_is_refused(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "f", metadata={"format": "pt"})
    with pytest.raises(FileFormatError, match="another program"):
        load_bundle(tmp_path / "f", "demo")


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1])
def test_truncated_file_is_refused(tmp_path, keep):
    save_bundle(tmp_path / "p", "demo", {}, make_state())
    data = (tmp_path / "p").read_bytes()
    (tmp_path / "p").write_bytes(data[:keep])
    with pytest.raises(FileFormatError, match="not a complete safetensors file"):
        load_bundle(tmp_path / "p", "demo")


LYING_HEADERS = {
    "offsets past the end": {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}},
    "shape larger than data": {"x": {"dtype": "F32", "shape": [400], "data_offsets": [0, 8]}},
    "offsets backwards": {"x": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
    "unknown dtype": {"x": {"dtype": "EVIL", "shape": [2], "data_offsets": [0, 8]}},
    "negative shape": {"x": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
    "huge shape": {"x": {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [0, 8]}},
    "metadata not text": {
        "__metadata__": {METADATA_KEY: 3},
        "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    },
}


@pytest.mark.parametrize("case", LYING_HEADERS)
def test_header_that_lies_is_refused(tmp_path, case):
    text = json.dumps(LYING_HEADERS[case]).encode()
    (tmp_path / "p").write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(FileFormatError):
        load_bundle(tmp_path / "p", "demo")


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        "3",
        '{"version": 1}',
        '{"version": 1, "kind": "demo", "config": [], "extra": {}}',
        '{"version": 1, "kind": 3, "config": {}, "extra": {}}',
        '{"version": 99, "kind": "demo", "config": {}, "extra": {}}',
        "[" * 100_000,
    ],
)
def test_damaged_description_is_refused(tmp_path, text):
    save_file({"x": torch.zeros(2)}, tmp_path / "p", metadata={METADATA_KEY: text})
    with pytest.raises(FileFormatError):
        load_bundle(tmp_path / "p", "demo")


def test_description_must_be_json(tmp_path):
    with pytest.raises(FileFormatError, match="plain JSON"):
        save_bundle(tmp_path / "p", "demo", {"loss": float("nan")}, {})
    with pytest.raises(FileFormatError, match="plain JSON"):
        save_bundle(tmp_path / "p", "demo", {}, {}, {"path": tmp_path})
    assert list(tmp_path.iterdir()) == []


def test_error_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_atomically(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["p.txt"]


def test_ctrl_c_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), write_atomically(tmp_path / "p.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_disk_full_is_one_clear_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WriteError, match="cannot write .*No space left on device; free some"):
        save_bundle(tmp_path / "p", "demo", {}, make_state())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_a_saved_file_has_the_rights_of_any_new_file(tmp_path):
    """A server writes as one user, artists read as another."""
    (tmp_path / "plain").write_text("x")
    save_bundle(tmp_path / "p", "demo", {}, make_state())
    assert (tmp_path / "p").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_file_size_limit_is_reported_by_the_writer_itself(tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(WriteError, match="cannot write"):
            save_bundle(tmp_path / "p", "demo", {}, {"x": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match="cannot write"):
        save_bundle(tmp_path / "file" / "p", "demo", {}, make_state())


def test_hash_sees_values_names_and_shapes_but_not_order():
    state = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    reference = weights_hash(state)
    assert weights_hash(dict(reversed(list(state.items())))) == reference
    assert weights_hash({k: v.double() for k, v in state.items()}) == reference
    assert weights_hash({"a": torch.tensor([1.0, 2.5]), "b": state["b"]}) != reference
    assert weights_hash({"a": state["a"], "c": state["b"]}) != reference
    assert weights_hash({"a": state["a"][None], "b": state["b"]}) != reference
    assert len(reference) == 64
