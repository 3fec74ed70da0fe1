"""Both inversions, their composition with an edit, and the tuning of a generator to many views."""

from dataclasses import replace

import pytest
import torch

import freestyle_core
from freestyle_core.baselines import edited_front, gan_inversion, hfgi3d
from freestyle_core.baselines.edited_front import EditedFrontSettings
from freestyle_core.baselines.gan_inversion import GanInversionSettings, TuneSettings, view_of
from freestyle_core.baselines.generator_tuning import GeneratorTuningSettings, tune_generator
from freestyle_core.baselines.hfgi3d import CORRECTED, FAITHFUL, HFGI3DSettings
from freestyle_core.baselines.latent import LatentSettings
from freestyle_core.baselines.protocol import BaselineModels
from freestyle_core.baselines.view import depth_variation, likeness, pixel_loss
from freestyle_core.errors import FreeStyleError, InputError, MismatchError, ShapeError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.files.editors.load import load_editor
from freestyle_core.files.portrait import load_portrait, save_portrait
from freestyle_core.geometry.cameras import front_camera, orbit_cameras
from freestyle_core.method.finetune import FinetuneSettings, finetune_portraits
from freestyle_core.method.mesh import MeshSettings, extract_mesh
from freestyle_core.method.mix import mix_portraits
from freestyle_core.method.render import RenderSettings, render_views
from freestyle_core.method.stylize import StylizeSettings, stylize_views
from tests.tiny import reachable_set, tiny_eg3d, tiny_perceptual, tiny_portrait, tiny_set
from tests.tiny_editor import save_tiny_editor

SEARCH = LatentSettings(steps=4, idle_steps=0, samples=16, noise="own")
QUICK = GanInversionSettings(latent=SEARCH, tune=TuneSettings(steps=6, stop=0.0), preview_every=2)
QUICK_HFGI = replace(
    CORRECTED,
    latent=replace(SEARCH, space="w+", lambda_symmetry=1.0),
    first_steps=5,
    last_steps=7,
    poses=3,
    stop=0.0,
)


def opaque_eg3d():
    eg3d = tiny_eg3d(sr_clamp=None)
    with torch.no_grad():  # else every ray is thin fog, and there is no surface
        eg3d.decoder.net[2].weight[0] *= 200
        eg3d.decoder.net[2].bias[0] += 8
    return eg3d


@pytest.fixture(scope="module")
def models():
    return BaselineModels(opaque_eg3d(), tiny_perceptual())


@pytest.fixture(scope="module")
def reference(models):
    portrait = tiny_portrait(models.eg3d, 5)
    return render_views(portrait, front_camera(models.eg3d.config.rig())).image[0]


def constant(value):
    """Return a perceptual distance that is always the same, with a gradient of zero."""
    return lambda a, b: value + 0 * (a - b).mean((1, 2, 3))


def test_the_tuning_stops_before_a_step_when_both_distances_together_are_small(models, reference):
    before = weights_hash(models.eg3d.renderer().state_dict())
    settings = replace(QUICK, tune=TuneSettings(steps=6, stop=0.06))
    near = replace(models, perceptual=constant(0.03))  # picture and raw picture: 0.06
    stopped = gan_inversion.fit(reference, "", near, settings)
    assert "tune pixel" not in stopped.losses
    assert weights_hash(stopped.portrait.renderer.state_dict()) == before
    far = replace(models, perceptual=constant(0.031))
    assert len(gan_inversion.fit(reference, "", far, settings).losses["tune pixel"]) == 6


def test_the_first_tuning_of_hfgi3d_looks_at_one_distance_and_the_last_at_none(models, reference):
    settings = replace(QUICK_HFGI, stop=0.06)
    for value, steps in ((0.06, 0), (0.061, 5)):
        own = replace(models, perceptual=constant(value))
        losses = hfgi3d.fit(reference, "", own, settings).losses
        assert len(losses.get("first pixel", [])) == steps
        assert len(losses["last pseudo pixel"]) == len(losses["last picture pixel"]) == 7


def test_published_numbers():
    settings = GanInversionSettings()
    assert (settings.latent.steps, settings.latent.samples, settings.latent.psi) == (400, 5000, 0.7)
    tune = settings.tune
    assert (tune.steps, tune.learning_rate, tune.stop) == (400, 3e-4, 0.06)
    latent = HFGI3DSettings().latent
    assert (latent.space, latent.count(), latent.samples, latent.psi) == ("w+", 500, 600, 1.0)
    assert (FAITHFUL.first_steps, FAITHFUL.last_steps, FAITHFUL.poses) == (501, 1001, 30)
    assert FAITHFUL == HFGI3DSettings()
    assert FAITHFUL.warp.z_is_distance and not CORRECTED.warp.z_is_distance
    assert FAITHFUL.latent.lambda_symmetry < 0 < CORRECTED.latent.lambda_symmetry


def test_poses_go_once_round_the_front(models):
    rig = models.eg3d.config.rig()
    cameras = HFGI3DSettings(poses=4).cameras(rig)
    places = cameras.cam_to_world[:, :3, 3]
    assert places.norm(dim=1).tolist() == pytest.approx([rig.radius] * 4, abs=1e-5)
    # a quarter round: yaw 0.35, and height r (1 - 2 v / pi) with v = pi/2 - 0.05
    assert float(places[1, 1]) == pytest.approx(rig.radius * 0.1 / torch.pi, abs=1e-5)
    angle = torch.atan2(places[:, 0], places[:, 2])
    assert angle.tolist() == pytest.approx([0, 0.35, 0, -0.35], abs=1e-5)


def test_losses_are_those_of_hand():
    a, b = torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.25)
    assert float(pixel_loss(a, b)) == pytest.approx(0.25)  # (1.0 - 0.5)^2 in [-1,1]
    pixel, perceptual = likeness(a, b, constant(0.7))
    assert (float(pixel), float(perceptual)) == pytest.approx((0.25, 0.7))
    ramp = torch.arange(4.0).expand(1, 1, 4, 4)
    assert float(depth_variation(ramp)) == 1 and float(depth_variation(2 * ramp.mT)) == 4


@pytest.mark.parametrize(
    ("fit", "settings"), [(gan_inversion.fit, QUICK), (hfgi3d.fit, QUICK_HFGI)]
)
def test_a_head_becomes_an_ordinary_portrait(fit, settings, models, reference, tmp_path):
    before, reports = weights_hash(models.eg3d.state_dict()), []
    result = fit(reference, "an elf", models, settings, lambda *a: reports.append(a))
    assert weights_hash(models.eg3d.state_dict()) == before
    done = [a[0] / a[1] for a in reports]
    assert done == sorted(done) and done[-1] == pytest.approx(1.0)
    assert any(len(a) == 3 and a[2] is not None and a[2].shape == (3, 16, 16) for a in reports)
    portrait = result.portrait
    assert portrait.is_stylized and portrait.provenance["prompt"] == "an elf"
    assert portrait.renderer.parent != weights_hash(portrait.renderer.state_dict())
    assert not any(p.requires_grad for p in portrait.renderer.parameters())
    assert all(seconds > 0 for seconds in result.seconds.values()) and result.notes
    cameras = orbit_cameras([0.0, 20.0], [0.0, -10.0], models.eg3d.config.rig())
    seen = result.render(cameras)
    save_portrait(tmp_path / "head.safetensors", portrait)
    again = load_portrait(tmp_path / "head.safetensors")  # no generator is needed
    assert torch.equal(render_views(again, cameras).image, seen.image)
    assert extract_mesh(again, settings=MeshSettings(resolution=16)).faces.shape[1] == 3
    assert mix_portraits(again, portrait, 0.5).renderer.parent == portrait.renderer.parent
    with pytest.raises(MismatchError, match="different EG3D"):
        mix_portraits(again, tiny_portrait(models.eg3d), 0.5)


def test_tuning_brings_the_picture_closer(models, reference):
    camera = front_camera(models.eg3d.config.rig())
    tuned = replace(QUICK, tune=TuneSettings(steps=40, learning_rate=3e-3, stop=0.0))
    errors = []
    for settings in (replace(QUICK, tune=TuneSettings(steps=0)), tuned):
        seen = gan_inversion.fit(reference, "", models, settings).render(camera).image[0]
        errors.append(float((seen - reference).square().mean()))
    assert errors[1] < 0.3 * errors[0]


def test_the_camera_of_the_picture_is_used(models, reference):
    front = front_camera(models.eg3d.config.rig())
    side = orbit_cameras([25.0], [5.0], models.eg3d.config.rig())
    portrait = tiny_portrait(models.eg3d, 5)
    for given, used in ((None, front), (side, side)):
        view = view_of(reference[None], given, models, RenderSettings(), 0)
        seen = view.of(models.eg3d, portrait.triplane.planes, portrait.w)
        assert torch.equal(seen.cameras.cam_to_world, used.cam_to_world)
        expected = render_views(portrait, used).depth
        torch.testing.assert_close(seen.depth, expected, atol=0.1, rtol=0)
    first = [
        gan_inversion.fit(reference, "", models, QUICK, camera=camera).losses["w perceptual"]
        for camera in (None, front, side)
    ]
    assert first[0] == first[1] != first[2]
    with pytest.raises(InputError, match="one camera, got 2"):
        gan_inversion.fit(reference, "", models, QUICK, camera=front.repeated(2))


def test_a_run_is_decided_by_its_seed(models, reference):
    made = [
        gan_inversion.fit(reference, "", models, replace(QUICK, seed=seed)).losses
        for seed in (3, 3, 4)
    ]
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[None], "one square picture"),
        (lambda x: x[:, :8], "one square picture"),
        (lambda x: x * 2 - 1, r"\[0,1\]"),
        (lambda x: x / 0, "NaN or infinite"),
    ],
)
@pytest.mark.parametrize("fit", [gan_inversion.fit, hfgi3d.fit])
def test_a_reference_that_is_none_is_refused(fit, change, message, models, reference):
    with pytest.raises(ShapeError, match=message):
        fit(change(reference), "", models)


def test_a_tuning_that_diverges_says_so(models, reference):
    broken = replace(models, perceptual=constant(float("nan")))
    settings = replace(QUICK, latent=replace(SEARCH, steps=0))
    with pytest.raises(FreeStyleError, match="diverged"):
        gan_inversion.fit(reference, "", broken, settings)


@pytest.mark.parametrize("kind", ["3dgan-inv", "hfgi3d"])
def test_the_edited_front_is_what_is_inverted(kind, models, reference, tmp_path):
    editor = load_editor(save_tiny_editor(tmp_path))
    own = replace(models, editor=editor)
    edit = StylizeSettings(steps=2)
    settings = EditedFrontSettings(kind, edit, QUICK, QUICK_HFGI).seeded(9)
    assert settings.edit.seed == settings.gan_inversion.seed == settings.hfgi3d.seed == 9
    made = edited_front.fit(reference, "an elf", own, settings)
    expected = stylize_views(editor, reference[None], "an elf", settings=settings.edit)[0]
    torch.testing.assert_close(made.reference, expected.clamp(0, 1))
    assert made.portrait.provenance["inversion"] == {"hfgi3d": "HFGI3D"}.get(kind, "3DGAN-Inv")
    assert "edit" in made.seconds and made.portrait.provenance["prompt"] == "an elf"


def test_editing_needs_an_editor_and_a_prompt(models, reference):
    with pytest.raises(InputError, match="needs an editor"):
        edited_front.fit(reference, "an elf", models)
    with pytest.raises(InputError, match="style is empty"):
        edited_front.fit(reference, " ", replace(models, editor=object()))
    with pytest.raises(InputError, match="inversion must be"):
        EditedFrontSettings("pti")


def test_whole_generator_tuning_starts_from_the_loss_of_fine_tuning(models):
    portrait, few_shot = tiny_portrait(models.eg3d, 5), tiny_set(models.eg3d)
    tune = FinetuneSettings(iterations=3, density_points=32, batch_size=2)
    ours = finetune_portraits(
        None, "", [portrait], [few_shot], models.perceptual, settings=tune
    ).losses
    theirs = tune_generator(portrait, few_shot, models, GeneratorTuningSettings(tune)).losses
    assert theirs["reconstruction"][0] == pytest.approx(10 * ours["reconstruction"][0], rel=1e-5)
    assert theirs["density"][0] == pytest.approx(0.2 * ours["density"][0], rel=1e-4)


def test_whole_generator_tuning_learns_the_views_and_leaves_the_generator(models):
    before = weights_hash(models.eg3d.state_dict())
    portrait, few_shot = tiny_portrait(models.eg3d, 5), reachable_set(models.eg3d)
    settings = GeneratorTuningSettings(
        FinetuneSettings(iterations=40, density_points=32), learning_rate=3e-3
    )
    made = tune_generator(portrait, few_shot, models, settings)
    errors = [
        float((render_views(p, few_shot.cameras).image - few_shot.images).square().mean())
        for p in (portrait, made.portrait)
    ]
    assert errors[1] < 0.3 * errors[0]
    assert weights_hash(models.eg3d.state_dict()) == before
    assert made.portrait.provenance["prompt"] == "a bronze statue"
    assert made.portrait.provenance["seed"] == 5
    other = replace(models, eg3d=tiny_eg3d(w_dim=4))
    with pytest.raises(MismatchError, match="has w"):
        tune_generator(portrait, few_shot, other, settings)


def test_invert_is_public_and_works_where_comfyui_runs_nodes(models, reference):
    with torch.inference_mode():
        portrait = freestyle_core.invert(
            reference.clone(), eg3d=models.eg3d, perceptual=models.perceptual, settings=QUICK
        )
    assert not portrait.is_stylized  # a photograph is no style
    assert not portrait.triplane.planes.is_inference()
    whole = freestyle_core.invert_settings(models.eg3d, seed=4)
    assert whole.latent.space == "w" and whole.latent.starts == 64 and whole.seed == 4


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (TuneSettings, {"steps": -1}),
        (TuneSettings, {"learning_rate": 1.0}),
        (TuneSettings, {"stop": -0.1}),
        (HFGI3DSettings, {"poses": 0}),
        (HFGI3DSettings, {"learning_rate": 0.0}),
        (HFGI3DSettings, {"stop": float("nan")}),
        (GanInversionSettings, {"preview_every": -1}),
        (GeneratorTuningSettings, {"learning_rate": 0.0}),
    ],
)
def test_impossible_settings_are_refused(kind, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        kind(**wrong)
