import errno
import os
import shutil

import pytest

from freestyle_core.errors import InputError, WriteError
from freestyle_core.files.staging import staged


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_files_appear_only_at_the_end(tmp_path):
    out = tmp_path / "a" / "b"
    with staged(out) as work:
        (work / "one.txt").write_text("1")
        assert [p for p in out.rglob("*.txt")] == [work / "one.txt"]
        assert not (out / "one.txt").exists()
    assert names(out) == ["one.txt"]


def test_earlier_files_are_replaced_and_others_kept(tmp_path):
    (tmp_path / "one.txt").write_text("old")
    (tmp_path / "two.txt").write_text("mine")
    with staged(tmp_path) as work:
        (work / "one.txt").write_text("new")
    assert (tmp_path / "one.txt").read_text() == "new"
    assert names(tmp_path) == ["one.txt", "two.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_stopped_run_leaves_the_folder_as_it_was(tmp_path, error):
    (tmp_path / "one.txt").write_text("old")
    with pytest.raises(error), staged(tmp_path) as work:
        (work / "one.txt").write_text("new")
        raise error
    assert names(tmp_path) == ["one.txt"]
    assert (tmp_path / "one.txt").read_text() == "old"


def test_stopped_run_removes_the_folders_it_made(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(KeyboardInterrupt), staged(tmp_path / "a" / "b" / "c"):
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == []


def test_unwritable_folder_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write into .*choose another --out"):
        with staged(tmp_path / "file" / "out"):
            pytest.fail("the work must not start")
    with pytest.raises(InputError, match="cannot write into"), staged(tmp_path / "file"):
        pytest.fail("the work must not start")
    assert names(tmp_path) == ["file"]


def test_folder_without_permission_is_refused(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)
    with pytest.raises(InputError, match="Permission denied"), staged(tmp_path / "out"):
        pytest.fail("the work must not start")
    assert names(tmp_path) == []


def test_too_little_space_is_refused_before_the_work(tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(100, 90, 10 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="has 10 MB free, the run needs about 64 MB"):
        with staged(tmp_path / "out", needed_mb=64):
            pytest.fail("the work must not start")
    assert names(tmp_path) == []


def test_failing_move_is_reported_and_cleaned(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WriteError, match="No space left"), staged(tmp_path / "out") as work:
        (work / "one.txt").write_text("1")
    assert names(tmp_path) == []
