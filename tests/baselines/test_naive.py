"""The naive way gives the same pictures and losses, or a comparison of times would say nothing."""

from dataclasses import replace

import pytest
import torch

from freestyle_core.baselines.naive import naive_edits, naive_finetune, naive_views
from freestyle_core.files.editors.load import load_editor
from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.method.finetune import FinetuneSettings, finetune_portraits
from freestyle_core.method.render import RenderSettings, render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.method.stylize import StylizeSettings, stylize_views
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_perceptual, tiny_portrait, tiny_set
from tests.tiny_editor import save_tiny_editor

EDIT = StylizeSettings(steps=5, text_guidance=3.0, image_guidance=1.4, batch_size=2, seed=7)


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    return load_editor(save_tiny_editor(tmp_path_factory.mktemp("editor")))


@pytest.mark.parametrize("tau", [0.6, 0.9, 1.0])  # 3, 4 and 5 of 5 steps
def test_edits_of_diffusers_are_ours(editor, tau):
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    settings = replace(EDIT, tau=tau)
    expected = stylize_views(editor, images, "an elf", settings=settings)
    reports = []
    got = naive_edits(
        editor, images, "an elf", settings=settings, progress=lambda *a: reports.append(a[:2])
    )
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=0)
    assert reports == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert not torch.allclose(got[0], images[0], atol=0.02)  # it was edited at all


def test_edits_take_the_guidance_of_the_editor(editor):
    images = torch.full((1, 3, 16, 16), 0.4)
    own = replace(EDIT, text_guidance=None, image_guidance=None)
    expected = stylize_views(editor, images, "an elf", settings=own)
    got = naive_edits(editor, images, "an elf", settings=own)
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=0)


GENERATORS = {
    "tiny": {},
    "dark": {"white_background": False},
    "box": {"empty_outside_box": True, "box_size": 0.5},
}


@pytest.mark.parametrize("fine", [0, 6])
@pytest.mark.parametrize("kind", GENERATORS)
def test_frames_are_ours_and_every_frame_has_planes_of_its_own(kind, fine):
    eg3d = tiny_eg3d(**GENERATORS[kind])
    portrait = sample_portrait(eg3d, 3)
    cameras = grid_cameras(2, eg3d.config.rig())
    settings, made = RenderSettings(importance_samples=fine), []

    def make_planes():
        made.append(eg3d.planes(portrait.w))
        return made[-1]

    got = naive_views(portrait.renderer, make_planes, portrait.w, cameras, settings=settings)
    expected = render_views(portrait, cameras, settings=settings).image
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)
    assert len(made) == len(cameras) == 5


@pytest.mark.parametrize("views_per_step", [1, 3])
def test_fine_tuning_has_our_losses_step_by_step(views_per_step):
    eg3d, i2t, perceptual = tiny_eg3d(), tiny_i2t(), tiny_perceptual()
    portrait, few_shot = tiny_portrait(eg3d), tiny_set(eg3d)
    settings = FinetuneSettings(
        train="i2t",
        sample_share=1.0,
        skip_empty=False,
        iterations=4,
        batch_size=views_per_step,
        learning_rate=1e-4,
        density_points=64,
    )
    before = [p.clone() for p in i2t.parameters()]
    ours = finetune_portraits(i2t, "", [portrait], [few_shot], perceptual, settings=settings)
    naive = naive_finetune(i2t, portrait, few_shot, perceptual, settings=settings)
    torch.testing.assert_close(naive.losses, ours.losses["total"], rtol=1e-4, atol=0)
    assert len(set(naive.losses)) == 4
    assert all(torch.equal(a, b) for a, b in zip(before, i2t.parameters(), strict=True))
    with torch.no_grad():
        planes = naive.network(few_shot.images[few_shot.front][None])
    # four steps move the planes by 0.015
    torch.testing.assert_close(planes, ours.portraits[0].triplane.planes, atol=1e-4, rtol=0)
