"""Views that do not fit are made anew, and taken only where that fits better."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from freestyle_core.errors import InputError, ShapeError
from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.method.audit import Auditor
from freestyle_core.method.reedit import Reedited, better, next_seed, reedit_views
from freestyle_core.method.render import render_views
from freestyle_core.method.stylize import StylizeSettings, stylize_views
from freestyle_core.seeds import MAX_SEED
from freestyle_core.types import FewShotSet
from tests.spheres import RIG, balls
from tests.tiny import tiny_eg3d, tiny_portrait, tiny_set

BAD = [3, 12, 25]  # of 26 views of a ball


@pytest.fixture(scope="module")
def world():
    """Return views of a ball, of another paint, and of one in between, with the judge of them."""
    cameras = grid_cameras(5, RIG, yaw_range_deg=20, pitch_range_deg=20)
    turn = 0.02 * torch.randn(26, generator=torch.Generator().manual_seed(0))
    right, wrong, half = (balls(cameras, 32, turn=turn + off) for off in (0.0, 0.5, 0.2))
    mixed = right.image.clone()
    mixed[BAD] = wrong.image[BAD]
    return Auditor(right, 26, 0.027), right.image, mixed, half.image


def test_right_views_take_the_place_of_wrong_ones(world):
    auditor, right, mixed, _ = world
    images, found = better(auditor, mixed, auditor.judge(mixed), BAD, right[BAD])
    assert torch.equal(images, right)
    assert torch.equal(found.disagreement, auditor.judge(right).disagreement)


def test_a_worse_view_is_left_out_and_a_better_one_beside_it_taken(world):
    auditor, right, mixed, half = world
    mixed = mixed.clone()
    mixed[12] = half[12]
    before = auditor.judge(mixed)
    offered = torch.stack([right[3], 1 - half[12], half[25]])
    images, found = better(auditor, mixed, before, BAD, offered)
    assert torch.equal(images[3], right[3]) and torch.equal(images[25], half[25])
    assert torch.equal(images[12], mixed[12])
    assert (found.disagreement < before.disagreement)[[3, 25]].all()
    assert found.disagreement.sum() <= before.disagreement.sum()
    untouched = [view for view in range(26) if view not in (3, 25)]
    assert torch.equal(images[untouched], mixed[untouched])


def test_nothing_changes_where_nothing_is_better(world):
    auditor, _, mixed, _ = world
    before = auditor.judge(mixed)
    images, found = better(auditor, mixed, before, BAD, 1 - mixed[BAD])
    assert torch.equal(images, mixed) and found is before
    same = better(auditor, mixed, before, BAD, mixed[BAD])  # no better than itself
    assert torch.equal(same[0], mixed) and same[1] is before


def test_a_set_that_disagrees_more_in_all_is_not_taken(world):
    auditor, right, mixed, _ = world
    found = auditor.judge(mixed)
    # the three wrong views far off, and all others as if they had agreed far better
    low = torch.full((26,), -10.0).scatter(0, torch.tensor(BAD), 50.0)
    assert low.sum() < auditor.judge(right).disagreement.sum()
    calm = replace(found, disagreement=low)
    images, after = better(auditor, mixed, calm, BAD, right[BAD])
    assert torch.equal(images, mixed) and after is calm


def test_one_view_far_off_is_replaced_though_others_then_stand_out(world):
    auditor, right, _, _ = world
    far = right.clone()
    far[20] = 1 - far[20]
    before = auditor.judge(far)
    images, found = better(auditor, far, before, [20], right[[20]])
    assert torch.equal(images, right)
    assert found.weights.sum() < before.weights.sum()  # beside it all others looked alike


def test_views_of_another_head_are_edited_again_with_the_next_noise(swapped):
    mixed, calls = swapped.mixed, []

    def edit(editor, images, style, *, settings, progress):
        calls.append((images, style, settings.seed))
        return stylize_views(editor, images, style, settings=settings, progress=progress)

    reports = []
    made = reedit_views(
        swapped.editor,
        swapped.head,
        swapped.seen.image,
        mixed,
        seen=swapped.seen,
        settings=swapped.settings,
        edit=edit,
        progress=lambda done, total, preview=None: reports.append(done / total),
    )
    before = swapped.auditor.judge(mixed.images)
    first = (before.weights < 0.5).nonzero()[:, 0].tolist()
    assert first and set(first) <= set(made.doubted)
    assert made.replaced and set(made.replaced) <= set(made.doubted)
    assert torch.equal(calls[0][0], swapped.seen.image[first])
    assert calls[0][1:] == ("a bronze statue", 1) and len(calls) <= 2
    # what was wrong fits again, as well as what was never touched
    wrong = [view for view in made.replaced if swapped.bad[view]]
    assert wrong and made.before[wrong].min() > 1.5 and made.after[wrong].max() < 1.5
    assert torch.equal(made.after, swapped.auditor.judge(made.few_shot.images).disagreement)
    assert (made.after < made.before)[made.replaced].all()
    clean = swapped.clean.images
    far, near = (
        (images - clean)[wrong].square().mean() for images in (mixed.images, made.few_shot.images)
    )
    assert near < far / 3
    kept = [view for view in range(26) if view not in made.replaced]
    assert torch.equal(made.few_shot.images[kept], mixed.images[kept])
    assert reports == sorted(reports) and reports[-1] == 1
    assert str(made).startswith(f"{len(made.doubted)} of 26 edited views did not fit")


def test_views_that_cannot_be_judged_cost_no_edit():
    eg3d = tiny_eg3d()
    few_shot = tiny_set(eg3d, views=3)  # 30 degrees apart
    head = tiny_portrait(eg3d)
    seen = render_views(head, few_shot.cameras)
    made = reedit_views(None, head, seen.image, few_shot, edit=None)
    assert isinstance(made, Reedited) and made.doubted == made.replaced == []
    assert torch.equal(made.few_shot.images, few_shot.images)


@pytest.mark.parametrize("reference", ["none", "front"])
def test_edits_of_another_size_are_brought_to_that_of_the_set(world, monkeypatch, reference):
    auditor, right, mixed, _ = world
    head = tiny_portrait(tiny_eg3d())
    monkeypatch.setattr("freestyle_core.method.audit.tolerance_of", lambda rig: 0.027)
    large = torch.nn.functional.interpolate(right, scale_factor=2, mode="nearest")
    seen = replace(auditor.seen, image=large)
    few_shot = FewShotSet(mixed, seen.cameras, 0, "paint")
    order = []

    def edit(editor, images, style, *, settings, progress):
        order.append(settings.seed)
        # where the others have to see the front view, it comes first
        assert (reference == "front") == torch.equal(images[0], large[0])
        return images  # the editor does nothing; the views are of twice the size

    settings = StylizeSettings(seed=MAX_SEED, reference=reference)
    editor = SimpleNamespace(steps=20, takes_reference=True)
    made = reedit_views(editor, head, large, few_shot, seen=seen, settings=settings, edit=edit)
    assert set(BAD) <= set(made.replaced) and made.few_shot.images.shape == mixed.shape
    assert order == [0, 1]  # after the largest seed
    assert (made.few_shot.images - right).abs().max() < 0.3


def test_wrong_input_is_named():
    few_shot = tiny_set(tiny_eg3d(), views=3)
    two = few_shot.images[:2]
    with pytest.raises(ShapeError, match="got 2 renderings for a set of 10"):
        reedit_views(None, None, two, few_shot)
    with pytest.raises(InputError, match="rounds must be 1 to 16, got 0"):
        reedit_views(None, None, two, few_shot, rounds=0)
    assert next_seed(5, 2) == 7 and next_seed(MAX_SEED, 1) == 0
