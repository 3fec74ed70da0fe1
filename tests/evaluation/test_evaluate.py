"""Evaluations of painted balls, whose truth is known, and what is said of them."""

import json
import math

import pytest
import torch

from freestyle_core.errors import InputError, MismatchError
from freestyle_core.evaluation.evaluate import evaluate_portrait
from freestyle_core.evaluation.picture import across, heat
from freestyle_core.evaluation.report import MEANINGS, report
from freestyle_core.evaluation.settings import EvaluateSettings, evenly
from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.geometry.warps import pairs_at, view_angles
from freestyle_core.types import FewShotSet
from tests.spheres import RIG, ball_view, balls

SIZE = 32


class PixelClip(torch.nn.Module):
    """A CLIP whose features are mean colours; words are colours, too."""

    name = "mean colour"
    words = {"a photo of a red ball": (1.0, 0.2, 0.2), "a photo of a person": (0.6, 0.6, 0.6)}

    def encode_images(self, images):
        assert images.min() < 0  # in -1..1
        return torch.nn.functional.normalize(images.mean((2, 3)) / 2 + 0.5, dim=1)

    def encode_texts(self, texts):
        return torch.nn.functional.normalize(torch.tensor([self.words[t] for t in texts]), dim=1)


class PixelDino(torch.nn.Module):
    name = "colours"

    def features(self, images):
        return torch.nn.functional.avg_pool2d(images, 2)


def distance(a, b):
    return (a - b).square().mean((1, 2, 3))


def edited_set(turn=0.0, size=SIZE, views=5, reach=24.0):
    cameras = grid_cameras(views, RIG, yaw_range_deg=reach, pitch_range_deg=reach)
    return FewShotSet(balls(cameras, size, turn=turn).image, cameras, 0, "a red ball")


def evaluated(**given):
    chosen = dict(
        render=ball_view(SIZE),
        rig=RIG,
        distance=distance,
        settings=EvaluateSettings(path_frames=6, most_pairs=8),
    )
    return evaluate_portrait(**{**chosen, **given})


def test_held_out_views_are_off_every_usual_grid():
    cameras = EvaluateSettings().held_out(RIG)
    assert len(cameras) == 25
    position = cameras.cam_to_world[:, :3, 3] / 2.7
    pitch = torch.rad2deg(torch.asin(position[:, 1]))
    yaw = torch.rad2deg(torch.atan2(position[:, 0], position[:, 2]))
    assert yaw.abs().max() < 25.01 and pitch.abs().max() < 25.01
    assert yaw.min() == pytest.approx(-25, abs=1e-3) and yaw.max() == pytest.approx(25, abs=1e-3)
    forward = cameras.cam_to_world[:, :3, 2]
    for views in (2, 3, 4, 5, 6, 7, 8, 10):
        nearest = (forward @ grid_cameras(views, RIG).cam_to_world[:, :3, 2].T).max()
        assert math.degrees(math.acos(min(1, float(nearest)))) > 1.2, views


def test_held_out_views_have_pairs_of_exactly_both_angles():
    cameras = EvaluateSettings().held_out(RIG)
    angles = view_angles(cameras)
    for degrees in (6.0, 30.0):
        exact = ((angles - degrees).abs() < 1e-3).triu(1).sum()
        assert exact >= 10  # two in each row
        pairs = pairs_at(cameras, degrees)
        assert (angles[pairs[:, 0], pairs[:, 1]] - degrees).abs().max() < 2.01


def test_a_perfect_portrait():
    cameras = edited_set().cameras
    out = evaluated(
        original=ball_view(SIZE),
        edited=edited_set(turn=0.3 * torch.randn(len(cameras), generator=torch.manual_seed(0))),
        truth=lambda cameras: balls(cameras, SIZE).image,
        clip=PixelClip(),
        dino=PixelDino(),
        prompt="a red ball",
    )
    s = out.scores
    assert s["truth_psnr"] == 100 and s["truth_perceptual"] == 0
    assert s["warp_short_rmse"] < 0.05 and s["warp_long_rmse"] < 0.05
    assert s["edited_warp_short_rmse"] > 3 * s["warp_short_rmse"]
    assert s["consistency_gain"] > 3
    assert s["feature_consistency"] < s["edited_feature_consistency"]
    assert s["identity"] == pytest.approx(1, abs=1e-5) and s["clip_gain"] == pytest.approx(0)
    assert s["clip_direction"] == 0  # nothing changed, so there is no direction
    assert s["clipped_gain"] == 0 and s["roughness"] == s["roughness_original"] < 3
    assert s["sharpness"] == s["sharpness_original"] > 0
    assert not out.missing
    assert set(s) == {name for name, _, _ in MEANINGS}
    assert len(out.disagreement) == 26
    sparse = evaluated(original=ball_view(SIZE), edited=edited_set(reach=30.0))
    assert sparse.disagreement == [] and "too far apart" in sparse.missing["edited_disagreement"]


def test_the_gain_compares_the_same_cameras():
    out = evaluated(original=ball_view(SIZE), edited=edited_set())
    # edited views that are the portrait's own agree as well as it does
    for name in ("consistency_gain", "consistency_gain_short", "consistency_gain_long"):
        assert out.scores[name] == pytest.approx(1, abs=1e-5)
    assert out.scores["edit_fidelity"] == 0


def test_a_grey_ball_agrees_with_itself_and_not_with_the_edit():
    def grey(cameras):
        seen = balls(cameras, SIZE)
        image = torch.where(seen.alpha > 0, 0.5, 1.0).expand(-1, 3, -1, -1)
        return type(seen)(image, image, seen.depth, seen.alpha, cameras)

    out = evaluated(render=grey, original=ball_view(SIZE), edited=edited_set())
    assert out.scores["warp_long_rmse"] < 0.02
    assert out.scores["edit_fidelity"] > 0.005
    assert out.scores["consistency_gain"] > 1


def test_what_cannot_be_measured_is_said():
    out = evaluated()
    assert set(out.missing) == {
        "clip",
        "truth",
        "feature_consistency",
        "edit_fidelity",
        "consistency_gain",
    }
    text = report(out)
    assert "not measured: truth: nobody knows" in text and "warp_short_rmse" in text
    half = evaluated(edited=edited_set(), clip=PixelClip())
    assert "original" in half.missing["consistency_gain"] and "edit_fidelity" in half.scores
    assert "prompt" in half.missing["clip_text"] and "clip_min_pair" in half.scores


def test_a_weak_style_is_noted():
    out = evaluated(clip=PixelClip(), original=ball_view(SIZE), prompt="a red ball")
    assert out.scores["clip_gain"] == pytest.approx(0)
    assert "the style hardly shows" in report(out)


def test_the_record_is_plain_and_names_the_protocol():
    out = evaluated(
        original=ball_view(SIZE), edited=edited_set(), clip=PixelClip(), prompt="a red ball"
    )
    again = json.loads(json.dumps(out.record()))
    assert again["scores"].keys() == out.scores.keys()
    protocol = again["protocol"]
    assert protocol["clip"] == "mean colour" and protocol["background"] == "white"
    assert protocol["texts"] == ["a photo of a red ball", "a photo of a person"]
    assert protocol["held_out_views"] == 25 and protocol["edited_views"] == 26
    assert protocol["degrees_between_pairs"]["edited"] == pytest.approx([12, 30], abs=2)
    assert "a photo of a red ball" in report(out)


def test_scores_are_the_same_every_time():
    assert evaluated(clip=PixelClip()).scores == evaluated(clip=PixelClip()).scores


def test_progress_ends_and_a_stop_is_heard():
    reports = []
    evaluated(progress=lambda done, total, preview=None: reports.append((done, total)))
    assert reports[0] == (0, 26) and reports[-1] == (26, 26)
    assert [d for d, _ in reports] == sorted(d for d, _ in reports)

    def stop(done, total, preview=None):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluated(progress=stop)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(MismatchError, match="learnt from"):
        evaluated(edited=edited_set(size=16))
    with pytest.raises(MismatchError, match="truth is"):
        evaluated(truth=lambda cameras: torch.zeros(25, 3, 16, 16))


def test_many_edited_views_are_thinned_and_keep_the_front():
    out = evaluated(
        edited=edited_set(), settings=EvaluateSettings(most_views=7, path_frames=6, most_pairs=4)
    )
    assert out.protocol["edited_views"] == 7
    assert evenly(26, 7) == [0, 4, 8, 12, 17, 21, 25] and evenly(3, 7) == [0, 1, 2]


def test_the_picture_shows_rows_and_reddens_what_differs():
    plain, full = (
        evaluated(**given).picture
        for given in ({}, {"original": ball_view(SIZE), "edited": edited_set()})
    )
    assert plain.shape[0] == 3 and full.shape[1] > plain.shape[1] + 4 * 128
    assert 0 <= full.min() and full.max() <= 1
    image, seen = torch.full((1, 3, 1, 3), 0.5), torch.tensor([[[[True, True, False]]]])
    shown = heat(image, torch.tensor([[[[0.0, 9.0, 9.0]]]]), seen)[0, :, 0].T
    grey, red, unseen = shown.tolist()
    assert grey[0] == grey[1] == grey[2] and red[0] > 0.8 > 0.1 > red[1]
    assert unseen[2] > unseen[0] > 0.8


def test_views_in_the_picture_turn_from_side_to_side():
    cameras = grid_cameras(5, RIG)  # the front view comes twice
    chosen = across(cameras, 5)
    assert not {0, 13} <= set(chosen)
    x = cameras.cam_to_world[chosen, 0, 3].tolist()
    assert x == sorted(x) and len(set(chosen)) == 5
    assert cameras.cam_to_world[chosen, 1, 3].abs().max() < 0.8
    assert len(across(cameras[:3], 5)) == 3


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"short_deg": 30.0}, "rising"),
        ({"long_deg": 50.0}, "at most 35"),
        ({"tolerance": 0.0}, "try 0.01"),
        ({"path_frames": 2}, "at least 3"),
        ({"most_views": 1}, "at least 2"),
        ({"pictures": 1}, "2 to 12"),
        ({"template": "a photo"}, "must contain"),
    ],
)
def test_settings_outside_their_range(given, words):
    with pytest.raises(InputError, match=words):
        EvaluateSettings(**given)
