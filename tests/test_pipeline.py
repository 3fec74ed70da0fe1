"""The run as a whole: which seed, settings and view goes where, and that its record is true."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from freestyle_core import pipeline
from freestyle_core.cli.run_files import write_run_record
from freestyle_core.errors import InputError, MismatchError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.files.networks import save_eg3d, save_i2t, save_perceptual
from freestyle_core.method.fewshot import few_shot_set
from freestyle_core.method.finetune import FinetuneSettings, finetune_portraits
from freestyle_core.method.mesh import MeshSettings
from freestyle_core.method.reedit import Reedited
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.method.stylize import StylizeSettings, stylize_views
from freestyle_core.pipeline import (
    ModelPaths,
    PortraitSettings,
    load_models,
    make_portrait,
    sheet_views,
    style_views,
)
from freestyle_core.presets import DEFAULT, FAST, PAPER, Preset
from freestyle_core.progress import Stages
from freestyle_core.visualize.turntable import TurntableSettings
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_perceptual
from tests.tiny_editor import save_tiny_editor

SETTINGS = PortraitSettings(
    prompts=("an elf",),
    seed=3,
    views=2,
    mix_steps=3,
    mix_frames=4,
    edit=StylizeSettings(steps=3),
    tune=FinetuneSettings(train="i2t", iterations=3, preview_every=0),
    turntable=TurntableSettings(frames=2),
    mesh=MeshSettings(resolution=16, level=0.35),
)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    eg3d = tiny_eg3d()
    save_eg3d(folder / "eg3d.safetensors", eg3d)
    save_i2t(folder / "i2t.safetensors", tiny_i2t(), eg3d=weights_hash(eg3d.state_dict()))
    save_perceptual(folder / "perceptual.safetensors", tiny_perceptual().net)
    save_tiny_editor(folder / "editor")
    return ModelPaths(
        eg3d=folder / "eg3d.safetensors",
        i2t=folder / "i2t.safetensors",
        perceptual=folder / "perceptual.safetensors",
        editor=folder / "editor",
    )


@pytest.fixture(scope="module")
def models(paths):
    return load_models(paths)


@pytest.fixture(scope="module")
def run(models):
    return make_portrait(models, SETTINGS)


def by_hand(models, settings, styles=None):
    """Return original, edited views and portraits as the steps themselves make them."""
    head = sample_portrait(models.eg3d, settings.seed, psi=settings.psi)
    cameras = settings.cameras(models.eg3d.config.rig())
    original = render_views(head, cameras).image
    sets = [
        few_shot_set(
            head,
            stylize_views(models.editor, original, style, settings=settings.edit),
            cameras,
            style,
        )
        for style in styles or settings.prompts
    ]
    result = finetune_portraits(
        models.i2t,
        models.hashes["i2t"],
        [head] * len(sets),
        sets,
        models.perceptual,
        settings=settings.tune,
    )
    return original, sets, result.portraits


def test_the_record_handed_to_the_steps_gives_the_same_portrait(models, run, tmp_path):
    path = tmp_path / "run.json"
    write_run_record(path, run, models, times={}, files=[], device="cpu")
    recorded = json.loads(path.read_text())["settings"]
    assert (recorded["seed"], recorded["edit"]["seed"], recorded["tune"]["seed"]) == (3, 3, 3)
    settings = PortraitSettings.from_record(recorded)
    assert settings == run.settings
    original, sets, portraits = by_hand(models, settings)
    assert torch.equal(original, run.original)
    assert torch.equal(sets[0].images, run.styles[0].edited)
    assert torch.equal(portraits[0].triplane.planes, run.styles[0].portrait.triplane.planes)


def test_settings_of_another_version_are_named():
    with pytest.raises(InputError, match="PortraitSettings has no setting 'colour'"):
        PortraitSettings.from_record({"prompts": ["an elf"], "colour": 1})


def test_one_seed_rules_the_head_the_noise_and_the_training(models, run):
    other = style_views(models, replace(SETTINGS, seed=4))
    assert not torch.equal(other.original, run.original)
    # the same head: only the edit's noise differs, then only the order of training
    edit, tune = replace(run.settings.edit, seed=4), replace(run.settings.tune, seed=4)
    noise = stylize_views(models.editor, run.original, "an elf", settings=edit)
    assert not torch.equal(noise, run.styles[0].edited)
    order = by_hand(models, replace_unchecked(run.settings, tune=tune))[2][0]
    assert not torch.equal(order.triplane.planes, run.styles[0].portrait.triplane.planes)


def replace_unchecked(settings, **changes):
    """Return what the steps would see under settings that a run refuses."""
    return type("Loose", (), {**{k: getattr(settings, k) for k in vars(settings)}, **changes,
                              "cameras": settings.cameras})()  # fmt: skip


def test_views_that_do_not_fit_are_edited_again_before_the_training(models, run, monkeypatch):
    asked = {}

    def again(editor, portrait, views, few_shot, **given):
        asked.update(given, views=views, edited=few_shot.images)
        better = replace(few_shot, images=few_shot.images.flip(3))
        return Reedited(better, [1, 2], [2], torch.ones(5), torch.ones(5))

    monkeypatch.setattr(pipeline, "reedit_views", again)
    settings = replace(SETTINGS, reedit=3)
    made = style_views(models, settings)
    assert torch.equal(asked["views"], run.original)
    assert torch.equal(asked["edited"], run.styles[0].edited)
    assert (asked["rounds"], asked["settings"]) == (3, run.settings.edit)
    assert asked["edit"] is stylize_views and asked["render"] == settings.render
    assert torch.equal(asked["seen"].image, run.original)
    assert torch.equal(made.sets[0].images, run.styles[0].edited.flip(3))
    assert not torch.equal(
        made.portraits[0].triplane.planes, run.styles[0].portrait.triplane.planes
    )
    assert made.portraits[0].provenance["reedited_views"] == [2]
    assert "reedited_views" not in run.styles[0].portrait.provenance
    with pytest.raises(InputError, match="reedit must be 0 to 16, got 17"):
        replace(SETTINGS, reedit=17)


@pytest.mark.parametrize("part", ["edit", "tune"])
def test_a_second_seed_is_refused(part):
    own = replace(getattr(SETTINGS, part), seed=7)
    with pytest.raises(InputError, match=rf"{part}\.seed is 7, but one seed .* it is 3"):
        replace(SETTINGS, **{part: own})


def test_resolved_settings_stay_as_they_are():
    once = SETTINGS.resolved()
    assert once.edit.seed == once.tune.seed == 3
    assert once.resolved() == once
    assert (SETTINGS.edit.seed, SETTINGS.tune.seed) == (0, 0)


def test_two_styles_share_one_network_and_keep_their_order(models):
    settings = replace(SETTINGS, prompts=("a zombie", "an elf"))
    stages = Stages()
    both = make_portrait(models, settings, stages=stages)
    assert [style.prompt for style in both.styles] == ["a zombie", "an elf"]
    _, sets, portraits = by_hand(models, settings.resolved())
    for style, few_shot, portrait in zip(both.styles, sets, portraits, strict=True):
        assert torch.equal(style.edited, few_shot.images)
        assert torch.equal(style.portrait.triplane.planes, portrait.triplane.planes)
        assert style.portrait.provenance["prompt"] == few_shot.prompt
        assert style.portrait.provenance["hashes"] == models.hashes
    a, b = (style.portrait.style.network for style in both.styles)
    assert a is b
    # the sheet's ends are the portraits themselves, at yaw 0 their front views
    assert both.mixed.sheet.shape[:2] == (3, 3)
    for column, style in ((0, both.styles[0]), (-1, both.styles[1])):
        torch.testing.assert_close(both.mixed.sheet[1, column], style.front, atol=1e-5, rtol=0)
    # the video starts at the first style, and its middle of 4 frames is the second
    assert len(both.mixed.frames) == settings.mix_frames
    assert list(stages.times) == [
        "render the views",
        "edit into a zombie",
        "edit into an elf",
        "fine-tune",
        "render a zombie",
        "mesh of a zombie",
        "render an elf",
        "mesh of an elf",
        "mix the styles",
    ]


def test_the_pictures_of_a_style_are_of_its_portrait(models, run):
    style = run.styles[0]
    rig = models.eg3d.config.rig()
    cameras = run.settings.cameras(rig)[run.sheet_views]
    expected = render_views(style.portrait, cameras).image
    torch.testing.assert_close(style.sheet, expected, atol=1e-5, rtol=0)
    assert torch.equal(style.front, style.sheet[0])
    turned = render_views(style.portrait, run.settings.turntable.cameras(rig)).image
    torch.testing.assert_close(style.turntable, turned, atol=1e-5, rtol=0)
    assert run.mixed is None


def test_the_sheet_shows_the_front_and_the_edges_of_the_grid():
    # 4 x 4 views after the front: row 2 (of 0..3) at columns 0 to 3, then rows 0 and 3 at column 2
    assert sheet_views(4) == [0, 9, 10, 11, 12, 3, 15]
    assert sheet_views(2) == [0, 1, 2, 3]  # no view twice


def test_a_prompt_that_is_too_long_is_refused_before_any_work(models, monkeypatch):
    monkeypatch.setattr(pipeline, "render_views", None)
    with pytest.raises(InputError, match="too long|tokens"):
        make_portrait(models, replace(SETTINGS, prompts=("an elf " * 200,)))


def test_an_editor_of_another_picture_size_is_refused(paths, monkeypatch):
    monkeypatch.setattr(pipeline.Editor, "factor", property(lambda editor: 5))
    with pytest.raises(MismatchError, match="multiples of 5, but this EG3D makes 16 pixels"):
        load_models(paths)


def test_presets_are_the_librarys_defaults_or_say_otherwise():
    assert DEFAULT.settings("an elf") == PortraitSettings(prompts=("an elf",))
    small = Preset(views=4, steps=10, iterations=80, batch_size=2, frames=36, resolution=128)
    made = small.settings("an elf", "sand", seed=5, tau=0.8, path="orbit", mix_steps=7)
    assert (made.views, made.edit.steps, made.edit.tau) == (4, 10, 0.8)
    assert made.tune.iterations == 2 * 80  # two styles take turns
    assert (made.turntable.frames, made.turntable.path) == (36, "orbit")
    assert (made.mesh.resolution, made.mix_steps, made.seed) == (128, 7, 5)
    assert (made.tune.batch_size, made.tune.train) == (2, "planes")


def test_the_papers_preset_is_the_paper():
    paper = PAPER.settings("an elf")
    assert (paper.views, paper.edit.steps, paper.edit.tau) == (10, 20, 0.9)
    tune = paper.tune
    assert (tune.train, tune.iterations, tune.batch_size) == ("i2t", 450, 1)
    assert (tune.learning_rate, tune.betas) == (0.002, (0.0, 0.99))
    assert (tune.lambda_rec, tune.lambda_dr, tune.delta_std) == (10.0, 0.2, 0.004)


def test_a_network_is_trained_for_as_long_as_the_paper_does():
    network = FAST.training("both")
    assert network == replace(
        FAST, train="both", iterations=450, sample_share=1.0, skip_empty=False, fade=0.4
    )
    assert FAST.training("planes") == FAST
    assert PAPER.training("planes") == replace(PAPER, train="planes")


def test_numbers_that_are_given_go_before_those_of_the_preset():
    changed = FAST.but(views=6, steps=None, iterations=7)
    assert changed == replace(FAST, views=6, iterations=7)
    with pytest.raises(TypeError, match="best"):
        FAST.but(best=1)


def test_a_record_survives_json():
    settings = FAST.settings("an elf", seed=9).resolved()
    assert PortraitSettings.from_record(json.loads(json.dumps(asdict(settings)))) == settings
