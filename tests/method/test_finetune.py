from dataclasses import replace

import pytest
import torch

from freestyle_core.errors import FreeStyleError, InputError, MismatchError, ShapeError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.method import finetune_steps
from freestyle_core.method.finetune import (
    LOSSES,
    FinetuneSettings,
    FinetuneState,
    finetune_portraits,
)
from freestyle_core.method.finetune_steps import Run, view_plan
from freestyle_core.method.render import render_views
from freestyle_core.types import Portrait, Triplane
from tests.tiny import (
    reachable_set,
    tiny_eg3d,
    tiny_i2t,
    tiny_perceptual,
    tiny_portrait,
    tiny_set,
)

SETTINGS = FinetuneSettings(
    train="i2t",
    sample_share=1.0,
    skip_empty=False,
    fade=0.4,
    iterations=6,
    density_points=32,
    preview_every=2,
)


@pytest.fixture
def eg3d():
    return tiny_eg3d()


def run(eg3d, i2t=None, *, settings=SETTINGS, seeds=(0,), **options):
    portraits = [tiny_portrait(eg3d, seed) for seed in seeds]
    sets = [tiny_set(eg3d, seed=seed) for seed in seeds]
    i2t = i2t or tiny_i2t()
    return finetune_portraits(
        i2t, "parent", portraits, sets, tiny_perceptual(), settings=settings, **options
    )


def test_fine_tuning_brings_the_portrait_closer_to_its_set(eg3d):
    settings = FinetuneSettings(train="i2t", iterations=60, density_points=32, preview_every=0)
    result = run(eg3d, settings=settings)
    portrait, few_shot = result.portraits[0], tiny_set(eg3d)
    shown = render_views(portrait, few_shot.cameras).image
    start = render_views(tiny_portrait(eg3d), few_shot.cameras).image
    error = (shown - few_shot.images).abs().mean()
    assert error < 0.5 * (start - few_shot.images).abs().mean()
    # the texture, uniform of width 0.3 and different in every view, cannot be fitted by one head:
    # its mean distance from its own mean is 0.3 / 4 = 0.075
    assert 0.05 < error < 0.15


def test_one_loss_of_each_kind_is_recorded_per_step_and_adds_up(eg3d):
    losses = run(eg3d).losses
    assert set(losses) == set(LOSSES)
    for total, rec, density in zip(*(losses[name] for name in LOSSES), strict=True):
        assert total == pytest.approx(10 * rec + 0.2 * density, rel=1e-5)
    assert len(losses["total"]) == 6


def test_decoder_and_superresolution_stay_frozen(eg3d):
    before = weights_hash(eg3d.state_dict())
    result = run(eg3d)
    assert weights_hash(eg3d.state_dict()) == before
    renderer = result.portraits[0].renderer
    assert weights_hash(renderer.state_dict()) == weights_hash(eg3d.renderer().state_dict())
    assert all(p.grad is None for p in eg3d.parameters())


def test_only_the_network_is_in_the_optimizer(eg3d):
    portraits, sets = [tiny_portrait(eg3d)], [tiny_set(eg3d)]
    training = Run(tiny_i2t(), "parent", portraits, sets, tiny_perceptual(), SETTINGS)
    before = weights_hash(training.renderer.state_dict())
    training.one_step()
    trained = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in training.source.parameters()}
    assert weights_hash(training.renderer.state_dict()) == before
    assert all(p.grad is None for p in training.renderer.parameters())


def test_inputs_are_unchanged_and_the_network_is_a_new_one(eg3d):
    i2t = tiny_i2t()
    before = weights_hash(i2t.state_dict())
    flags = [p.requires_grad for p in i2t.parameters()]
    result = run(eg3d, i2t)
    assert weights_hash(i2t.state_dict()) == before
    assert [p.requires_grad for p in i2t.parameters()] == flags
    style = result.portraits[0].style
    assert style.network is not i2t and style.parent == "parent"
    assert weights_hash(style.network.state_dict()) != before
    torch.testing.assert_close(style.network.decode(style.w_s), result.portraits[0].triplane.planes)


class Stop(BaseException):
    pass


@pytest.mark.parametrize("last", [0, 1, 4])
def test_cancelling_at_any_step_passes_through_and_changes_nothing(eg3d, last):
    i2t = tiny_i2t()
    before = weights_hash(i2t.state_dict()), weights_hash(eg3d.state_dict())

    def progress(done, total, preview=None):
        if done == last:
            raise Stop

    with pytest.raises(Stop):
        run(eg3d, i2t, progress=progress)
    assert (weights_hash(i2t.state_dict()), weights_hash(eg3d.state_dict())) == before


def test_previews_turn_and_every_loss_is_told_before_its_step(eg3d):
    shown, told = [], []

    def progress(done, total, preview=None):
        told.append(done)
        if preview is not None:
            shown.append(preview)

    result = run(eg3d, progress=progress, on_loss=lambda losses: told.append(losses["total"]))
    losses = result.losses["total"]
    expected = [0]
    for step, loss in enumerate(losses, start=1):
        expected += [loss, step]
    assert told == expected
    # at random weights the three pictures differ far more by their angle than by a training step
    assert len(shown) == 3
    assert all((a - b).abs().max() > 0.01 for a, b in zip(shown, shown[1:], strict=False))


def test_progress_counts_every_step_and_shows_a_view(eg3d):
    reports = []

    def progress(done, total, preview=None):
        reports.append((done, total, None if preview is None else tuple(preview.shape)))

    run(eg3d, progress=progress)
    shape = (3, 16, 16)
    assert reports == [
        (0, 6, None),
        (1, 6, None),
        (2, 6, shape),
        (3, 6, None),
        (4, 6, shape),
        (5, 6, None),
        (6, 6, shape),
    ]


def assert_same_result(one, other):
    assert one.losses == other.losses
    for a, b in zip(one.portraits, other.portraits, strict=True):
        assert torch.equal(a.triplane.planes, b.triplane.planes)
        assert torch.equal(a.style.w_s, b.style.w_s)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_resumed_run_ends_bit_by_bit_where_an_uninterrupted_one_does(eg3d, seeds):
    states = []
    whole = run(eg3d, seeds=seeds, on_checkpoint=states.append, checkpoint_every=2)
    assert [s.step for s in states] == [2, 4, 6]
    # as a file would give it back: plain tensors, nothing shared
    stored = {k: v.clone() for k, v in states[1].tensors.items()}
    resumed = run(eg3d, seeds=seeds, resume=FinetuneState(4, stored, states[1].task))
    assert_same_result(whole, resumed)


def test_a_run_that_is_stopped_hands_over_how_far_it_came(eg3d):
    states = []

    def stop(done, total, preview=None):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(eg3d, progress=stop, on_checkpoint=states.append)
    assert [s.step for s in states] == [3]
    assert_same_result(run(eg3d), run(eg3d, resume=states[0]))


def test_a_checkpoint_is_not_changed_by_going_on(eg3d):
    states, copies = [], []

    def keep(state):
        states.append(state)
        copies.append({k: v.clone() for k, v in state.tensors.items()})

    run(eg3d, on_checkpoint=keep, checkpoint_every=3)
    for name, value in copies[0].items():
        assert torch.equal(states[0].tensors[name], value), name


def test_a_checkpoint_of_another_task_is_refused(eg3d):
    states = []
    run(eg3d, on_checkpoint=states.append, checkpoint_every=2)
    with pytest.raises(MismatchError, match="another training run"):
        run(eg3d, settings=replace(SETTINGS, seed=1), resume=states[0])


def test_the_seed_decides_the_result(eg3d):
    one, same = run(eg3d), run(eg3d)
    assert_same_result(one, same)
    other = run(eg3d, settings=replace(SETTINGS, seed=1))
    assert one.losses != other.losses


def test_the_global_random_state_is_neither_used_nor_changed(eg3d):
    torch.manual_seed(5)
    one = run(eg3d)
    state = torch.random.get_rng_state()
    i2t, perceptual = tiny_i2t(), tiny_perceptual()
    torch.random.set_rng_state(state)
    portraits, sets = [tiny_portrait(eg3d)], [tiny_set(eg3d)]
    again = finetune_portraits(i2t, "parent", portraits, sets, perceptual, settings=SETTINGS)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_same_result(one, again)


def test_it_works_inside_inference_mode_with_everything_made_there(eg3d):
    outside = run(eg3d)
    with torch.inference_mode():
        inside = run(tiny_eg3d())
    assert inside.portraits[0].triplane.planes.is_inference() is False
    assert_same_result(outside, inside)


def test_several_sets_share_one_network_and_keep_their_own_code_and_w(eg3d):
    result = run(eg3d, seeds=(0, 1))
    one, two = result.portraits
    assert one.style.network is two.style.network
    assert not torch.equal(one.style.w_s, two.style.w_s)
    assert torch.equal(two.w, tiny_portrait(eg3d, 1).w)
    assert one.provenance["seed"] == 0 and two.provenance["seed"] == 1
    assert one.provenance["perceptual"] == "perceptual features"  # which distance was used


def test_joint_training_tells_the_sets_apart(eg3d):
    settings = FinetuneSettings(train="i2t", iterations=100, density_points=32, preview_every=0)
    sets = [reachable_set(eg3d, seed=seed) for seed in (0, 1)]
    portraits = [tiny_portrait(eg3d)] * 2
    result = finetune_portraits(
        tiny_i2t(), "parent", portraits, sets, tiny_perceptual(), settings=settings
    )
    between = (sets[0].images - sets[1].images).abs().mean()
    for index, portrait in enumerate(result.portraits):
        shown = render_views(portrait, sets[0].cameras).image
        assert (shown - sets[index].images).abs().mean() < 0.2 * between
        assert (shown - sets[1 - index].images).abs().mean() > 0.8 * between


def test_sets_take_turns_and_every_view_is_seen_before_any_is_seen_twice():
    plan = view_plan([5, 3], FinetuneSettings(iterations=15, batch_size=2))
    assert all([index for index, _ in step] == [0, 1] for step in plan)
    first = [step[0][1] for step in plan]
    second = [step[1][1] for step in plan]
    for i in range(0, 15, 5):
        assert sorted(first[i : i + 5]) == [0, 1, 2, 3, 4]
        assert sorted(second[i * 3 // 5 : i * 3 // 5 + 3]) == [0, 1, 2]


def test_the_learning_rate_is_constant_and_then_falls_to_a_tenth():
    settings = FinetuneSettings(iterations=100, fade=0.5)
    assert [settings.rate(s) for s in (0, 49, 50)] == [0.002, 0.002, 0.002]
    assert settings.rate(75) == pytest.approx(0.0011)  # half way down to 0.0002
    assert settings.rate(100) == pytest.approx(0.0002)


@pytest.mark.parametrize(
    "wrong",
    [
        {"iterations": 0},
        {"batch_size": 0},
        {"delta_std": -1.0},
        {"learning_rate": 0.0},
        {"fade": 2.0},
    ],
)
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        FinetuneSettings(**wrong)


def test_an_i2t_of_another_generator_is_refused(eg3d):
    with pytest.raises(MismatchError, match="plane_channels 8, but EG3D tiny has 4; load the I2T"):
        run(eg3d, tiny_i2t(plane_channels=8))


def test_images_of_the_wrong_size_or_with_nan_are_refused(eg3d):
    few_shot = tiny_set(eg3d)
    args = (tiny_i2t(), "parent", [tiny_portrait(eg3d)])
    small = replace(few_shot, images=few_shot.images[..., :8, :8])
    with pytest.raises(MismatchError, match="8 pixels wide"):
        finetune_portraits(*args, [small], tiny_perceptual())
    broken = few_shot.images.clone()
    broken[2, 1, 3, 4] = float("nan")
    with pytest.raises(ShapeError, match="NaN"):
        finetune_portraits(*args, [replace(few_shot, images=broken)], tiny_perceptual())
    with pytest.raises(InputError, match="2 few-shot sets for 1 portraits"):
        finetune_portraits(*args, [few_shot, few_shot], tiny_perceptual())


def test_a_diverging_run_says_so(eg3d):
    portrait = tiny_portrait(eg3d)
    broken = replace(portrait, w=portrait.w * float("inf"))
    with pytest.raises(FreeStyleError, match="diverged at step 1"):
        finetune_portraits(
            tiny_i2t(), "parent", [broken], [tiny_set(eg3d)], tiny_perceptual(), settings=SETTINGS
        )


def test_portraits_of_two_generators_are_refused(eg3d):
    portraits = [tiny_portrait(eg3d), tiny_portrait(tiny_eg3d(seed=9))]
    sets = [tiny_set(eg3d), tiny_set(eg3d, seed=1)]
    with pytest.raises(MismatchError, match="different EG3D"):
        finetune_portraits(tiny_i2t(), "parent", portraits, sets, tiny_perceptual())


def test_a_batch_of_portraits_is_refused(eg3d):
    p = tiny_portrait(eg3d)
    double = Portrait(
        p.renderer, Triplane(p.triplane.planes.repeat(2, 1, 1, 1, 1), 1.0), p.w.repeat(2, 1, 1)
    )
    with pytest.raises(ShapeError, match="batch of 2"):
        finetune_portraits(tiny_i2t(), "parent", [double], [tiny_set(eg3d)], tiny_perceptual())


def test_when_memory_runs_out_the_rays_of_a_step_go_in_pieces(eg3d, monkeypatch):
    whole, tried = run(eg3d), []
    march = finetune_steps.ray_features

    def small(renderer, planes, sampled, *args):
        rays = sampled.depths.shape[1]
        tried.append(rays)
        if rays > 20:  # of 64
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return march(renderer, planes, sampled, *args)

    monkeypatch.setattr(finetune_steps, "ray_features", small)
    pieces = run(eg3d)
    assert tried[:2] == [64, 32] and max(tried[2:]) == 16  # 64, 32, then four of 16 to the end
    for name in LOSSES:
        assert pieces.losses[name] == pytest.approx(whole.losses[name], rel=2e-3)
    monkeypatch.setattr(finetune_steps, "MOST_PIECES", 2)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(eg3d)


def test_another_fault_in_a_step_is_not_taken_for_lack_of_memory(eg3d, monkeypatch):
    def broken(*args):
        raise RuntimeError("a device-side assert")

    monkeypatch.setattr(finetune_steps, "ray_features", broken)
    with pytest.raises(RuntimeError, match="device-side"):
        run(eg3d)
