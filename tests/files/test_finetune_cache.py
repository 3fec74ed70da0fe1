"""Fine-tuned results on disk: what is found again, what is not, and how much is kept."""

import os
from dataclasses import asdict, replace

import pytest
import torch

from freestyle_core.errors import WriteError
from freestyle_core.files.finetune_cache import (
    LIMIT_FILE,
    Store,
    finetune_key,
    open_store,
    set_limit,
)
from freestyle_core.method.finetune import FinetuneSettings, finetune
from freestyle_core.types import Triplane
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_portrait, tiny_set

SETTINGS = FinetuneSettings(iterations=2, density_points=16, preview_every=0)


@pytest.fixture(scope="module")
def trained():
    eg3d = tiny_eg3d()
    portraits = [tiny_portrait(eg3d, 0), tiny_portrait(eg3d, 1)]
    sets = [tiny_set(eg3d), tiny_set(eg3d, seed=1, prompt="an elf")]
    result = finetune(
        tiny_i2t(), "parent", portraits, sets, lambda a, b: a.new_zeros(len(a)), settings=SETTINGS
    )
    return portraits, sets, result


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, 10**9)


def key_of(portraits, sets, **changes):
    described = {"perceptual": "off", "settings": asdict(SETTINGS), **changes}
    return finetune_key(described.pop("parent", "parent"), portraits, sets, **described)


def prompts(sets):
    return [s.prompt for s in sets]


def test_a_kept_result_comes_back_bit_by_bit(store, trained):
    portraits, sets, result = trained
    key = key_of(portraits, sets)
    assert store.load(key, portraits, prompts(sets)) is None
    store.save(key, result.portraits, result.losses)
    got, losses = store.load(key, portraits, prompts(sets))
    assert losses == result.losses
    assert got[0].style.network is got[1].style.network  # so Style Mix mixes the codes alone
    for a, b in zip(got, result.portraits, strict=True):
        assert torch.equal(a.triplane.planes, b.triplane.planes)
        assert torch.equal(a.style.w_s, b.style.w_s) and torch.equal(a.w, b.w)
        assert a.renderer is b.renderer and a.style.parent == "parent"
        assert a.provenance["prompt"] == b.provenance["prompt"]
        ours, theirs = a.style.network.state_dict(), b.style.network.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_key_changes_with_everything_that_decides_the_result(trained):
    (head, other), (few, second), _ = trained
    cameras = replace(few.cameras, cam_to_world=few.cameras.cam_to_world + 0.001)
    images = few.images.clone()
    images[1, 0, 0, 0] += 0.01
    box = Triplane(head.triplane.planes + 0.001, head.triplane.box_size)
    keys = [
        key_of([head], [few]),
        key_of([head], [few], parent="another"),
        key_of([head], [few], perceptual="clay"),
        key_of([head], [few], settings=asdict(replace(SETTINGS, seed=1))),
        key_of([other], [few]),
        key_of([replace(head, triplane=box)], [few]),
        key_of([replace(head, w=head.w + 0.001)], [few]),
        key_of([replace(head, renderer=tiny_eg3d(5).renderer())], [few]),
        key_of([head], [replace(few, images=images)]),
        key_of([head], [replace(few, cameras=cameras)]),
        key_of([head, head], [few, second]),
        key_of([head, head], [second, few]),
    ]
    assert len(set(keys)) == len(keys)


def test_the_words_alone_do_not_change_the_key_but_the_result_carries_them(store, trained):
    portraits, sets, result = trained
    renamed = [replace(s, prompt=s.prompt + "!") for s in sets]
    key = key_of(portraits, sets)
    assert key_of(portraits, renamed) == key
    store.save(key, result.portraits, result.losses)
    got, _ = store.load(key, portraits, prompts(renamed))
    assert [p.provenance["prompt"] for p in got] == ["a bronze statue!", "an elf!"]


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "flipped bit":
        data[-5] ^= 1
    elif how == "empty":
        data = b""
    path.write_bytes(bytes(data))


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
    assert "will be trained again" in caplog.text
    assert store.entries() == []
    store.save(key, result.portraits, result.losses)
    assert store.load(key, portraits, prompts(sets)) is not None


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
