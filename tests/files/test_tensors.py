"""Tensors in files: whole or absent."""

import pytest
import torch

from freestyle_core.errors import FileFormatError, FreeStyleError
from freestyle_core.files import tensors
from freestyle_core.files.tensors import CheckpointFile, load_tensors, save_tensors


def test_checkpoints_are_whole_or_absent(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    save_tensors(path, {"x": torch.ones(2)})

    def full_disk(state, target):
        target.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(tensors.torch, "save", full_disk)
    with pytest.raises(FreeStyleError, match="no space"):
        save_tensors(path, {"x": torch.zeros(2)})
    monkeypatch.undo()
    assert [left.name for left in tmp_path.iterdir()] == ["state.pt"]
    assert torch.equal(load_tensors(path)["x"], torch.ones(2))


def test_a_checkpoint_file_gives_back_what_was_saved_last(tmp_path):
    file = CheckpointFile(tmp_path / "state.pt")
    assert file.load() is None
    for step in (1, 2):
        file.save({"step": step})
    assert file.load() == {"step": 2}


def test_a_damaged_or_foreign_file_is_named(tmp_path):
    path = tmp_path / "state.pt"
    path.write_bytes(b"half")
    with pytest.raises(FileFormatError, match=r"state\.pt cannot be read .*; delete it"):
        load_tensors(path)
    save_tensors(path, [1, 2])
    with pytest.raises(FileFormatError, match="holds a list, expected a checkpoint"):
        load_tensors(path)
