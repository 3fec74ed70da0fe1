"""Views that do not fit are found on the embedded models, and count less in fine-tuning."""

import pytest
import torch

from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.method.audit import audit, dense_enough, doubted, tolerance_of
from freestyle_core.method.finetune import FinetuneSettings, finetune_portraits
from freestyle_core.method.finetune_steps import view_plan
from freestyle_core.types import CameraRig, FewShotSet
from tests.metrics.test_disagreement import auc
from tests.tiny import tiny_eg3d, tiny_perceptual, tiny_portrait, tiny_set


def test_views_of_another_head_are_found_among_edited_ones(swapped):
    clean = swapped.auditor.judge(swapped.clean.images)
    assert clean.weights.mean() > 0.9 and len(doubted(clean.weights)) <= 2
    found, bad = audit(swapped.head, swapped.mixed), swapped.bad
    assert auc(found.disagreement, bad) >= 0.95
    assert found.weights[bad].min() < 0.5 < 0.9 < found.weights[~bad].mean()


def test_views_far_apart_count_in_full():
    eg3d = tiny_eg3d()
    rig = eg3d.config.rig()
    dense = [dense_enough(grid_cameras(views, rig)) for views in (2, 3, 5, 6, 7, 10)]
    assert dense == [False, False, False, True, True, True]
    found = audit(tiny_portrait(eg3d), tiny_set(eg3d, views=3))
    assert found.weights.tolist() == [1.0] * 10 == found.disagreement.tolist()


def test_the_tolerance_grows_with_the_rig():
    assert tolerance_of(CameraRig(5.4, (0.0, 0.0, 0.0), 4.0)) == pytest.approx(0.054)


def test_a_view_is_taken_as_often_as_its_weight_says():
    settings = FinetuneSettings(iterations=4000, seed=3)
    weights = [torch.tensor([1.0, 0.25, 1.0, 0.0])]
    taken = torch.tensor([view for step in view_plan([4], settings, weights) for _, view in step])
    counts = taken.bincount(minlength=4).float()
    assert counts[3] == 0 and counts.sum() == 4000
    # 2.25 views a round, so 1777.8 rounds; the deviation of the second is 18
    assert counts[0] == pytest.approx(1778, abs=30) and counts[0] == pytest.approx(counts[2], abs=1)
    assert counts[1] == pytest.approx(444, abs=75)


def test_weights_of_one_change_no_order_and_none_left_takes_all():
    settings = FinetuneSettings(iterations=30, batch_size=2)
    plain = view_plan([5, 3], settings)
    assert view_plan([5, 3], settings, [torch.ones(5), torch.ones(3)]) == plain
    assert view_plan([5, 3], settings, [torch.zeros(5), torch.ones(3)]) == plain


def test_robust_training_says_what_it_doubted():
    eg3d = tiny_eg3d()
    head, views = tiny_portrait(eg3d), tiny_set(eg3d, views=4)
    made = [
        finetune_portraits(
            None,
            "",
            [head],
            [FewShotSet(views.images, views.cameras, 0, "an elf")],
            tiny_perceptual(),
            settings=FinetuneSettings(iterations=3, preview_every=0, robust=robust),
        ).portraits[0]
        for robust in (False, True)
    ]
    assert "doubted_views" not in made[0].provenance
    # untrained planes show no surface, on which views could disagree: all count in full
    assert made[1].provenance["doubted_views"] == []
    assert torch.equal(made[0].triplane.planes, made[1].triplane.planes)
