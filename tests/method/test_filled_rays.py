"""Training without samples where the head is not: the same pictures, fewer rays."""

from dataclasses import replace

import pytest
import torch

from freestyle_core.files.networks import embedded, load_eg3d
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.geometry.occupancy import filled_cells
from freestyle_core.method.finetune import FinetuneSettings
from freestyle_core.method.finetune_steps import Run
from freestyle_core.method.ray_samples import filled_rays, placed, ray_spans, sample_spans
from freestyle_core.method.render import RenderSettings, image_of, march, render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.types import FewShotSet
from tests.tiny import tiny_perceptual


@pytest.fixture(scope="module")
def head():
    return sample_portrait(load_eg3d(embedded("eg3d")), 33)


@pytest.fixture(scope="module")
def cameras(head):
    return orbit_cameras([0.0, 30.0], [0.0, 20.0], head.renderer.config.rig())


@torch.no_grad()
def test_pictures_of_filled_rays_are_those_of_all_rays(head, cameras):
    renderer, config = head.renderer, head.renderer.config
    folded = renderer.fold(head.triplane.planes)
    fine = RenderSettings(depth_samples=96, importance_samples=0)
    sizes = fine.resolved(config)
    spans = ray_spans(config, cameras, sizes.neural_resolution)
    cells = filled_cells(
        lambda p: renderer.decode_density(folded, p), config.box_size, "cpu", grown=2
    )
    kept = filled_rays(config, spans, cells)
    rays = sizes.neural_resolution**2
    assert 0.3 * rays < kept.rows.shape[1] < 0.9 * rays and kept.share < 0.5
    # many samples, so that where they lie makes no difference
    sampled = sample_spans(config, kept.spans, 96)
    features = march(renderer, folded, sampled, 0)[0]
    whole = placed(features, kept.rows, 1.0, rays)
    image = image_of(renderer, whole, head.w, sizes).clamp(0, 1)
    truth = render_views(head, cameras, settings=replace(fine, depth_samples=192)).image
    error = -10 * torch.log10((image - truth).square().mean())
    assert error > 45


def run(head, cameras, **settings):
    images = render_views(head, cameras).image
    few_shot = FewShotSet(images, cameras, 0, "an elf")
    tune = FinetuneSettings(iterations=2, density_points=1000, preview_every=0, **settings)
    return Run(None, "", [head], [few_shot], tiny_perceptual(), tune)


def test_the_smoothness_of_density_weighs_as_much_as_with_all_rays(head, cameras):
    whole, kept = (run(head, cameras, skip_empty=skip) for skip in (False, True))
    assert whole.filled.share == 1.0 and whole.density_points == 1000
    assert kept.density_points == pytest.approx(1000 * kept.filled.share, abs=1)
    for training in (whole, kept):
        training.one_step()
        training.one_step()
    mean = [sum(training.losses["density"]) for training in (whole, kept)]
    assert mean[1] == pytest.approx(mean[0], rel=0.35)  # of 2 x 1000 and 2 x 300 random points
    rec = [training.losses["reconstruction"][0] for training in (whole, kept)]
    assert rec[1] < rec[0] + 0.01  # the pictures are the head's own: only noise is left
