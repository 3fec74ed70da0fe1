"""Whole pictures against the reference, and what must not change them."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from benchmarks.fake_gpu import watched
from freestyle_core.errors import Cancelled, InputError, MismatchError, ShapeError
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.method.render import (
    RenderSettings,
    _bytes_per_ray,
    march,
    render,
    render_views,
    sample_rays,
)
from freestyle_core.method.sample import sample_portrait
from freestyle_core.models.eg3d import EG3D, EG3DRenderer
from freestyle_core.types import CameraBatch, Portrait, Triplane

PICTURE = {"atol": 3e-4, "rtol": 0}


def assert_depth_close(rendering, expected):
    """Compare depth where the ray meets anything.

    Below an alpha of 1e-4 the reference's depth is a ratio of float32 rounding steps of 6e-8.
    """
    seen = rendering.alpha > 1e-4
    assert_close(rendering.depth[seen], expected[seen], atol=3e-4, rtol=0)


def frame(model, identity, camera, *, renderer=None, **options):
    ws = model.io.get("ws_psi0.7_cut5", model.io.get("ws_psi0.7"))[identity : identity + 1]
    triplane = Triplane(model.eg3d.planes(ws), model.eg3d.config.box_size)
    renderer = renderer or model.eg3d.renderer()
    return render(renderer, triplane, ws, model.cameras[camera], **options)


@pytest.mark.parametrize("camera", [0, 1, 2])
@pytest.mark.parametrize("identity", [0, 1])
@pytest.mark.parametrize("jitter", ["mid", "seed"])
def test_frames_match_reference(tiny, identity, camera, jitter):
    name = f"frame.z{identity}.c{camera}.{jitter}"
    options = {}
    if jitter == "seed":
        options["u_coarse"] = tiny.io[f"{name}.u_coarse"][..., 0]
        options["u_fine"] = tiny.io[f"{name}.u_fine"][None]
    got = frame(tiny, identity, camera, **options)
    assert_close(got.image * 2 - 1, tiny.io[f"{name}.image"], **PICTURE)
    assert_close(got.raw * 2 - 1, tiny.io[f"{name}.image_raw"], **PICTURE)
    assert_depth_close(got, tiny.io[f"{name}.image_depth"])


@pytest.mark.parametrize("resolution", [8, 24])
def test_other_neural_resolutions_match_reference(tiny, resolution):
    settings = RenderSettings(neural_resolution=resolution)
    got = frame(tiny, 0, 1, settings=settings)
    name = f"nrr{resolution}.z0.c1.mid"
    assert_close(got.image * 2 - 1, tiny.io[f"{name}.image"], **PICTURE)
    assert_depth_close(got, tiny.io[f"{name}.image_depth"])


def features_of(model, camera, importance_samples, renderer):
    ws = model.io["ws_psi0.7_cut5"][:1]
    sampled = sample_rays(model.eg3d.config, model.cameras[camera])
    return march(renderer, model.eg3d.planes(ws), sampled, importance_samples)


def test_all_feature_channels_match_reference(tiny):
    features, _, _ = features_of(tiny, 1, 12, tiny.eg3d.renderer())
    expected = tiny.io["frame.z0.c1.mid.feature_image"].flatten(2).transpose(1, 2)
    assert_close(features, expected, **PICTURE)


def test_one_pass_matches_reference(tiny):
    features, depth, alpha = features_of(tiny, 1, 0, tiny.eg3d.renderer())
    expected = tiny.io["noimp.z0.c1.mid.feature_image"].flatten(2).transpose(1, 2)
    assert_close(features, expected, **PICTURE)
    seen = alpha > 1e-4
    expected = tiny.io["noimp.z0.c1.mid.image_depth"].flatten(1)
    assert_close(depth[seen], expected[seen], atol=3e-4, rtol=0)


@pytest.mark.parametrize("camera", [0, 1])
@pytest.mark.parametrize("limits", ["fixed", "auto"])
def test_white_background_and_auto_limits_match_reference(cars, camera, limits):
    renderer = cars.eg3d.renderer()
    if limits == "auto":
        renderer.config = replace(renderer.config, ray_start="auto", ray_end="auto")
    got = frame(cars, 0, camera, renderer=renderer)
    name = f"{limits}.c{camera}"
    assert_close(got.image * 2 - 1, cars.io[f"{name}.image"], **PICTURE)
    assert_close(got.raw * 2 - 1, cars.io[f"{name}.image_raw_true"], **PICTURE)
    assert_depth_close(got, cars.io[f"{name}.image_depth"])


def test_resized_input_of_2x_matches_reference(cars):
    got = frame(cars, 0, 1, settings=RenderSettings(neural_resolution=8))
    assert_close(got.image * 2 - 1, cars.io["nrr8.c1.image"], **PICTURE)
    assert_close(got.raw * 2 - 1, cars.io["nrr8.c1.image_raw_true"], **PICTURE)


def test_a_wrong_third_plane_would_be_noticed(tiny):
    renderer = tiny.eg3d.renderer()
    renderer.config = replace(renderer.config, plane_axes=("xy", "xz", "zy"))
    features, _, _ = features_of(tiny, 1, 12, renderer)
    expected = tiny.io["frame.z0.c1.mid.feature_image"].flatten(2).transpose(1, 2)
    assert (features - expected).abs().mean() > 0.05  # 0.14 seen


@pytest.fixture
def portrait(tiny):
    return sample_portrait(tiny.eg3d, 0)


def views(portrait):
    return orbit_cameras(
        [0.0, 25.0, -25.0, 5.0, 12.0], [0.0, 10.0, -10.0, 20.0, 3.0], portrait.renderer.config.rig()
    )


def close(a, b, atol=5e-6):
    for key in ("image", "raw", "depth", "alpha"):
        assert_close(getattr(a, key), getattr(b, key), atol=atol, rtol=0)


@pytest.mark.parametrize("limits", ["fixed", "auto"])
def test_chunks_do_not_change_the_pictures(portrait, limits):
    if limits == "auto":
        portrait.renderer.config = replace(
            portrait.renderer.config, ray_start="auto", ray_end="auto", box_size=1.0
        )
    cameras = views(portrait)
    whole = render_views(portrait, cameras, settings=RenderSettings(memory_mb=4000))
    small = render_views(portrait, cameras, settings=RenderSettings(memory_mb=1))
    together = render(portrait.renderer, portrait.triplane, portrait.w, cameras)
    close(small, whole)
    assert_close(whole.depth, together.depth, atol=1e-4, rtol=0)
    assert_close(whole.image, together.image.clamp(0, 1), atol=1e-5, rtol=0)


def test_rays_that_meet_nothing_get_the_same_depth_in_any_chunk(portrait):
    renderer = EG3D(portrait.renderer.config).renderer()
    renderer.config = replace(renderer.config, ray_start="auto", ray_end="auto")
    with torch.no_grad():
        renderer.decoder.net[2].weight[0] = 0
        renderer.decoder.net[2].bias[0] = -1000.0
    empty = replace(portrait, renderer=renderer)
    cameras = views(portrait)
    small = render_views(empty, cameras, settings=RenderSettings(memory_mb=1))
    assert small.alpha.max() == 0
    farthest = sample_rays(renderer.config, cameras).depths.flatten(1).amax(dim=1)
    expected = farthest[:, None, None, None].expand_as(small.depth)
    assert_close(small.depth, expected, atol=1e-6, rtol=0)
    assert expected[0, 0, 0, 0] != expected[1, 0, 0, 0]


def test_a_view_does_not_depend_on_its_companions(portrait):
    cameras = views(portrait)
    alone = render_views(portrait, cameras[3])
    among = render_views(portrait, cameras)
    assert_close(among.image[3:4], alone.image, atol=1e-5, rtol=0)
    assert_close(among.depth[3:4], alone.depth, atol=1e-4, rtol=0)


def test_views_are_clamped_and_of_the_right_size(portrait):
    got = render_views(portrait, views(portrait))
    assert got.image.shape == (5, 3, 64, 64) and got.raw.shape == (5, 3, 16, 16)
    assert got.depth.shape == got.alpha.shape == (5, 1, 16, 16)
    assert got.image.min() >= 0 and got.image.max() <= 1


def test_progress_counts_views_and_shows_the_newest(portrait):
    reports = []
    got = render_views(
        portrait,
        views(portrait),
        settings=RenderSettings(memory_mb=1),
        progress=lambda done, total, preview=None: reports.append((done, total, preview)),
    )
    done = [r[0] for r in reports]
    assert done == sorted(done) and done[0] == 0 and done[-1] == 5
    assert {r[1] for r in reports} == {5}
    assert_close(reports[-1][2], got.image[-1], atol=0, rtol=0)


@pytest.mark.parametrize("fine", [0, 12, 40])
def test_the_memory_setting_is_what_marching_really_needs(small_config, fine):
    config = replace(small_config, decoder_hidden=32, feature_channels=16, plane_channels=16)
    with torch.device("meta"), torch.no_grad():
        renderer, planes = EG3D(config).renderer(), torch.zeros(1, 3, 16, 16, 16)
        cameras = CameraBatch(torch.zeros(1, 4, 4), torch.zeros(1, 3, 3))
    settings = RenderSettings(depth_samples=12, importance_samples=fine).resolved(config)
    with watched("meta") as watch, torch.no_grad():
        folded = renderer.fold(planes)
        sampled = sample_rays(config, cameras, settings=settings)
        before = watch.mark()
        march(renderer, folded, sampled, fine)
        peak = watch.mark().minus(before).peak_bytes
    expected = 64 * _bytes_per_ray(config, settings)
    assert 0.9 * peak < expected < 1.1 * peak


def test_out_of_memory_halves_the_working_memory_and_goes_on(portrait, monkeypatch):
    expected = render_views(portrait, views(portrait))
    groups = []
    superresolve = EG3DRenderer.superresolve

    def full(self, features, w, **options):
        groups.append(len(features))
        if len(features) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return superresolve(self, features, w, **options)

    monkeypatch.setattr(EG3DRenderer, "superresolve", full)
    monkeypatch.setattr("freestyle_core.method.render.LEAST_MB", 4)  # a view takes 2.4 MB
    reports = []
    got = render_views(
        portrait,
        views(portrait),
        progress=lambda done, total, preview=None: reports.append((done, total)),
    )
    # all five views fit into the setting; it is halved until at most two are left
    assert groups[0] == 5 and sum(n for n in groups if n <= 2) == 5
    # a failed try has to be done again, so the count falls back to what is finished
    falls = [now for before, now in zip(reports, reports[1:], strict=False) if now < before]
    assert reports[-1] == (5, 5) and set(falls) <= {(0, 5), (2, 5), (4, 5)}
    for name in ("image", "raw", "depth", "alpha"):
        assert_close(getattr(got, name), getattr(expected, name), atol=1e-5, rtol=0)


def test_rendering_gives_up_when_memory_never_suffices(portrait, monkeypatch):
    tries = []

    def full(self, features, w, **options):
        tries.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(EG3DRenderer, "superresolve", full)
    with pytest.raises(torch.OutOfMemoryError):
        render_views(portrait, views(portrait), settings=RenderSettings(memory_mb=64))
    assert len(tries) == 4  # 64, 32, 16 and 8 MB


def test_cancelling_stops_before_the_next_chunk(portrait):
    def cancel(done, total, preview=None):
        if done >= 1:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        render_views(portrait, views(portrait), progress=cancel)


def test_renders_inside_inference_mode(portrait):
    with torch.inference_mode():
        inside = render_views(portrait, views(portrait))
    close(inside, render_views(portrait, views(portrait)), atol=0)


def test_one_triplane_per_view(tiny):
    ws = tiny.io["ws_psi0.7_cut5"]
    triplane = Triplane(tiny.eg3d.planes(ws), 1.0)
    cameras = tiny.cameras[[0, 1]]
    both = render(tiny.eg3d.renderer(), triplane, ws, cameras)
    for index in range(2):
        alone = frame(tiny, index, index)
        assert_close(both.image[index : index + 1], alone.image, atol=2e-5, rtol=0)
    several = render_views(Portrait(tiny.eg3d.renderer(), triplane, ws), cameras)
    assert_close(several.image, both.image.clamp(0, 1), atol=2e-5, rtol=0)


def test_gradients_reach_planes_and_decoder_through_every_output(small_config):
    torch.manual_seed(0)
    eg3d = EG3D(small_config)
    cameras = orbit_cameras([0.0, 40.0], [0.0, 10.0], small_config.rig())
    for key in ("image", "raw", "depth", "alpha"):
        planes = torch.randn(1, 3, 4, 16, 16).requires_grad_()
        w = torch.randn(1, small_config.num_ws, 8)
        got = render(eg3d.renderer(), Triplane(planes, 1.0), w, cameras)
        gradient, decoder = torch.autograd.grad(
            getattr(got, key).square().sum(), (planes, eg3d.decoder.net[0].weight)
        )
        for g in (gradient, decoder):
            assert g.isfinite().all() and g.abs().sum() > 0, key


def test_empty_outside_box_shows_the_white_background(small_config):
    eg3d = EG3D(small_config)
    with torch.no_grad():
        eg3d.decoder.net[2].bias[0] = 60.0  # opaque wherever it is not emptied
    # focal 1 sees far past the box: its corners are empty, its middle is not
    rig = replace(small_config.rig(), focal=1.0)
    cameras = orbit_cameras([0.0], [0.0], rig)
    planes = Triplane(torch.zeros(1, 3, 4, 16, 16), 1.0)
    got = render(eg3d.renderer(), planes, torch.zeros(1, small_config.num_ws, 8), cameras)
    assert got.alpha[0, 0, 0, 0] == 0
    assert_close(got.raw[0, :, 0, 0], torch.ones(3))
    assert_close(got.alpha[0, 0, 4, 4], torch.tensor(1.0), atol=1e-4, rtol=0)


def test_a_quarter_turn_of_the_planes_is_a_quarter_turn_of_the_camera(small_config):
    # About y, (x, z) -> (z, -x). A field of x and z alone, held by the xz plane, may be turned.
    config = replace(small_config, plane_axes=("xz", "xy", "xy"))
    torch.manual_seed(1)
    eg3d = EG3D(config)
    planes = torch.zeros(1, 3, 4, 16, 16)
    planes[:, 0] = 3 * torch.randn(1, 4, 16, 16)
    turned = planes.clone()
    # the point (x, z) moves to (z, -x); row is z and column is x, so new[-x, z] = old[z, x]
    turned[:, 0] = planes[:, 0].transpose(-1, -2).flip(-2)
    w = torch.zeros(1, config.num_ws, 8)
    cameras = orbit_cameras([0.0, 90.0], [12.0, 12.0], config.rig())
    with torch.no_grad():
        before = render(eg3d.renderer(), Triplane(planes, 1.0), w, cameras[0])
        after = render(eg3d.renderer(), Triplane(turned, 1.0), w, cameras[1])
    assert before.raw.std() > 0.02
    assert_close(after.raw, before.raw, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "precision, device, clamp, learns, expected",
    [
        ("auto", "cpu", 256.0, False, None),
        ("auto", "cuda", 256.0, False, torch.float16),  # EG3D's rule
        ("auto", "cuda", None, False, None),  # nothing keeps float16 from overflowing
        ("auto", "cuda", 256.0, True, None),
        ("float32", "cuda", 256.0, False, None),
        ("bfloat16", "cpu", None, True, torch.bfloat16),
    ],
)
def test_half_precision_is_for_pictures_on_a_gpu_unless_asked_for(
    small_config, precision, device, clamp, learns, expected
):
    config = replace(small_config, sr_clamp=clamp)
    with torch.set_grad_enabled(learns):
        got = RenderSettings(precision=precision).dtype(config, torch.device(device))
    assert got == expected


def test_bad_settings_and_misfits_say_what_to_do(portrait, small_config):
    with pytest.raises(InputError, match="depth_samples"):
        RenderSettings(depth_samples=2)
    with pytest.raises(InputError, match="precision must be auto, float32, float16, bfloat16, got"):
        RenderSettings(precision="half")
    three = Triplane(portrait.triplane.planes.expand(3, -1, -1, -1, -1), 1.0)
    with pytest.raises(ShapeError, match="one per view"):
        render(portrait.renderer, three, portrait.w, views(portrait))
    with pytest.raises(MismatchError, match="32 channels"):
        render(EG3D(small_config).renderer(), portrait.triplane, portrait.w, views(portrait))
