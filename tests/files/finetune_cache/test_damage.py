"""Damaged, old and vanishing entries, and several processes at one folder."""

import os
import subprocess
import sys

import pytest
import torch

from freestyle_core.errors import FileFormatError, WriteError
from freestyle_core.files import finetune_cache
from freestyle_core.files.bundle import load_bundle, save_bundle, weights_hash
from freestyle_core.files.finetune_cache import (
    KIND,
    Store,
)
from tests.files.finetune_cache.small import ROOT, damage, key_of, prompts


@pytest.mark.parametrize("how", ["truncated", "flipped bit", "empty", "of another key"])
def test_a_damaged_entry_is_ignored_deleted_and_rebuilt(store, trained, caplog, how):
    portraits, sets, result = trained
    key = key_of(portraits, sets)
    store.save("0" * 64 if how == "of another key" else key, result.portraits, result.losses)
    ((path, _),) = store.entries()
    if how == "of another key":
        path.rename(path.with_name(f"{key}.safetensors"))
    damage(store.root / f"{key}.safetensors", how)
    assert store.load(key, portraits, prompts(sets)) is None
    assert "will be made again" in caplog.text
    assert store.entries() == []
    store.save(key, result.portraits, result.losses)
    assert store.load(key, portraits, prompts(sets)) is not None


LIES = {
    "no parent": lambda state, extra: extra.pop("parent"),
    "parent that is a number": lambda state, extra: extra.update(parent=3),
    "no history": lambda state, extra: extra.pop("provenance"),
    "history that is text": lambda state, extra: extra.update(provenance="ab"),
    "history of another length": lambda state, extra: extra.update(provenance=[{}]),
    "no planes": lambda state, extra: state.pop("planes.1"),
    "planes of another size": lambda state, extra: state.update({"planes.0": torch.zeros(1, 3)}),
    "no code": lambda state, extra: state.pop("w_s.0"),
    "code of whole numbers": lambda state, extra: state.update({"w_s.0": state["w_s.0"].long()}),
    "code of another size": lambda state, extra: state.update({"w_s.1": torch.zeros(1, 4, 8, 8)}),
    "residual of another size": lambda state, extra: state.update(
        {"residual.0": torch.zeros(1, 3, 4, 4, 4)}
    ),
    "residual of whole numbers": lambda state, extra: state.update(
        {"residual.1": torch.zeros(1, 3, 4, 8, 8).long()}
    ),
    "loss without steps": lambda state, extra: state.update({"loss.plane": torch.tensor(1.0)}),
    "no network": lambda state, extra: [state.pop(n) for n in list(state) if n[:7] == "network"],
    "no check": lambda state, extra: extra.pop("check"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_damaged_description_is_no_error_for_ever(store, trained, caplog, name):
    """An entry without the bundle's hash, as older versions wrote it."""
    portraits, sets, result = trained
    key = key_of(portraits, sets)
    store.save(key, result.portraits, result.losses)
    path = store.root / f"{key}.safetensors"
    bundle = load_bundle(path, KIND)
    state, extra = dict(bundle.state), {**bundle.extra, "check": ""}
    LIES[name](state, extra)
    if "check" in extra:
        extra["check"] = weights_hash(state)
    save_bundle(path, KIND, bundle.config, state, extra)
    path.write_bytes(path.read_bytes().replace(b"sha256", b"sha255"))
    assert store.load(key, portraits, prompts(sets)) is None
    assert "will be made again" in caplog.text and store.entries() == []


def test_an_entry_of_an_older_version_is_found(store, trained):
    portraits, sets, result = trained
    key = key_of(portraits, sets)
    store.save(key, result.portraits, result.losses)
    path = store.root / f"{key}.safetensors"
    bundle = load_bundle(path, KIND)
    extra = {**bundle.extra, "check": weights_hash(bundle.state)}
    save_bundle(path, KIND, bundle.config, bundle.state, extra)
    path.write_bytes(path.read_bytes().replace(b"sha256", b"sha255"))
    assert load_bundle(path, KIND).sha256 is None
    assert store.load(key, portraits, prompts(sets))[1] == result.losses


def test_an_entry_replaced_while_it_is_read_is_read_again(store, trained, caplog, monkeypatch):
    """The first reading sees half of the old and half of the new file."""
    portraits, sets, result = trained
    key, read, times = key_of(portraits, sets), finetune_cache._read, []
    store.save(key, result.portraits, result.losses)

    def torn(path, *arguments):
        times.append(path)
        if len(times) == 1:
            store.save(key, result.portraits, result.losses)  # another process
            raise FileFormatError("half of each")
        return read(path, *arguments)

    monkeypatch.setattr(finetune_cache, "_read", torn)
    assert store.load(key, portraits, prompts(sets))[1] == result.losses
    assert len(times) == 2 and len(store.entries()) == 1 and not caplog.text


def test_an_entry_that_vanishes_while_it_is_read_is_absent(store, trained, caplog, monkeypatch):
    portraits, sets, result = trained
    key = key_of(portraits, sets)
    store.save(key, result.portraits, result.losses)

    def gone(*_, **__):
        store.clear()
        raise RuntimeError("unable to open file <x> in read-only mode: No such file")

    monkeypatch.setattr("freestyle_core.files.bundle.safe_open", gone)
    assert store.load(key, portraits, prompts(sets)) is None and not caplog.text


def test_a_healthy_entry_in_the_place_of_a_damaged_one_stays(store, trained, monkeypatch):
    """Another process puts it there after this one has judged, before it deletes."""
    portraits, sets, result = trained
    key, delete = key_of(portraits, sets), finetune_cache._delete
    store.save(key, result.portraits, result.losses)
    damage(store.root / f"{key}.safetensors", "flipped bit")

    def late(*arguments):
        store.save(key, result.portraits, result.losses)
        delete(*arguments)

    monkeypatch.setattr(finetune_cache, "_delete", late)
    assert store.load(key, portraits, prompts(sets)) is None
    assert [path.name for path in store.root.iterdir()] == [f"{key}.safetensors"]
    assert store.load(key, portraits, prompts(sets)) is not None


def test_an_entry_used_since_it_was_listed_is_not_the_oldest_any_more(store, trained, monkeypatch):
    _, _, result = trained
    for age, character in enumerate("ab"):
        store.save(character * 64, result.portraits, result.losses)
        os.utime(store.root / f"{character * 64}.safetensors", (1000 + age, 1000 + age))
    listed = store._listed()
    monkeypatch.setattr(Store, "_listed", lambda self: listed)
    os.utime(listed[0][0])  # by another process
    Store(store.root, listed[0][1].size).trim()
    assert sorted(path.name[0] for path in store.root.iterdir()) == ["a", "b"]


def test_a_file_that_cannot_be_replaced_because_it_is_read_counts_as_kept(
    store, trained, monkeypatch
):
    portraits, sets, result = trained
    key = key_of(portraits, sets)
    store.save(key, result.portraits, result.losses)

    def in_use(*_):
        raise PermissionError(13, "in use")

    monkeypatch.setattr("freestyle_core.files.bundle.os.replace", in_use)
    store.save(key, result.portraits, result.losses)
    with pytest.raises(WriteError):
        store.save("b" * 64, result.portraits, result.losses)
    monkeypatch.undo()
    assert store.load(key, portraits, prompts(sets)) is not None


WORKER = """
import logging, random, sys
from pathlib import Path
import torch
from freestyle_core.files.finetune_cache import Store, open_store, set_limit
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_portrait
from tests.files.finetune_cache.small import made_up
logging.basicConfig(stream=sys.stdout, format="%(message)s")
root, seed, count, deleting = Path(sys.argv[1]), *map(int, sys.argv[2:])
torch.set_num_threads(1)
draw = random.Random(seed)
portraits = [tiny_portrait(tiny_eg3d())]
results = [made_up(portraits, number) for number in range(4)]
store, loaded = Store(root, 10**12), 0
for _ in range(count):
    number = draw.randrange(4)
    action = draw.choice(["save", "load", "load", "entries", "few" if deleting else "load"])
    if action == "save":
        store.save(f"{number:064}", *results[number])
    elif action == "load":
        found = store.load(f"{number:064}", portraits, ["x"])
        loaded += found is not None
        assert found is None or found[1] == results[number][1], "another result"
    elif action == "entries":
        store.size()
    elif draw.random() < 0.2:
        store.clear()
    else:
        set_limit(root, store.size() / 2e9)
print("loaded", loaded)
"""


def stress(folder, *, processes, operations, deleting):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, folder, str(seed), str(operations), str(deleting)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for seed in range(processes)
    ]
    said = [process.communicate()[0] for process in running]
    for process, text in zip(running, said, strict=True):
        assert process.returncode == 0 and text.startswith("loaded "), text
    assert not [path.name for path in folder.iterdir() if path.suffix == ".tmp"]
    return sum(int(text.split()[1]) for text in said)


def test_two_processes_at_one_folder(tmp_path):
    assert stress(tmp_path, processes=2, operations=60, deleting=1) > 10


@pytest.mark.slow
def test_four_processes_at_one_folder_lose_nothing(tmp_path):
    assert stress(tmp_path, processes=4, operations=1500, deleting=1) > 100
    for path in tmp_path.iterdir():
        path.unlink()
    assert stress(tmp_path, processes=4, operations=500, deleting=0) > 1000
    assert len(Store(tmp_path, 10**12).entries()) == 4  # nobody deletes: all are there
