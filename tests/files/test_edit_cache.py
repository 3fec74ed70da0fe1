"""Edited views on disk: what names them, and what comes back."""

from dataclasses import replace

import pytest
import torch

from freestyle_core.files.edit_cache import edit_keys, load_view, save_view
from freestyle_core.files.editors.load import load_editor
from freestyle_core.files.finetune_cache import Store
from tests.tiny_editor import save_tiny_editor

TEXTS = ("turn the head into an elf", "ugly")
SETTINGS = {"tau": 0.9, "steps": 4, "guidance": [1.5, 3.0], "seed": 0}


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("editor") / "tiny"
    save_tiny_editor(folder)
    return load_editor(folder)


@pytest.fixture
def images():
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_view_is_named_by_its_own_picture(editor, images):
    keys = edit_keys(editor, images, TEXTS, SETTINGS)
    assert len(set(keys)) == 3
    other = images.clone()
    other[1, 0, 0, 0] += 1e-6
    changed = edit_keys(editor, other, TEXTS, SETTINGS)
    assert [a == b for a, b in zip(keys, changed, strict=True)] == [True, False, True]
    assert edit_keys(editor, images[2:], TEXTS, SETTINGS) == keys[2:]


def test_words_settings_and_weights_change_every_name(editor, images, tmp_path):
    keys = edit_keys(editor, images, TEXTS, SETTINGS)
    others = [
        edit_keys(editor, images, ("turn the head into a zombie", "ugly"), SETTINGS),
        edit_keys(editor, images, TEXTS[::-1], SETTINGS),
        *(edit_keys(editor, images, TEXTS, {**SETTINGS, name: 7}) for name in SETTINGS),
        edit_keys(replace(editor, guidance=(1.0, 2.0)), images, TEXTS, SETTINGS),
    ]
    save_tiny_editor(tmp_path / "other", seed=1)
    others.append(edit_keys(load_editor(tmp_path / "other"), images, TEXTS, SETTINGS))
    half = load_editor(tmp_path / "other", dtype=torch.bfloat16)
    others.append(edit_keys(half, images, TEXTS, SETTINGS))
    names = [keys, *others]
    assert len({key for some in names for key in some}) == 3 * len(names)
    save_tiny_editor(tmp_path / "same")
    same = load_editor(tmp_path / "same")  # where it lies says nothing
    assert edit_keys(same, images, TEXTS, SETTINGS) == keys


def test_the_front_view_that_all_see_is_part_of_every_name(editor, images):
    plain = edit_keys(editor, images, TEXTS, SETTINGS)
    seen, other = (
        edit_keys(editor, images, TEXTS, SETTINGS, front=images[i : i + 1]) for i in (0, 1)
    )
    assert len({*plain, *seen, *other}) == 9
    assert edit_keys(editor, images[1:], TEXTS, SETTINGS, front=images[:1]) == seen[1:]


def test_an_editor_of_a_host_program_has_no_names(images):
    assert edit_keys(object(), images, TEXTS, SETTINGS) is None


def test_a_view_comes_back_bit_by_bit_and_nothing_else_does(tmp_path, images, caplog):
    store = Store(tmp_path, 10**9)
    assert load_view(store, "view-a", images[0]) is None
    save_view(store, "view-a", images[1])
    assert torch.equal(load_view(store, "view-a", images[0]), images[1])
    assert load_view(store, "view-a", images[0].double()).dtype == torch.float64
    (path,) = tmp_path.glob("view-*")
    path.rename(tmp_path / "view-b.safetensors")
    assert load_view(store, "view-b", images[0]) is None and "made again" in caplog.text
    save_view(store, "view-a", images[1])
    assert load_view(store, "view-a", images[0, :, :4]) is None  # another size
    assert store.entries() == []


def test_views_share_the_limit_of_the_folder(tmp_path, images):
    save_view(Store(tmp_path, 10**9), "view-a", images[0])
    size = Store(tmp_path, 10**9).size()
    store = Store(tmp_path, int(1.5 * size))
    save_view(store, "view-b", images[0])
    assert [path.name for path, _ in store.entries()] == ["view-b.safetensors"]
