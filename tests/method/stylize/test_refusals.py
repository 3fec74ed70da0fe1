"""Settings, prompts and pictures that an edit refuses."""

import json
from dataclasses import fields, replace

import pytest
import torch

from freestyle_core.errors import FreeStyleError, InputError, ShapeError
from freestyle_core.method.stylize import StylizeSettings, stylize_views
from tests.method.stylize.small import SETTINGS


def test_prompt_is_the_template_filled():
    settings = StylizeSettings()
    expected = "turn the head into a bronze statue, realistic, detail, 8k, photorealistic"
    assert settings.prompt("  a bronze statue ") == expected
    assert replace(settings, decorative="").prompt("an elf") == "turn the head into an elf"
    bare = replace(settings, template="{style}")
    assert bare.prompt("a {decorative} elf") == "a {decorative} elf"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tau": 0.0}, "tau must be above 0 and at most 1, got 0.0"),
        ({"tau": 1.01}, "got 1.01"),
        ({"tau": float("nan")}, "got nan"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"template": "turn the head"}, "must contain {style}"),
        ({"reuse_unconditional": 0}, "reuse_unconditional must be at least 1, got 0"),
        ({"reuse_features": 0}, "reuse_features must be at least 1, got 0"),
        ({"reuse_features": 1.5}, "reuse_features must be a whole number, got 1.5"),
        ({"guidance_interval": (0.6, 0.5)}, r"from 0 to 1 and rising, got \(0.6, 0.5\)"),
        ({"guidance_interval": (-0.1, 1.0)}, "from 0 to 1"),
        ({"guidance_interval": (0.0, 1.1)}, "from 0 to 1"),
        ({"guidance_interval": (0.5,)}, "must be two shares"),
        ({"guidance_interval": (0.0, float("nan"))}, "must be a finite number"),
        ({"noise": "head"}, "noise must be screen or surface, got 'head'"),
        ({"reference": "back"}, "reference must be none or front, got 'back'"),
        ({"text_guidance": float("inf")}, "text_guidance must be a finite number, got inf"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message.replace("{", r"\{")):
        StylizeSettings(**changes)


def test_an_editor_brings_its_own_number_of_steps(editor):
    counted = []

    def steps(own, asked):
        counted.clear()
        stylize_views(
            replace(editor, steps=own),
            torch.rand(1, 3, 16, 16),
            "an elf",
            settings=StylizeSettings(steps=asked, tau=1.0),
            progress=lambda done, total, preview=None: counted.append(total),
        )
        return counted[0] - 2  # the VAE counts two

    assert steps(own=7, asked=None) == 7
    assert steps(own=7, asked=4) == 4
    assert StylizeSettings().count() == 20  # the paper's, where there is no editor to ask


def test_every_setting_decides_the_edit_but_those_of_words_and_batch():
    others = {
        "tau": 0.8,
        "steps": 10,
        "image_guidance": 1.1,
        "text_guidance": 3.1,
        "seed": 1,
        "guidance_interval": (0.0, 0.9),
        "reuse_unconditional": 2,
        "reuse_features": 2,
        "noise": "surface",
        "reference": "front",
    }
    words_and_batch = {"template", "decorative", "negative", "batch_size"}
    assert {field.name for field in fields(StylizeSettings)} == others.keys() | words_and_batch
    usual = StylizeSettings()
    decided = [usual.decides((1.5, 20.0))]
    decided += [replace(usual, **{name: x}).decides((1.5, 20.0)) for name, x in others.items()]
    assert len({json.dumps(one, sort_keys=True) for one in decided}) == 1 + len(others)
    assert decided[0].keys().isdisjoint({"noise", "reference"})  # nor before there was a choice
    assert replace(usual, reference="none").decides((1.5, 20.0)) == decided[0]
    assert replace(usual, batch_size=3).decides((1.5, 20.0)) == decided[0]
    # guidance that is left open is the editor's own
    told = replace(usual, image_guidance=1.5, text_guidance=20.0)
    assert told.decides((2.0, 3.0)) == decided[0] != usual.decides((2.0, 3.0))


def test_more_steps_than_the_schedule_has_are_refused(editor, images):
    all_of_them = replace(SETTINGS, steps=1000, tau=0.001)  # of which one runs
    assert stylize_views(editor, images[:1], "an elf", settings=all_of_them).shape[0] == 1
    with pytest.raises(InputError, match="steps must be at most 1000, .* got 1001"):
        stylize_views(editor, images, "an elf", settings=StylizeSettings(steps=1001))


def test_an_editor_that_gives_nan_is_named(editor, images, monkeypatch):
    """As half precision does where it overflows; a black picture would say nothing."""
    broken = torch.full((1, 3, 16, 16), 0.5)
    broken[0, 1, 2, 3] = float("nan")
    monkeypatch.setattr(type(editor), "decode", lambda self, latents: broken)
    with pytest.raises(FreeStyleError, match="made NaN of a view: .* load it in float32 or"):
        stylize_views(editor, images, "an elf", settings=StylizeSettings(steps=2))


@pytest.mark.parametrize("style", ["", "  \n"])
def test_an_empty_style_is_refused(editor, images, style):
    with pytest.raises(InputError, match="the style is empty"):
        stylize_views(editor, images, style)


def test_a_prompt_the_text_encoder_would_cut_is_refused(editor, images):
    settings = replace(SETTINGS, template="{style}", negative="")
    fits = " ".join(["elf"] * 46)  # the encoder reads 48 tokens, two of them are start and end
    stylize_views(editor, images[:1], fits, settings=settings)
    with pytest.raises(InputError, match="47 tokens, the text encoder reads 46"):
        stylize_views(editor, images, fits + " elf", settings=settings)
    with pytest.raises(InputError, match="47 tokens"):
        stylize_views(editor, images, "elf", settings=replace(settings, negative=fits + " elf"))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.rand(3, 16, 16), r"\[V,3,H,W\] with V >= 1, got \(3, 16, 16\)"),
        (torch.rand(0, 3, 16, 16), "V >= 1"),
        (torch.rand(1, 4, 16, 16), "V >= 1"),
        (torch.rand(1, 3, 16, 17), "17x16 pixels .* multiples of 2; resize"),
        (torch.full((1, 3, 16, 16), float("nan")), "NaN"),
        (torch.rand(1, 3, 16, 16) * 255, r"must be in \[0,1\]"),
    ],
)
def test_bad_images_are_refused(editor, bad, message):
    with pytest.raises(ShapeError, match=message):
        stylize_views(editor, bad, "an elf", settings=SETTINGS)


def test_noise_of_another_size_is_refused(editor, images):
    with pytest.raises(ShapeError, match=r"noise must be \[1, 4, 8, 8\]"):
        stylize_views(editor, images, "an elf", settings=SETTINGS, noise=torch.zeros(1, 4, 4, 4))
