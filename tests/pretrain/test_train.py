from dataclasses import replace

import pytest
import torch

from freestyle_core.errors import FreeStyleError, InputError, MismatchError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.method.render import render_views
from freestyle_core.models.i2t import I2T
from freestyle_core.pretrain.data import (
    GeneratorBatches,
    HeldOut,
    front_views,
    plane_statistics,
    rendered_psnr,
    sample_ws,
    views_of,
)
from freestyle_core.pretrain.train import LossWatch, PretrainSettings, PretrainWatch, pretrain
from freestyle_core.training.checkpoint import TrainingState
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_portrait

SETTINGS = PretrainSettings(
    iterations=4, batch_size=2, warmup=1, statistics=8, preview_every=2, psi=(0.7, 0.7)
)


@pytest.fixture
def eg3d():
    return tiny_eg3d()


def test_pre_training_lowers_the_plane_loss_and_leaves_the_inputs_alone(eg3d):
    i2t = tiny_i2t()
    before = weights_hash(i2t.state_dict()), weights_hash(eg3d.state_dict())
    settings = PretrainSettings(
        iterations=60, warmup=5, statistics=32, preview_every=0, betas=(0.9, 0.99)
    )
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(4, 3, 16, 16, generator=generator)
    planes = eg3d.planes(sample_ws(eg3d, 4, generator, psi=(0.7, 0.7))).detach()
    result = pretrain(eg3d, i2t, settings=settings, batches=lambda step: (images, planes))
    assert len(result.losses) == 60
    start = tiny_i2t()
    start.set_plane_statistics(*plane_statistics(eg3d, count=32, psi=settings.psi, seed=0))
    with torch.no_grad():
        first = (start(images) - planes).abs().mean()
        last = (result.i2t(images) - planes).abs().mean()  # of the averaged weights
    assert result.losses[0] == pytest.approx(first.item())
    assert last < 0.85 * first
    assert (weights_hash(i2t.state_dict()), weights_hash(eg3d.state_dict())) == before


def test_statistics_are_the_mean_planes_and_their_deviation_per_channel(eg3d):
    mean, scale = plane_statistics(eg3d, count=8, psi=(0.7, 0.7), seed=0)
    generator = torch.Generator().manual_seed(0)
    planes = torch.cat(
        [eg3d.planes(sample_ws(eg3d, 1, generator, psi=(0.7, 0.7))) for _ in range(8)]
    )
    torch.testing.assert_close(mean, planes.mean(0))
    expected = (planes - planes.mean(0)).square().mean((0, 3, 4)).sqrt()
    torch.testing.assert_close(scale, expected)


def test_a_step_always_draws_the_same_batch_and_other_steps_others(eg3d):
    batches = GeneratorBatches(eg3d, batch_size=2, psi=(0.6, 1.0), seed=0)
    torch.testing.assert_close(batches(3), batches(3), rtol=0, atol=0)
    assert not torch.equal(batches(3)[1], batches(4)[1])


def test_front_views_are_what_the_renderer_shows(eg3d):
    portrait = tiny_portrait(eg3d)
    image, planes = front_views(eg3d, portrait.w)
    torch.testing.assert_close(planes, portrait.triplane.planes)
    shown = render_views(portrait, grid_cameras(1, eg3d.config.rig())[0]).image
    torch.testing.assert_close(image, shown)


def test_truncation_pulls_every_identity_by_its_own_psi(eg3d):
    eg3d.backbone.mapping.w_avg.copy_(torch.arange(8.0))
    full = sample_ws(eg3d, 3, torch.Generator().manual_seed(1), psi=(1.0, 1.0))
    part = sample_ws(eg3d, 3, torch.Generator().manual_seed(1), psi=(0.2, 0.8))
    average = torch.arange(8.0)
    share = (part - average) / (full - average)
    assert (share.amax((1, 2)) - share.amin((1, 2)) < 1e-3).all()
    assert share.min() > 0.2 and share.max() < 0.8
    assert len({round(s, 4) for s in share[:, 0, 0].tolist()}) == 3


def test_a_resumed_run_ends_bit_by_bit_where_an_uninterrupted_one_does(eg3d):
    states = []
    watch = PretrainWatch(on_checkpoint=states.append, checkpoint_every=2)
    whole = pretrain(eg3d, tiny_i2t(), settings=SETTINGS, watch=watch)
    stored = TrainingState(2, dict(states[0].tensors), states[0].task)
    again = pretrain(eg3d, tiny_i2t(seed=7), settings=SETTINGS, resume=stored)
    assert again.losses == whole.losses
    assert weights_hash(again.i2t.state_dict()) == weights_hash(whole.i2t.state_dict())


# (1 + n) / (10 + n) after step n, at most 0.998
@pytest.mark.parametrize(("step", "decay"), [(1, 2 / 11), (90, 91 / 100), (5000, 0.998)])
def test_the_result_is_an_average_that_grows_longer(eg3d, step, decay):
    settings = replace(SETTINGS, iterations=10_000, preview_every=0)
    states = []

    def run(last, resume=None):
        def progress(done, total, preview=None):
            if done == last:
                raise InterruptedError

        watch = PretrainWatch(progress, on_checkpoint=states.append)
        with pytest.raises(InterruptedError):
            pretrain(eg3d, tiny_i2t(), settings=settings, resume=resume, watch=watch)

    start = {name: value.detach() for name, value in tiny_i2t().named_parameters()}
    run(1)
    if step > 1:  # a run that far stands a step before it
        first = dict(states[0].tensors)
        start = {name: first[f"average.{name}"] for name in start}
        first["losses.plane"] = first["losses.plane"].expand(step - 1)
        run(step, TrainingState(step - 1, first, states[0].task))
    after = states[-1].tensors
    for name, average in start.items():
        expected = decay * average + (1 - decay) * after[f"network.{name}"]
        torch.testing.assert_close(after[f"average.{name}"], expected)


def test_a_cancel_keeps_the_state_between_two_steps_and_leaves_the_inputs_alone(eg3d):
    class Stop(BaseException):
        pass

    def progress(done, total, preview=None):
        if done == 3:
            raise Stop

    i2t, states = tiny_i2t(), []
    before = weights_hash(i2t.state_dict())
    with pytest.raises(Stop):
        pretrain(
            eg3d,
            i2t,
            settings=SETTINGS,
            watch=PretrainWatch(progress, on_checkpoint=states.append),
        )
    assert weights_hash(i2t.state_dict()) == before
    assert [state.step for state in states] == [3]
    whole = pretrain(eg3d, tiny_i2t(), settings=SETTINGS)
    again = pretrain(eg3d, tiny_i2t(), settings=SETTINGS, resume=states[0])
    assert weights_hash(again.i2t.state_dict()) == weights_hash(whole.i2t.state_dict())


def test_a_cancel_takes_effect_within_a_step(eg3d):
    beats = []
    settings = PretrainSettings(iterations=1, batch_size=3, statistics=4, preview_every=0)
    watch = PretrainWatch(lambda done, total, preview=None: beats.append(done))
    pretrain(eg3d, tiny_i2t(), settings=settings, watch=watch)
    # 4 planes of the mean head, then three portraits with a rendering each, all before the step
    assert beats.count(0) >= 4 + 3 * 2 and beats[-1] == 1


def test_heads_made_together_are_those_made_one_by_one(eg3d, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    ws = sample_ws(eg3d, 5, generator, psi=(0.6, 1.0))
    images, planes = front_views(eg3d, ws)
    calls = []
    made = type(eg3d).planes

    def counted(self, ws, **options):
        calls.append(len(ws))
        if len(ws) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return made(self, ws, **options)

    monkeypatch.setattr(type(eg3d), "planes", counted)
    monkeypatch.setattr("freestyle_core.pretrain.data._heads_together", lambda device: 4)
    together = front_views(eg3d, ws)
    assert calls == [4, 2, 2, 1]  # where four do not fit, two
    torch.testing.assert_close(together[0], images, atol=1e-5, rtol=0)
    torch.testing.assert_close(together[1], planes, atol=1e-4, rtol=1e-5)


def test_a_batch_that_does_not_fit_is_learned_from_in_pieces_with_the_same_result(
    eg3d, monkeypatch
):
    settings = replace(SETTINGS, batch_size=4, preview_every=0)
    whole = pretrain(eg3d, tiny_i2t(), settings=settings)
    sizes = []
    forward = I2T.forward

    def full(self, image):
        sizes.append(len(image))
        if len(image) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, image)

    monkeypatch.setattr(I2T, "forward", full)
    pieces = pretrain(eg3d, tiny_i2t(), settings=settings)
    assert sizes == [4, 2, *[1] * 16]  # halved twice, and from then on four pieces a step
    assert pieces.losses == pytest.approx(whole.losses, rel=1e-4)
    for a, b in zip(pieces.i2t.parameters(), whole.i2t.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_the_preview_is_input_predicted_and_true_view_of_held_out_heads(eg3d):
    previews = []

    def progress(done, total, preview=None):
        if preview is not None:
            previews.append((done, preview))

    result = pretrain(eg3d, tiny_i2t(), settings=SETTINGS, watch=PretrainWatch(progress))
    assert [done for done, _ in previews] == [2, 4]
    sheet = previews[-1][1].unflatten(1, (4, 16)).unflatten(3, (3, 16))  # [3,row,16,column,16]
    held_out = HeldOut(eg3d, count=4, psi=(0.7, 0.7), seed=0)
    front, planes = front_views(eg3d, held_out.ws[1:2])
    camera = held_out.cameras[1]
    torch.testing.assert_close(sheet[:, 1, :, 0], front[0])
    truth = views_of(eg3d, held_out.ws[1:2], planes, camera)[0]
    torch.testing.assert_close(sheet[:, 1, :, 2], truth)
    with torch.no_grad():
        predicted = views_of(eg3d, held_out.ws[1:2], result.i2t(front), camera)[0]
    torch.testing.assert_close(sheet[:, 1, :, 1], predicted)


def test_validation_is_the_psnr_of_views_of_heads_that_are_never_trained_on(eg3d):
    held_out = HeldOut(eg3d, count=2, psi=(0.7, 0.7), seed=0)
    batches = GeneratorBatches(eg3d, batch_size=2, psi=(0.7, 0.7), seed=0)
    assert not any(torch.equal(held_out.fronts[0], batches(step)[0][:1]) for step in range(4))
    planes = [front_views(eg3d, row)[1] for row in held_out.ws.split(1)]
    by_front = {front.sum().item(): p for front, p in zip(held_out.fronts, planes, strict=True)}
    perfect = lambda front: by_front[front.sum().item()]  # noqa: E731
    assert held_out.psnr(perfect) == pytest.approx(100)  # the true planes: no error at all
    held_out.truth = [torch.zeros_like(t) for t in held_out.truth]
    held_out._predicted = lambda i2t, index, cameras: torch.full((4, 3, 16, 16), 0.1)
    assert held_out.psnr(None) == pytest.approx(20, abs=1e-4)  # -10 log10(0.1^2)


def test_a_network_is_scored_by_the_views_of_its_planes(eg3d):
    ws = torch.cat([tiny_portrait(eg3d, seed).w for seed in (1, 2)])
    cameras = grid_cameras(2, eg3d.config.rig())
    known = {front_views(eg3d, row)[0].sum().item(): eg3d.planes(row) for row in ws.split(1)}
    perfect = rendered_psnr(eg3d, lambda front: known[front.sum().item()], ws, cameras)
    assert perfect == pytest.approx(100)
    first = eg3d.planes(ws[:1])  # right for one of two: the mean of 100 and another's
    half = rendered_psnr(eg3d, lambda front: first, ws, cameras)
    other = rendered_psnr(eg3d, lambda front: first, ws[1:], cameras)
    assert other < 90 and half == pytest.approx((100 + other) / 2)


def test_reports_give_loss_rate_and_psnr(eg3d):
    reports = []
    settings = PretrainSettings(
        iterations=25,
        batch_size=1,
        warmup=0,
        statistics=2,
        held_out=1,
        preview_every=0,
        validate_every=20,
    )
    result = pretrain(
        eg3d, tiny_i2t(), settings=settings, watch=PretrainWatch(on_report=reports.append)
    )
    assert [r.step for r in reports] == [10, 20, 25]
    assert reports[1].loss == pytest.approx(sum(result.losses[10:20]) / 10)
    assert reports[1].rate == pytest.approx(settings.rate(19))
    assert [r.psnr is not None for r in reports] == [False, True, True]
    assert result.psnr == reports[-1].psnr
    assert reports[-1].seconds_left == 0 and reports[0].seconds_left > 0


def test_a_loss_that_is_not_finite_stops_the_run(eg3d):
    planes = torch.zeros(1, 3, 4, 8, 8)
    broken = planes.clone()
    broken[0, 0, 0, 0, 0] = float("nan")
    batches = lambda step: (torch.rand(1, 3, 16, 16), broken if step == 2 else planes)  # noqa: E731
    with pytest.raises(FreeStyleError, match="diverged at step 3: the loss is not a finite"):
        pretrain(eg3d, tiny_i2t(), settings=SETTINGS, batches=batches)


def test_a_loss_that_rises_far_above_its_best_stops_the_run():
    watch = LossWatch()
    for _ in range(200):
        watch.see(1.0)
    for _ in range(100):
        watch.see(0.25)
    # the running mean is about 0.25 + 0.75 * 0.98^100 = 0.35; three times that is the limit
    with pytest.raises(FreeStyleError, match=r"risen to .* from 0.349.* at step 300; start again"):
        for _ in range(100):
            watch.see(2.0)
    assert watch.step == 328  # 2 - 1.651 * 0.98^n is above 1.048 from n = 28 on


def test_a_noisy_falling_loss_is_not_called_divergence():
    watch = LossWatch()
    generator = torch.Generator().manual_seed(0)
    for step in range(3000):
        noise = torch.rand(1, generator=generator).item()
        watch.see((0.2 + 0.8 * 0.998**step) * (0.3 + 1.4 * noise))


def test_bfloat16_trains_to_nearly_the_same_loss_with_float32_weights(eg3d):
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(4, 3, 16, 16, generator=generator)
    planes = eg3d.planes(sample_ws(eg3d, 4, generator, psi=(0.7, 0.7))).detach()
    settings = PretrainSettings(iterations=20, warmup=5, statistics=8, preview_every=0)
    runs = [
        pretrain(
            eg3d,
            tiny_i2t(),
            settings=replace(settings, precision=precision),
            batches=lambda step: (images, planes),
        )
        for precision in ("float32", "bfloat16")
    ]
    assert all(p.dtype == torch.float32 for p in runs[1].i2t.parameters())
    assert runs[1].losses != runs[0].losses
    torch.testing.assert_close(
        torch.tensor(runs[1].losses), torch.tensor(runs[0].losses), rtol=0.02, atol=0
    )


def test_it_works_inside_inference_mode(eg3d):
    whole = pretrain(eg3d, tiny_i2t(), settings=SETTINGS)
    with torch.inference_mode():
        inside = pretrain(tiny_eg3d(), tiny_i2t(), settings=SETTINGS)
    assert inside.losses == whole.losses


def test_a_network_with_another_generators_sizes_is_refused(eg3d):
    with pytest.raises(MismatchError, match="plane_resolution 16, but EG3D tiny has 8"):
        pretrain(eg3d, tiny_i2t(plane_resolution=16), settings=SETTINGS)


def test_the_rate_rises_and_then_falls_along_half_a_cosine():
    settings = PretrainSettings(iterations=100, warmup=10, learning_rate=0.002)
    assert settings.rate(4) == pytest.approx(0.001, rel=0.01)  # half way up
    assert settings.rate(50) == pytest.approx(0.001)  # half way down
    assert settings.rate(100) == pytest.approx(0.0)
    short = replace(settings, warmup=90)  # most of a short run must not be spent on warming up
    assert [short.rate(step) for step in (4, 50)] == [settings.rate(step) for step in (4, 50)]


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"statistics": 0}, {"learning_rate": 2.0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        PretrainSettings(**wrong)
