"""Guidance, and the parts of a denoising step that may be left out or shared."""

from dataclasses import replace

import pytest
import torch

from freestyle_core.method.stylize import Denoising, stylize_views
from tests.method.stylize.small import SETTINGS, denoising, unet_calls


def test_guidance_weighs_three_branches(editor):
    """A U-Net that answers 1, 2 and 4 for (I,t), (I,0) and (0,0): 4 + 1.5 (2-4) + 3 (1-2) = -2.

    From x = 0 at a and no noise to its 1 - a: x_0 = -sqrt(1 - a) e / sqrt(a) = 2 sqrt((1 - a) / a).
    """

    class Answers(torch.nn.Module):
        config = editor.unet.config

        def __init__(self):
            super().__init__()
            self.dtype_holder = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, t, encoder_hidden_states):
            with_image = x[:, 4:].abs().sum((1, 2, 3)) > 0
            with_text = (encoder_hidden_states == 1).all(2).all(1)
            values = torch.where(with_image, 2.0, 4.0) - with_text.float()
            answer = values[:, None, None, None].expand(-1, 4, 8, 8)
            return type("Output", (), {"sample": answer})

    editor = replace(editor, unet=Answers())
    text = torch.stack([torch.ones(5, 8), torch.zeros(5, 8)])
    settings = replace(SETTINGS, steps=1, image_guidance=1.5, text_guidance=3.0)
    start = Denoising(editor, torch.ones(2, 4, 8, 8), text, torch.zeros(2, 4, 8, 8), settings)
    start.latents = torch.zeros(2, 4, 8, 8)
    start.step()
    assert start.schedule.timesteps.tolist() == [0]  # where a = 1 - 0.0001
    expected = torch.full((2, 4, 8, 8), 2 * (0.0001 / 0.9999) ** 0.5)
    torch.testing.assert_close(start.latents, expected, atol=1e-5, rtol=0)


def test_options_that_leave_out_nothing_change_nothing(editor, images):
    expected, calls, _ = unet_calls(editor, images)
    assert calls == [3] * 6
    off = {"guidance_interval": (0.0, 1.0), "reuse_unconditional": 1, "reuse_features": 1}
    assert torch.equal(unet_calls(editor, images, **off)[0], expected)


@pytest.mark.parametrize(
    ("interval", "calls"),
    [
        ((0.0, 1.0), [3, 3, 3, 3, 3, 3]),
        ((0.25, 0.75), [1, 1, 3, 3, 3, 1]),  # steps 0/6 to 5/6; 2/6, 3/6 and 4/6 lie inside
        ((0.5, 1.0), [1, 1, 1, 3, 3, 3]),  # 3/6 lies inside
        ((0.0, 0.5), [3, 3, 3, 1, 1, 1]),  # and here outside
        ((0.5, 0.5), [1] * 6),
    ],
)
def test_outside_the_interval_only_the_text_and_the_image_are_followed(
    editor, images, interval, calls
):
    result, whole, _ = unet_calls(editor, images, guidance_interval=interval)
    assert whole == calls
    without = unet_calls(editor, images, image_guidance=1.0, text_guidance=1.0)
    assert without[1] == [1] * 6
    assert torch.equal(result, without[0]) == (calls == [1] * 6)


def test_a_branch_that_weighs_nothing_is_left_out(editor, images):
    result, whole, _ = unet_calls(editor, images, image_guidance=1.0)
    assert whole == [2] * 6
    almost = unet_calls(editor, images, image_guidance=1.0 + 1e-6)
    assert almost[1] == [3] * 6
    torch.testing.assert_close(result, almost[0], atol=1e-4, rtol=0)


def test_the_pull_of_the_image_is_shared_by_steps_in_a_row(editor, images):
    expected, _, _ = unet_calls(editor, images)
    result, whole, _ = unet_calls(editor, images, reuse_unconditional=3)
    assert whole == [3, 2, 2, 3, 2, 2]
    assert 0 < (result - expected).abs().max() < 0.1
    changes = {"reuse_unconditional": 2, "guidance_interval": (0.15, 1.0)}
    assert unet_calls(editor, images, **changes)[1] == [1, 3, 2, 3, 2, 3]


@torch.no_grad()
def test_a_shared_pull_is_that_of_the_step_before(editor):
    """e(0,0) is taken as e(I,0) - (e'(I,0) - e'(0,0)), with e' of the step before."""
    answers = iter([(1.0, 2.0, 4.0), (3.0, 5.0)])
    condition = torch.ones(1, 4, 8, 8)
    start = denoising(editor, condition, condition, image_guidance=1.5, reuse_unconditional=2)
    start._predict = lambda *_: tuple(torch.full((1,), value) for value in next(answers))
    assert start._with_guidance(condition).tolist() == [4 + 1.5 * (2 - 4) + 3 * (1 - 2)]
    assert start._with_guidance(condition).tolist() == [7 + 1.5 * (5 - 7) + 3 * (3 - 5)]


def test_deep_features_are_shared_by_steps_in_a_row(editor, images):
    expected, _, _ = unet_calls(editor, images)
    result, whole, last = unet_calls(editor, images, reuse_features=2)
    assert whole == [3, 3, 3] and last == [3] * 6
    assert 0 < (result - expected).abs().max() < 0.2
    # where more branches are asked for than were kept, the whole network runs
    changes = {"reuse_features": 6, "guidance_interval": (0.5, 1.0)}
    assert unet_calls(editor, images, **changes)[1] == [1, 3]
    assert not editor.unet.up_blocks[-1].resnets[-1]._forward_pre_hooks


@torch.no_grad()
def test_a_shallow_call_at_the_same_step_is_the_whole_call(editor):
    text, condition = editor.encode_text(["an elf", ""]), torch.randn(2, 4, 8, 8)
    predictor = editor.predictor(condition, text, torch.tensor([900, 300]), keep_features=True)
    latents = torch.randn(2, 4, 8, 8)
    expected = predictor(latents, 1)
    for branches in (3, 2, 1):
        got = predictor(latents, 1, branches, shallow=True)
        torch.testing.assert_close(got, expected[:branches], atol=1e-5, rtol=0)
    # what is new in a step goes through: its noise and its time
    other = predictor(torch.randn(2, 4, 8, 8), 1, 1, shallow=True)[0]
    assert (other - expected[0]).abs().mean() > 0.01
    assert (predictor(latents, 0, 1, shallow=True)[0] - expected[0]).abs().max() > 1e-6


def test_an_editor_that_cannot_share_features_says_so_once(editor, images, monkeypatch, caplog):
    monkeypatch.setattr(type(editor), "keeps_features", False)
    expected, _, _ = unet_calls(editor, images)
    assert not caplog.records
    result, whole, _ = unet_calls(editor, images, reuse_features=2)
    assert whole == [3] * 6 and torch.equal(result, expected)
    assert [record.getMessage() for record in caplog.records] == [
        "reuse_features is 2, but this editor always runs its whole network; the setting is ignored"
    ]


def test_guidance_left_open_is_the_editor_s_own(editor, images):
    own = replace(editor, guidance=(1.2, 3.5))
    told = replace(SETTINGS, image_guidance=1.2, text_guidance=3.5)
    left = replace(SETTINGS, image_guidance=None, text_guidance=None)
    expected = stylize_views(editor, images, "an elf", settings=told)
    assert torch.equal(stylize_views(own, images, "an elf", settings=left), expected)
