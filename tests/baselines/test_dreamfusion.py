"""Score distillation as a whole, on a Stable Diffusion of a few thousand random weights."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from freestyle_core.baselines.dreamfusion import FAITHFUL, DistilledHead, distil, fit
from freestyle_core.baselines.dreamfusion.fit import finished, notes_of, teacher_of
from freestyle_core.baselines.dreamfusion.guidance import (
    Words,
    draw_time,
    sds_gradient,
    sds_loss,
)
from freestyle_core.baselines.dreamfusion.steps import LOSSES, Distillation
from freestyle_core.baselines.protocol import BaselineModels
from freestyle_core.errors import InputError, MismatchError
from freestyle_core.files.editors.load import load_editor
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.models.text_to_image import Suits
from tests.tiny import tiny_eg3d, tiny_perceptual
from tests.tiny_editor import save_tiny_editor
from tests.tiny_text_to_image import tiny_text_to_image

SMALL = replace(
    FAITHFUL,
    iterations=20,
    resolution=8,
    samples=12,
    channels=2,
    plane_resolutions=(4, 8),
    hidden=8,
    layers=2,
    guidance=5.0,
    preview_every=0,
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return tiny_text_to_image(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def models(teacher):
    return BaselineModels(tiny_eg3d(), tiny_perceptual(), text_to_image=teacher)


def run_of(teacher, **changes):
    settings = replace(SMALL, **changes)
    return Distillation("a zombie", teacher, tiny_eg3d().config.rig(), settings)


def test_the_gradient_is_w_of_t_times_the_difference_of_the_noises(teacher):
    latents, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    text = Words(teacher, "a zombie", "").at(0.0)
    share = float(teacher.scheduler.alphas_cumprod[600])
    noisy = teacher.scheduler.add_noise(latents, noise, torch.tensor([600]))
    with torch.no_grad():
        yes = teacher.unet(noisy, 600, encoder_hidden_states=text[:1]).sample
        no = teacher.unet(noisy, 600, encoder_hidden_states=text[1:]).sample
    expected = (1 - share) * (no + 3.0 * (yes - no) - noise)
    out = sds_gradient(teacher, latents, noise, 600, text, 3.0)
    assert torch.allclose(out, expected, atol=1e-5)
    assert (yes - no).abs().max() > 1e-3  # the words count


def test_what_is_not_finite_in_it_becomes_finite(teacher):
    class Broken:
        signal = teacher.signal
        noised = teacher.noised

        def noise(self, noisy, step, text):
            out = torch.zeros_like(noisy)
            out[0, 0, 0, 0], out[0, 0, 0, 1] = float("nan"), float("inf")
            return out

    zeros = torch.zeros(1, 4, 8, 8)
    out = sds_gradient(Broken(), zeros, zeros, 600, torch.zeros(2, 1, 8), 1.0)
    assert out.isfinite().all() and out[0, 0, 0, 0] == 0


def test_the_loss_hands_the_gradient_on_through_the_encoder(teacher):
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    gradient = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    latents = teacher.encode(image)
    loss = sds_loss(latents, gradient)
    assert loss.item() == pytest.approx(0.5 * gradient.square().sum().item(), rel=1e-4)
    loss.backward()
    _, expected = torch.autograd.functional.vjp(teacher.encode, image.detach(), gradient)
    assert torch.allclose(image.grad, expected, atol=1e-5) and expected.abs().max() > 1e-4
    two = torch.zeros(2, 4, 8, 8, requires_grad=True)
    sds_loss(two, gradient.expand(2, -1, -1, -1)).backward()
    assert torch.allclose(two.grad, gradient.expand(2, -1, -1, -1) / 2)


def test_time_steps_leave_out_both_ends_of_the_schedule(teacher):
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_time(teacher, generator) for _ in range(20_000)]
    assert (min(drawn), max(drawn)) == (20, 980)
    assert sum(drawn) / len(drawn) == pytest.approx(500, abs=8)


def test_the_words_for_a_view_are_between_those_for_its_neighbours(teacher):
    words = Words(teacher, "a zombie", "ugly")
    said = teacher.encode_text(
        ["a zombie, front view", "a zombie, side view", "a zombie, back view"]
    )
    negative = teacher.encode_text(["ugly"])[0]
    for azimuth, expected in (
        (0.0, said[0]),
        (22.5, 0.75 * said[0] + 0.25 * said[1]),
        (-135.0, 0.5 * said[1] + 0.5 * said[2]),
    ):
        out = words.at(azimuth)
        assert torch.allclose(out[0], expected, atol=1e-6)
        assert torch.equal(out[1], negative)
    assert not torch.allclose(said[0], said[2], atol=1e-3)


def test_first_normals_then_light_of_two_kinds(teacher):
    run = run_of(teacher, iterations=1000)
    early = [run.draw(step) for step in range(200)]
    assert {(d.shading, d.ambient) for d in early} == {("normal", 1.0)}
    late = [run.draw(step) for step in range(200, 1000)]
    plain = [d.shading == "textureless" for d in late]
    assert {d.shading for d in late} == {"textureless", "lambertian"}
    assert sum(plain) / 800 == pytest.approx(0.2, abs=0.05)
    assert 0.1 <= min(d.ambient for d in late) < 0.13 and max(d.ambient for d in late) > 0.97
    assert sum(d.own_background for d in late) / 800 == pytest.approx(0.5, abs=0.06)
    angles = torch.tensor([d.view.azimuth_deg for d in late])
    assert angles.min() < -170 and angles.max() > 170
    assert torch.equal(run.draw(7).noise, early[7].noise)


def test_early_latents_are_normals_and_opacity(teacher):
    from freestyle_core.geometry.rays import pixel_rays

    run = run_of(teacher)
    run._look()
    drawn = replace(run.draw(0), own_background=False)
    rays = pixel_rays(drawn.view.camera, 8)
    seen = run._march(rays, drawn)
    latents = run._latents(seen, rays, drawn)
    assert latents.shape == (1, 4, 8, 8)
    alpha = seen.alpha.view(8, 8)
    assert torch.allclose(latents[0, 3], 2 * alpha - 1)
    expected = seen.colour.view(8, 8, 3) + (1 - alpha)[..., None] * drawn.colour
    assert torch.allclose(latents[0, :3], 2 * expected.permute(2, 0, 1) - 1, atol=1e-6)
    assert alpha.max() > 0.9
    with_own = run._latents(seen, rays, replace(drawn, own_background=True))
    assert not torch.allclose(with_own[0, :3], latents[0, :3], atol=1e-2)


def test_latents_of_another_size_see_colour_through_the_encoder_from_the_start(teacher):
    run = run_of(teacher)
    run.teacher = SimpleNamespace(**{n: getattr(teacher, n) for n in (
        "signal", "image_size", "factor", "encode", "suits", "noise", "noised")},
        latent_channels=16)  # fmt: skip
    assert run.draw(0).shading == "albedo"


def test_a_teacher_that_knows_white_alone_gets_white(teacher):
    run = run_of(replace(teacher, suits=Suits(white=True)))
    drawn = run.draw(3)
    assert run._behind(None, drawn).tolist() == [1, 1, 1]


@pytest.fixture(scope="module")
def head(models):
    return made(models)


def made(models, prompt="a zombie", settings=SMALL, *rest, **kept):
    return distil(prompt, models.text_to_image, models.eg3d.config, settings, *rest, **kept)


def test_a_whole_fit(models, head):
    assert isinstance(head, DistilledHead)
    assert {name: len(values) for name, values in head.losses.items()} == dict.fromkeys(LOSSES, 20)
    assert head.provenance["steps"] == 20 and not head.provenance["image_left_out"]
    assert head.provenance["prompt"] == "a DSLR photo of the head of a zombie"
    cameras = orbit_cameras([0.0, 90.0], [0.0, 0.0], models.eg3d.config.rig())
    out = head.render(cameras)
    assert out.image.shape == (2, 3, 16, 16) and out.depth.shape == out.alpha.shape == (
        2,
        1,
        16,
        16,
    )
    assert out.image.min() >= 0 and out.image.max() <= 1 and out.image.isfinite().all()
    # in the middle the ball, at the corner white
    assert out.alpha[:, 0, 8, 8].min() > 0.9 and out.alpha[:, 0, 0, 0].max() < 0.1
    assert out.image[:, :, 0, 0].min() > 0.9
    # the ball's front is nearer than the pivot by its radius, which 12 samples a ray blur
    near = 2.7 - out.depth[:, 0, 8, 8]
    assert near.min() * head.placement.scale > 0.1 and near.max() * head.placement.scale < 0.8


def test_the_average_follows_the_weights(teacher):
    run = run_of(teacher)
    before = run.average.net[0].weight.clone()
    run.one_step()
    expected = 0.95 * before + 0.05 * run.field.net[0].weight
    assert torch.allclose(run.average.net[0].weight, expected, atol=1e-7)
    assert not torch.equal(before, run.field.net[0].weight)


def test_a_stopped_fit_goes_on_to_the_same_result(models, head):
    kept = []

    class Stopped(Exception):
        pass

    def stop(done, total, preview=None):
        if done == 9:
            raise Stopped

    with pytest.raises(Stopped):
        made(models, "a zombie", SMALL, stop, on_checkpoint=kept.append, checkpoint_every=4)
    assert [state.step for state in kept] == [4, 8, 9]
    again = made(models, "a zombie", SMALL, resume=kept[-1])
    for one, other in zip(again.field.parameters(), head.field.parameters(), strict=True):
        assert torch.equal(one, other)
    assert again.losses["sds"] == pytest.approx(head.losses["sds"], rel=1e-6)
    with pytest.raises(MismatchError, match="another training run"):
        made(models, "an elf", SMALL, resume=kept[-1])


def test_progress_counts_steps_and_shows_the_front(models):
    seen, told = [], []
    settings = replace(SMALL, iterations=4, preview_every=2)
    made(models, "a zombie", settings, lambda *a: seen.append(a), on_loss=told.append)
    assert [(int(a[0]), a[1]) for a in seen] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert [a[2].shape if len(a) > 2 and a[2] is not None else None for a in seen] == [
        None, None, (3, 16, 16), None, (3, 16, 16)]  # fmt: skip
    assert len(told) == 4 and set(told[0]) == set(LOSSES)


def test_equal_seeds_give_equal_fields_and_others_do_not(models, head):
    again = made(models)
    other = made(models, "a zombie", replace(SMALL, seed=1))
    pair = [x.field.planes[0] for x in (head, again, other)]
    assert torch.equal(pair[0], pair[1]) and not torch.equal(pair[0], pair[2])


def test_the_teacher_decides_what_grows(teacher):
    """A teacher to whom every picture is the same red one makes a red field."""
    run = run_of(replace(teacher, suits=Suits(white=True)), iterations=60, latent_share=0.0)
    red = torch.zeros(1, 3, 16, 16)
    red[:, 0] = 1

    class Wants:
        """Sees the noise that is left when the red picture is taken away."""

        is_editor = False
        suits, signal, device = run.teacher.suits, teacher.signal, teacher.device
        image_size, factor, latent_channels = 16, 1, 3
        noised = teacher.noised

        def encode(self, images):
            return images

        def noise(self, noisy, step, text):
            share = float(self.signal[step])
            return (noisy - share**0.5 * red) / (1 - share) ** 0.5

    run.teacher = Wants()
    for _ in range(60):
        run.one_step()
    assert run.losses["sds"][-1] < run.losses["sds"][0]
    out = finished(run, tiny_eg3d().config.rig(), 16).render(
        orbit_cameras([0.0], [0.0], tiny_eg3d().config.rig()), shading="albedo"
    )
    middle = out.image[0, :, 6:10, 6:10].mean(dim=(1, 2))
    assert middle[0] > 0.8 and middle[1:].max() < 0.3
    assert out.alpha.mean() > 0.5  # the ball that it was covers 0.15 of the picture


def test_the_protocol_s_result(models, head):
    out = fit(torch.zeros(3, 16, 16), "a zombie", models, SMALL)
    cameras = orbit_cameras([10.0], [5.0], models.eg3d.config.rig())
    assert torch.equal(out.render(cameras).image, head.render(cameras).image)
    assert out.portrait is None and out.reference is None
    assert set(out.losses) == {f"distillation {name}" for name in LOSSES}
    assert out.seconds["distillation"] > 0
    assert out.notes == ("20 steps of 10000", "guidance 5 instead of 100")


def test_the_notes_say_what_is_otherwise(teacher):
    assert notes_of(teacher, FAITHFUL) == ()
    suits = Suits(guidance=4.0, views=(42.0, 34.0), white=True)
    assert notes_of(replace(teacher, suits=suits), FAITHFUL) == (
        "guidance 4 instead of 100",
        "cameras only where the teacher has seen heads from",
        "always on white",
    )


def test_without_a_teacher_an_editor_serves_and_without_both_it_says_so(tmp_path, models):
    editor = load_editor(save_tiny_editor(tmp_path))
    given = replace(models, text_to_image=None, editor=editor)
    assert teacher_of(given).is_editor
    assert "left out" in notes_of(teacher_of(given), FAITHFUL)[0]
    with pytest.raises(InputError, match="host program"):
        teacher_of(replace(given, editor=SimpleNamespace()))
    with pytest.raises(InputError, match="text-to-image"):
        fit(None, "an elf", replace(models, text_to_image=None))
    with pytest.raises(InputError, match="empty"):
        fit(None, " ", models, SMALL)
