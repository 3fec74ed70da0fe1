"""Fine-tuned results on disk: what is found again, what is not, and how much is kept."""

import os
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
import torch

from freestyle_core.errors import FileFormatError, InputError, WriteError
from freestyle_core.files import finetune_cache
from freestyle_core.files.bundle import load_bundle, save_bundle, weights_hash
from freestyle_core.files.finetune_cache import (
    KIND,
    LIMIT_FILE,
    Store,
    finetune_key,
    open_store,
    set_limit,
)
from freestyle_core.method.finetune import (
    FinetuneSettings,
    FinetuneState,
    finetune_portraits,
)
from freestyle_core.method.finetune_settings import Train
from freestyle_core.types import StyleCode, Triplane
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_portrait, tiny_set

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = FinetuneSettings(train="i2t", iterations=2, density_points=16, preview_every=0)


@pytest.fixture(scope="module")
def trained():
    eg3d = tiny_eg3d()
    portraits = [tiny_portrait(eg3d, 0), tiny_portrait(eg3d, 1)]
    sets = [tiny_set(eg3d), tiny_set(eg3d, seed=1, prompt="an elf")]
    result = finetune_portraits(
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


def without_network(result):
    """Return the portraits as learnt without an I2T: planes alone."""
    return [replace(p, style=None) for p in result.portraits]


def with_residuals(result, *values):
    """Return the portraits as learnt with residuals on top, each of one value; None: without."""
    made = []
    for portrait, value in zip(result.portraits, values, strict=True):
        planes = portrait.triplane.planes
        residual = None if value is None else torch.full_like(planes, value)
        style = replace(portrait.style, residual=residual)
        triplane = Triplane(planes + (value or 0.0), portrait.triplane.box_size)
        made.append(replace(portrait, triplane=triplane, style=style))
    return made


def test_a_result_without_a_network_is_kept_as_its_planes_alone(store, trained):
    portraits, sets, result = trained
    store.save("a" * 64, without_network(result), result.losses)
    got, losses = store.load("a" * 64, portraits, prompts(sets))
    assert losses == result.losses
    for a, b in zip(got, result.portraits, strict=True):
        assert torch.equal(a.triplane.planes, b.triplane.planes) and torch.equal(a.w, b.w)
        assert a.style is None and a.is_stylized and a.renderer is b.renderer
        assert a.provenance["prompt"] == b.provenance["prompt"]
    state = load_bundle(store.root / f"{'a' * 64}.safetensors", KIND).state
    assert {name for name in state if "loss" not in name} == {"planes.0", "planes.1"}


@pytest.mark.parametrize("values", [(0.5, -2.0), (0.5, None)])
def test_residuals_are_kept_with_the_code_and_the_network(store, trained, values):
    portraits, sets, result = trained
    made = with_residuals(result, *values)
    store.save("a" * 64, made, result.losses)
    got, _ = store.load("a" * 64, portraits, prompts(sets))
    assert got[0].style.network is got[1].style.network
    for a, b, value in zip(got, made, values, strict=True):
        assert torch.equal(a.triplane.planes, b.triplane.planes)
        assert torch.equal(a.style.w_s, b.style.w_s)
        if value is None:
            assert a.style.residual is None
        else:
            assert a.style.residual.unique().tolist() == [value]
            assert a.style.residual.shape == a.triplane.planes.shape


@pytest.mark.parametrize("train", get_args(Train))
def test_what_fine_tuning_makes_of_each_kind_is_kept_bit_by_bit(store, trained, train):
    portraits, sets, _ = trained
    settings, states = replace(SETTINGS, train=train), []
    run = partial(
        finetune_portraits,
        None if train == "planes" else tiny_i2t(),
        "" if train == "planes" else "parent",
        portraits,
        sets,
        lambda a, b: a.new_zeros(len(a)),
        settings=settings,
    )
    result = run(on_checkpoint=states.append, checkpoint_every=1)
    store.save_checkpoint("key", states[0].step, states[0].tensors, states[0].task)
    resumed = run(resume=FinetuneState(*store.load_checkpoint("key")))
    store.save("key", resumed.portraits, resumed.losses)
    got, losses = store.load("key", portraits, prompts(sets))
    assert losses == result.losses
    for a, b in zip(got, result.portraits, strict=True):
        assert torch.equal(a.triplane.planes, b.triplane.planes)
        assert (a.style is None) == (train == "planes")
        if a.style is not None:
            assert torch.equal(a.style.w_s, b.style.w_s)
            assert (a.style.residual is None) == (train == "i2t")
            # a code laid out anew is summed in another order
            torch.testing.assert_close(a.style.planes().detach(), a.triplane.planes)
    if train != "planes":
        assert got[0].style.network is got[1].style.network


def test_only_what_one_fine_tuning_made_is_kept(store, trained):
    portraits, _, result = trained
    bare, styled = without_network(result), result.portraits
    other = replace(styled[1], style=replace(styled[1].style, network=tiny_i2t()))
    for made in ([], portraits, [bare[0], styled[1]], [styled[0], other], [bare[0], portraits[1]]):
        with pytest.raises(InputError, match="results of one fine-tuning"):
            store.save("a" * 64, made, result.losses)
    assert store.entries() == []


RESIDUALS = {"residual_gains": (5.0, 5.0), "residual_smooth": 0.0}


def test_the_key_covers_what_is_trained(trained):
    (head, _), (few, _), _ = trained
    plain = asdict(SETTINGS)
    later = ("train", "budget_s", "sample_share", "skip_empty", *RESIDUALS)
    for name in later:  # as before there were these
        del plain[name]

    def key(train, **changes):
        return key_of([head], [few], settings={**plain, "train": train, **RESIDUALS, **changes})

    assert len({key("i2t"), key("planes"), key("both")}) == 3
    for train in ("planes", "both"):
        assert key(train, residual_gains=(5.0, 4.0)) != key(train)
        assert key(train, residual_smooth=0.1) != key(train)
    # a network's result has the name that it had before there were residuals, so it is found
    assert key("i2t") == key("i2t", residual_gains=(1.0,)) == key_of([head], [few], settings=plain)
    for train in get_args(Train):
        assert key(train, budget_s=0.0) == key(train) != key(train, budget_s=9.0)
        same = key(train, sample_share=1.0, skip_empty=False)
        assert key(train) == same != key(train, sample_share=0.5)
        assert same != key(train, skip_empty=True)


def test_planes_learnt_without_an_i2t_are_the_same_whatever_i2t_is_at_hand(trained):
    (head, _), (few, _), _ = trained

    def key(train, parent):
        return key_of([head], [few], settings={**asdict(SETTINGS), "train": train}, parent=parent)

    assert key("planes", "one") == key("planes", "another") == key("planes", "")
    assert key("both", "one") != key("both", "another")


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
    assert "will be made again" in caplog.text
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


@pytest.mark.parametrize("train", get_args(Train))
def test_a_checkpoint_comes_back_within_the_same_limit_until_it_is_removed(store, trained, train):
    portraits, sets, _ = trained
    states = []
    finetune_portraits(
        None if train == "planes" else tiny_i2t(),
        "parent",
        portraits,
        sets,
        lambda a, b: a.new_zeros(len(a)),
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


# Several processes at one folder ------------------------------------------------------------------


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
from tests.files.test_finetune_cache import made_up
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


def made_up(portraits, number):
    """Return a result of the shape that fine-tuning gives, without the time it takes."""
    network = tiny_i2t(number)
    with torch.no_grad():
        w_s = network.encode(torch.rand(1, 3, 16, 16))
        planes = network.decode(w_s)
    style = StyleCode(w_s, network, "parent")
    portrait = replace(portraits[0], triplane=Triplane(planes, 1.0), style=style)
    return [portrait], {"plane": [float(number)] * 3}


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
