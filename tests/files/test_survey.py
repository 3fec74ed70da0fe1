"""The search of a folder: whatever lies in it, the rest is found."""

import os

import pytest
import torch

from freestyle_core.files.bundle import save_bundle
from freestyle_core.files.survey import MOST_VISITS, files_below, folders_below, kind_of


def link(path, target):
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("no links here")


def names(root):
    return [name.replace(os.sep, "/") for name, _ in files_below(root)]


def test_files_are_found_at_any_depth_with_names_relative_to_the_root(tmp_path):
    for name in ("b.x", "a/z.x", "a/b/c/d/e.x"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "hidden").touch()
    assert names(tmp_path) == ["b.x", "a/z.x", "a/b/c/d/e.x"]
    assert all(path == tmp_path / name for name, path in files_below(tmp_path))


def test_a_folder_that_is_not_there_is_empty(tmp_path):
    assert names(tmp_path / "nowhere") == []


def test_links_are_followed_and_dead_ends_and_loops_left_out(tmp_path):
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    (root / "own.x").touch()
    (other / "far.x").touch()
    link(root / "linked", other)
    link(other / "back", root)  # root/linked/back is root again
    link(root / "self", root)
    link(root / "dead.x", tmp_path / "gone")
    link(root / "circle.x", root / "circle.x")
    link(root / "one.x", other / "far.x")
    assert names(root) == ["one.x", "own.x", "linked/far.x"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_file_and_holds_nothing_up(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert names(tmp_path) == [] and kind_of(tmp_path / "nothing") is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read_is_left_out(tmp_path):
    (tmp_path / "open.x").touch()
    (tmp_path / "closed.x").touch(0o000)
    (tmp_path / "closed").mkdir(0o000)
    assert names(tmp_path) == ["open.x"]


def test_folders_that_all_link_to_each_other_are_searched_a_few_times_at_most(tmp_path):
    folders = [tmp_path / f"f{n}" for n in range(8)]
    for folder in folders:
        folder.mkdir()
        (folder / "file").touch()
    for folder in folders:
        for other in folders:
            link(folder / f"to_{other.name}", other)
    assert len(names(tmp_path)) <= MOST_VISITS * len(folders)


def test_wanted_folders_are_found_and_not_searched_further(tmp_path):
    for name in ("a/m/index", "a/m/inner/index", "b/index", "c/other"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = list(folders_below(tmp_path, lambda folder: (folder / "index").exists()))
    assert found == [(os.path.join("a", "m"), tmp_path / "a" / "m"), ("b", tmp_path / "b")]


def test_the_kind_of_a_file_follows_its_content(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"?" * 100)
    assert kind_of(path) is None
    save_bundle(path, "portrait", {}, {"w": torch.zeros(1)})
    assert kind_of(path) == "portrait"
    save_bundle(path, "longer than before", {}, {"w": torch.zeros(1)})
    assert kind_of(path) == "longer than before"
