"""Views that also see the front view while they are edited."""

from dataclasses import replace

import pytest
import torch

from freestyle_core.files.finetune_cache import Store
from freestyle_core.kept_edits import KeptEdits, kept_views
from freestyle_core.method.stylize import StylizeSettings, stylize_views
from freestyle_core.models.unet_predictor import sharing_keys
from tests.method.stylize.small import SETTINGS

SHARED = replace(SETTINGS, reference="front")
NEAR = {"atol": 1e-5, "rtol": 0}  # what another batch or another order of sums may change
FAR = 3e-4  # what the untrained attention of the tiny editor changes at least


def edit(editor, images, settings=SHARED):
    return stylize_views(editor, images, "an elf", settings=settings)


def test_the_front_is_edited_as_alone_and_the_others_see_it(editor, images):
    plain, shared = edit(editor, images, SETTINGS), edit(editor, images)
    torch.testing.assert_close(shared[0], plain[0], **NEAR)  # it sees itself twice
    assert (shared[1:] - plain[1:]).abs().flatten(1).max(dim=1).values.min() > FAR
    # and they see it, not one another
    torch.testing.assert_close(edit(editor, images[[0, 2]])[1], shared[2], **NEAR)
    other_front = edit(editor, images[[1, 2]])
    assert (other_front[1] - shared[2]).abs().max() > FAR


def test_a_view_like_the_front_becomes_what_the_front_becomes(editor, images):
    same = edit(editor, images[[0, 0, 1]])
    torch.testing.assert_close(same[1], same[0], **NEAR)


def test_no_batch_changes_what_views_see(editor, images):
    many = torch.cat([images, images.flip(3)])
    wanted = edit(editor, many, replace(SHARED, batch_size=8))
    for size in (1, 2, 4):
        torch.testing.assert_close(edit(editor, many, replace(SHARED, batch_size=size)), wanted)


def test_a_picture_alone_is_edited_as_ever(editor, images):
    assert torch.equal(edit(editor, images[:1]), edit(editor, images[:1], SETTINGS))


def test_attention_is_as_it_was_afterwards(editor, images):
    before = dict(editor.unet.attn_processors)
    edit(editor, images)
    assert editor.unet.attn_processors == before
    with pytest.raises(RuntimeError, match="stop"), sharing_keys(editor.unet, 3, 0):
        assert editor.unet.attn_processors != before
        raise RuntimeError("stop")
    assert editor.unet.attn_processors == before


def test_the_words_are_heard_by_each_view_alone(editor, images):
    with sharing_keys(editor.unet, 3, 0):
        kinds = {n: type(p).__name__ for n, p in editor.unet.attn_processors.items()}
    shared = {name for name, kind in kinds.items() if kind == "SharedKeys"}
    assert shared == {name for name in kinds if ".attn1." in name} != set(kinds)


def test_deep_features_are_kept_beside_it(editor, images):
    few = replace(SHARED, reuse_features=2)
    assert (edit(editor, images, few) - edit(editor, images)).abs().max() > 1e-5
    alone = edit(editor, images[:1], replace(SETTINGS, reuse_features=2))
    torch.testing.assert_close(edit(editor, images, few)[:1], alone, **NEAR)


def test_an_editor_that_cannot_says_so(editor, images, monkeypatch, caplog):
    plain = edit(editor, images, SETTINGS)
    monkeypatch.setattr(type(editor), "takes_reference", False)
    assert torch.equal(edit(editor, images), plain)
    assert caplog.messages == [
        "reference is front, but this editor edits every view by itself; the setting is ignored"
    ]


def test_kept_views_are_those_of_the_whole_set(editor, images, tmp_path):
    wanted = edit(editor, images)
    store = Store(tmp_path, 10**9)
    kept_views(store, editor, images[:2], "an elf", settings=SHARED)
    kept = KeptEdits(store, editor, images, "an elf", SHARED)
    assert kept.missing == [0, 2] and kept.count == 2  # the third has to see the first
    kept.make(editor, images, "an elf", SHARED)
    torch.testing.assert_close(kept.all(), wanted, **NEAR)
    again = KeptEdits(store, editor, images, "an elf", SHARED)
    assert again.missing == [] and torch.equal(again.all(), kept.all())
    other = KeptEdits(store, editor, images[[1, 0, 2]], "an elf", SHARED)  # with another front
    assert other.missing == [0, 1, 2]
    assert KeptEdits(store, editor, images, "an elf", StylizeSettings()).missing == [0, 1, 2]
