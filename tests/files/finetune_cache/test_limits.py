"""How much is kept, for how long, and what a failed write leaves."""

import os
from dataclasses import replace
from typing import get_args

import pytest
import torch

from freestyle_core.errors import WriteError
from freestyle_core.files.finetune_cache import (
    LIMIT_FILE,
    Store,
    open_store,
    set_limit,
)
from freestyle_core.method.finetune import (
    finetune_portraits,
)
from freestyle_core.method.finetune_settings import NEED_I2T, Train
from tests.files.finetune_cache.small import SETTINGS, key_of, prompts
from tests.tiny import tiny_eg3d, tiny_i2t


def test_what_was_used_longest_ago_goes_first(store, trained):
    portraits, sets, result = trained
    keys = [character * 64 for character in "abc"]
    for age, key in enumerate(keys):
        store.save(key, result.portraits, result.losses)
        os.utime(store.root / f"{key}.safetensors", (1000 + age, 1000 + age))
    one = store.entries()[0][1]
    assert store.size() == 3 * one
    store.load(keys[0], portraits, prompts(sets))  # now "b" is the oldest
    small = Store(store.root, int(3.5 * one))
    small.save("d" * 64, result.portraits, result.losses)
    assert sorted(path.name[0] for path, _ in small.entries()) == ["a", "c", "d"]
    Store(store.root, one - 1).trim()
    assert store.entries() == []


def test_a_failed_write_leaves_no_entry(store, trained, monkeypatch):
    portraits, sets, result = trained

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("freestyle_core.files.bundle.save", full)
    with pytest.raises(WriteError):
        store.save(key_of(portraits, sets), result.portraits, result.losses)
    assert list(store.root.iterdir()) == []


def test_leftovers_of_a_crash_are_removed_when_old(store):
    old, new = (store.root / f".x.safetensors.{name}.tmp" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    assert store.entries() == []
    store.trim()
    assert list(store.root.iterdir()) == [new]


@pytest.mark.parametrize("train", get_args(Train))
def test_a_checkpoint_comes_back_within_the_same_limit_until_it_is_removed(store, trained, train):
    portraits, sets, _ = trained
    states = []
    finetune_portraits(
        tiny_i2t() if train in NEED_I2T else None,
        "parent",
        portraits,
        sets,
        lambda a, b: a.new_zeros(len(a)),
        eg3d=tiny_eg3d(),
        settings=replace(SETTINGS, train=train),
        on_checkpoint=states.append,
        checkpoint_every=1,
    )
    assert store.load_checkpoint("key") is None
    for state in states:
        store.save_checkpoint("key", state.step, state.tensors, state.task)
    step, tensors, task = store.load_checkpoint("key")
    assert (step, task) == (2, states[1].task)
    assert tensors.keys() == states[1].tensors.keys()
    assert all(torch.equal(tensors[name], value) for name, value in states[1].tensors.items())
    assert len(store.entries()) == 1 and store.size() > 0  # one, and it counts
    assert store.load("key", portraits, prompts(sets)) is None  # it is no result
    store.remove_checkpoint("key")
    store.remove_checkpoint("key")
    assert store.entries() == []


def test_a_checkpoint_under_another_name_counts_as_damaged(store, caplog):
    store.save_checkpoint("key", 1, {"network.x": torch.ones(2)}, "task")
    (path,) = store.root.glob("*.safetensors")
    path.rename(path.with_name("other.unfinished.safetensors"))
    assert store.load_checkpoint("other") is None and "made again" in caplog.text
    assert store.entries() == []


def test_the_limit_is_kept_with_the_store_and_clearing_leaves_it(tmp_path, trained):
    _, _, result = trained
    root = tmp_path / "new"
    assert open_store(root).limit_bytes == 4 * 10**9 and open_store(root).entries() == []
    store = set_limit(root, 1.5)
    assert store.limit_bytes == open_store(root).limit_bytes == 1_500_000_000
    store.save("a" * 64, result.portraits, result.losses)
    assert store.clear() == 1
    assert [path.name for path in root.iterdir()] == [LIMIT_FILE]
    store.save("a" * 64, result.portraits, result.losses)
    assert set_limit(root, 0).entries() == []
    (root / LIMIT_FILE).write_text("nonsense")
    assert open_store(root).limit_bytes == 4 * 10**9


@pytest.mark.parametrize("limit", ["NaN", "Infinity", "-1", "1e999", "null", '"1"x', "[1]"])
def test_a_limit_that_is_no_size_counts_as_not_set(tmp_path, limit):
    (tmp_path / LIMIT_FILE).write_text(f'{{"limit_gb": {limit}}}')
    assert open_store(tmp_path).limit_bytes == 4 * 10**9


def test_a_limit_that_cannot_be_read_deletes_nothing(tmp_path, trained):
    _, _, result = trained
    (tmp_path / LIMIT_FILE).mkdir()  # as on Windows, while another process replaces it
    store = open_store(tmp_path)
    store.save("a" * 64, result.portraits, result.losses)
    assert len(store.entries()) == 1 and store.limit_bytes > 10**15
