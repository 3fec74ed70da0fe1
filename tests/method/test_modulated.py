"""Fine-tuning two layers in the frozen generator: what learns, what stays, what is refused."""

from dataclasses import replace

import pytest
import torch

from freestyle_core.errors import InputError, MismatchError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.method.finetune import FinetuneSettings, FinetuneState, finetune_portraits
from freestyle_core.method.finetune_steps import Run
from freestyle_core.method.sample import sample_portrait
from freestyle_core.types import Triplane
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_perceptual, tiny_set

SETTINGS = FinetuneSettings(
    train="modulation", iterations=6, density_points=32, preview_every=0, sample_share=1.0
)


@pytest.fixture
def eg3d():
    return tiny_eg3d()


def tuned(eg3d, *, generator="own", portraits=None, seeds=(0,), **options):
    portraits = portraits or [sample_portrait(eg3d, seed) for seed in seeds]
    return finetune_portraits(
        None,
        "",
        portraits,
        [tiny_set(eg3d, seed=seed) for seed in seeds],
        tiny_perceptual(),
        eg3d=eg3d if generator == "own" else generator,
        settings=options.pop("settings", SETTINGS),
        **options,
    )


def test_only_the_two_layers_learn_and_they_are_all_a_checkpoint_holds(eg3d):
    head = sample_portrait(eg3d, 0)
    run = Run(None, "", [head], [tiny_set(eg3d)], tiny_perceptual(), SETTINGS, eg3d)
    config = eg3d.config
    # each has a weight [2C,w] and a bias [2C]
    counts = [2 * config.block_channels(r) * (config.w_dim + 1) for r in config.block_resolutions]
    trained = [p for group in run.optimizer.param_groups for p in group["params"]]
    assert sum(p.numel() for p in trained) == sum(counts[-2:])
    assert {name.split(".")[0] for name in run.source.state_dict()} == {"modulation"}
    torch.testing.assert_close(run.source.planes(torch.tensor([0])), head.triplane.planes)


def test_the_planes_change_and_the_generator_does_not(eg3d):
    before = weights_hash(eg3d.state_dict())
    head, result = sample_portrait(eg3d, 0), tuned(eg3d)
    assert weights_hash(eg3d.state_dict()) == before
    made = result.portraits[0]
    assert (made.triplane.planes - head.triplane.planes).abs().max() > 1e-3
    assert made.style is None and made.provenance["finetune"]["train"] == "modulation"
    assert result.losses["total"][-1] < result.losses["total"][0]


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(eg3d):
    states = []
    whole = tuned(eg3d, seeds=(0, 1), on_checkpoint=states.append, checkpoint_every=2)
    stored = {name: value.clone() for name, value in states[0].tensors.items()}
    again = tuned(eg3d, seeds=(0, 1), resume=FinetuneState(2, stored, states[0].task))
    assert whole.losses == again.losses
    for a, b in zip(whole.portraits, again.portraits, strict=True):
        assert torch.equal(a.triplane.planes, b.triplane.planes)


def test_it_needs_the_generator_of_the_heads_as_they_were_sampled(eg3d):
    with pytest.raises(InputError, match="adds layers to the generator, got none"):
        tuned(eg3d, generator=None)
    with pytest.raises(MismatchError, match="not what EG3D tiny makes of its w"):
        tuned(eg3d, generator=tiny_eg3d(seed=5))
    head = sample_portrait(eg3d, 0)
    shifted = Triplane(head.triplane.planes + 0.1 * head.triplane.planes.std(), 1.0)
    with pytest.raises(MismatchError, match="the head before it was restyled"):
        tuned(eg3d, portraits=[replace(head, triplane=shifted)])
    # half precision moves planes by a thousandth of their size
    halved = Triplane(head.triplane.planes.half().float(), 1.0)
    tuned(eg3d, portraits=[replace(head, triplane=halved)])


def test_an_i2t_that_is_there_is_left_alone(eg3d):
    i2t = tiny_i2t()
    before = weights_hash(i2t.state_dict())
    head, few_shot = sample_portrait(eg3d, 0), tiny_set(eg3d)
    result = finetune_portraits(
        i2t, "p", [head], [few_shot], tiny_perceptual(), eg3d=eg3d, settings=SETTINGS
    )
    assert weights_hash(i2t.state_dict()) == before
    assert torch.equal(
        result.portraits[0].triplane.planes, tuned(eg3d).portraits[0].triplane.planes
    )
