"""What fine-tuning trains: an I2T, the planes themselves, or both."""

from dataclasses import replace

import pytest
import torch

from freestyle_core.errors import InputError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.method.finetune import FinetuneSettings, FinetuneState, finetune_portraits
from freestyle_core.method.finetune_steps import Run
from freestyle_core.method.render import RenderSettings, render_views
from freestyle_core.method.sources import NetworkPlanes, OwnPlanes, ResidualPlanes
from tests.tiny import reachable_set, tiny_eg3d, tiny_i2t, tiny_perceptual, tiny_portrait, tiny_set

SETTINGS = FinetuneSettings(
    train="planes", iterations=6, density_points=32, preview_every=0, residual_gains=(5.0, 5.0)
)
FAR = (400.0, 400.0)  # planes of an untrained generator hardly differ, those of the sets do
ROW = torch.tensor([0])


@pytest.fixture
def eg3d():
    return tiny_eg3d()


def run(eg3d, train="planes", seeds=(0,), **options):
    portraits = [tiny_portrait(eg3d, seed) for seed in seeds]
    sets = [tiny_set(eg3d, seed=seed) for seed in seeds]
    i2t = None if train == "planes" else tiny_i2t()
    settings = replace(options.pop("settings", SETTINGS), train=train)
    return finetune_portraits(
        i2t, "parent", portraits, sets, tiny_perceptual(), settings=settings, **options
    )


def test_residuals_are_nothing_at_the_start_and_gain_times_the_spread_later():
    own = torch.randn(1, 3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    source = ResidualPlanes(OwnPlanes(own), own, gains=(5.0, 3.0, 2.0))
    assert [tuple(level.shape) for level in source.levels] == [
        (1, 6, 8, 8),
        (1, 6, 4, 4),
        (1, 6, 2, 2),
    ]
    assert torch.equal(source.planes(ROW), own)
    spread = own.std(dim=(3, 4))  # [1,3,2]
    for level, gain in zip(source.levels, (5.0, 3.0, 2.0), strict=True):
        with torch.no_grad():
            level.fill_(0.5)  # even: bilinear enlarging keeps it
        expected = (0.5 * gain * spread)[..., None, None].expand_as(own)
        torch.testing.assert_close(source.residual(ROW).detach(), expected)
        with torch.no_grad():
            level.zero_()


def test_coarse_levels_are_enlarged_bilinearly_to_the_finest():
    own = torch.randn(1, 3, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    source = ResidualPlanes(OwnPlanes(own), own, gains=(1.0, 1.0))
    with torch.no_grad():
        source.levels[1][0, 0] = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    row = source.residual(ROW)[0, 0, 0, 2] / own[0, 0, 0].std()
    torch.testing.assert_close(row.detach(), torch.tensor([0.0, 0.25, 0.75, 1.0]))


def test_more_levels_than_the_planes_can_be_halved_are_left_out():
    own = torch.randn(1, 3, 1, 4, 4)
    assert len(ResidualPlanes(OwnPlanes(own), own, gains=(5.0,) * 9).levels) == 3  # 4, 2, 1


def test_the_smoothness_penalty_is_the_mean_square_of_steps():
    own = torch.randn(1, 3, 1, 4, 4)
    source = ResidualPlanes(OwnPlanes(own), own, gains=(1.0,), smooth=10.0)
    assert source.penalty().item() == 0
    with torch.no_grad():
        source.levels[0][:] = torch.arange(4.0)  # one step of 1 along rows, none along columns
    assert source.penalty().item() == pytest.approx(10.0)
    assert ResidualPlanes(OwnPlanes(own), own, gains=(1.0,)).penalty() is None


def test_the_first_step_moves_every_number_by_the_learning_rate(eg3d):
    # Adam without momentum: g / sqrt(g^2), so 0.002 either way where there is a gradient
    settings = replace(SETTINGS, residual_gains=(5.0,))
    training = Run(None, "", [tiny_portrait(eg3d)], [tiny_set(eg3d)], tiny_perceptual(), settings)
    training.one_step()
    moved = training.source.levels[0].detach().abs()
    assert moved.max() == pytest.approx(0.002, rel=1e-3)
    assert (moved > 0.0019).float().mean() > 0.3


@pytest.mark.parametrize("train", ["planes", "both"])
def test_the_portrait_comes_closer_to_its_set(eg3d, train):
    settings = replace(SETTINGS, iterations=40, residual_gains=FAR)
    few_shot = reachable_set(eg3d)
    result = finetune_portraits(
        tiny_i2t(),
        "parent",
        [tiny_portrait(eg3d)],
        [few_shot],
        tiny_perceptual(),
        settings=replace(settings, train=train),
    )
    shown = render_views(result.portraits[0], few_shot.cameras).image
    start = render_views(tiny_portrait(eg3d), few_shot.cameras).image
    error = (shown - few_shot.images).abs().mean()
    assert error < 0.4 * (start - few_shot.images).abs().mean()


def test_planes_alone_need_no_network_and_leave_none(eg3d):
    portrait = run(eg3d).portraits[0]
    assert portrait.style is None and portrait.is_stylized
    assert portrait.provenance["finetune"]["train"] == "planes"
    assert "parent" not in portrait.provenance
    for train in ("i2t", "both"):
        with pytest.raises(InputError, match=f"training '{train}' needs an I2T network, got none"):
            finetune_portraits(
                None,
                "",
                [tiny_portrait(eg3d)],
                [tiny_set(eg3d)],
                tiny_perceptual(),
                settings=replace(SETTINGS, train=train),
            )


def test_both_start_as_the_network_and_keep_its_code(eg3d):
    both, alone = run(eg3d, "both"), run(eg3d, "i2t")
    assert both.losses["total"][0] == alone.losses["total"][0]
    assert both.losses["total"][1] != alone.losses["total"][1]
    portrait = both.portraits[0]
    style = portrait.style
    assert style.residual.abs().max() > 0
    torch.testing.assert_close(
        style.network.decode(style.w_s) + style.residual, portrait.triplane.planes
    )
    assert style.parent == "parent" == portrait.provenance["parent"]


def test_what_learns_is_what_was_asked_for(eg3d):
    def learns(train):
        settings = replace(SETTINGS, train=train)
        portraits, sets = [tiny_portrait(eg3d)], [tiny_set(eg3d)]
        training = Run(tiny_i2t(), "parent", portraits, sets, tiny_perceptual(), settings)
        return training.source, sum(p.numel() for p in training.source.parameters())

    network = sum(p.numel() for p in tiny_i2t().parameters())
    pyramid = 12 * 8 * 8 + 12 * 4 * 4  # 3 planes of 4 channels, 8 and 4 texels
    source, count = learns("i2t")
    assert isinstance(source, NetworkPlanes) and count == network
    source, count = learns("planes")
    assert isinstance(source, ResidualPlanes) and count == pyramid
    assert learns("both")[1] == network + pyramid


@pytest.mark.parametrize("train", ["planes", "both"])
@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_a_resumed_run_ends_bit_by_bit_where_an_uninterrupted_one_does(eg3d, train, seeds):
    states = []
    whole = run(eg3d, train, seeds, on_checkpoint=states.append, checkpoint_every=2)
    stored = {k: v.clone() for k, v in states[0].tensors.items()}
    resumed = run(eg3d, train, seeds, resume=FinetuneState(2, stored, states[0].task))
    assert whole.losses == resumed.losses
    for a, b in zip(whole.portraits, resumed.portraits, strict=True):
        assert torch.equal(a.triplane.planes, b.triplane.planes)


def test_two_sets_learn_planes_of_their_own(eg3d):
    settings = replace(SETTINGS, iterations=80, residual_gains=FAR)
    sets = [reachable_set(eg3d, seed=seed) for seed in (0, 1)]
    result = finetune_portraits(
        None, "", [tiny_portrait(eg3d)] * 2, sets, tiny_perceptual(), settings=settings
    )
    between = (sets[0].images - sets[1].images).abs().mean()
    for index, portrait in enumerate(result.portraits):
        shown = render_views(portrait, sets[0].cameras).image
        assert (shown - sets[index].images).abs().mean() < 0.3 * between
        assert (shown - sets[1 - index].images).abs().mean() > 0.7 * between


def test_inputs_stay_as_they_are(eg3d):
    portrait, i2t = tiny_portrait(eg3d), tiny_i2t()
    before = portrait.triplane.planes.clone(), weights_hash(i2t.state_dict())
    finetune_portraits(
        i2t, "parent", [portrait], [tiny_set(eg3d)], tiny_perceptual(), settings=SETTINGS
    )
    assert torch.equal(portrait.triplane.planes, before[0])
    assert weights_hash(i2t.state_dict()) == before[1]


def test_planes_train_inside_inference_mode(eg3d):
    outside = run(eg3d)
    with torch.inference_mode():
        inside = run(tiny_eg3d())
    assert torch.equal(inside.portraits[0].triplane.planes, outside.portraits[0].triplane.planes)


def test_losses_that_are_read_some_steps_late_are_the_same(eg3d, monkeypatch):
    each, told = run(eg3d), []
    monkeypatch.setattr("freestyle_core.method.finetune_steps.READ_EVERY", 4)
    monkeypatch.setattr("freestyle_core.method.finetune_steps.WAITS", ("cuda", "cpu"))
    late = run(eg3d, on_loss=lambda losses: told.append(losses["total"]))
    assert late.losses == each.losses
    assert told == each.losses["total"]


@pytest.mark.parametrize(
    "share, expected", [(1.0, (24, 24)), (2 / 3, (16, 16)), (0.1, (4, 3)), (0.99, (24, 24))]
)
def test_a_share_of_the_samples_is_taken_while_training(share, expected):
    config = tiny_eg3d(depth_samples=24, importance_samples=24).config
    sizes = FinetuneSettings(sample_share=share).sizes(config)
    assert (sizes.depth_samples, sizes.importance_samples) == expected
    none = FinetuneSettings(sample_share=share, render=RenderSettings(importance_samples=0))
    assert none.sizes(config).importance_samples == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"sample_share": 0.0},
        {"sample_share": 1.5},
        {"train": "w"},
        {"residual_gains": ()},
        {"residual_gains": (5.0, 0.0)},
    ],
)
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        FinetuneSettings(**wrong)
