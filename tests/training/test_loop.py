"""The training loop that the clay scripts share."""

import math

import pytest
import torch
from torch.nn import Linear

from freestyle_core.errors import MismatchError
from freestyle_core.files.tensors import CheckpointFile, save_tensors
from freestyle_core.seeds import step_generator
from freestyle_core.training.loop import (
    Trainer,
    TrainSettings,
    rate_factor,
    update_average,
)

SETTINGS = TrainSettings(steps=12, learning_rate=0.05, warmup_steps=3, seed=5)


def line_trainer(path, settings=SETTINGS):
    torch.manual_seed(0)
    return Trainer(Linear(2, 1), CheckpointFile(path), settings)


def losses_of(trainer):
    def losses_at(step):
        x = torch.randn(4, 2, generator=step_generator(5, step))
        return {"square": (trainer.networks(x)[:, 0] - x[:, 0] + 2 * x[:, 1]).square().mean()}

    return losses_at


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.25), (3, 1.0), (4, 1.0), (7, 0.5), (10, 0.0), (99, 0.0)],
)
def test_rate_rises_and_falls(step, expected):
    # 4 steps up; then cos^2 over the 6 steps from 4 to 10, half way at 7
    assert rate_factor(step, 10, 4) == pytest.approx(expected)


def test_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path):
    whole = line_trainer(tmp_path / "whole.pt")
    whole.fit(losses_of(whole))

    settings = TrainSettings(**{**SETTINGS.__dict__, "checkpoint_seconds": 0.0})
    first = line_trainer(tmp_path / "parts.pt", settings)
    losses_at = losses_of(first)

    def stop_at_seven(step):
        if step == 7:
            raise KeyboardInterrupt
        return losses_at(step)

    with pytest.raises(KeyboardInterrupt):
        first.fit(stop_at_seven)
    second = line_trainer(tmp_path / "parts.pt", settings)
    assert second.resume()
    assert second.step == 7
    second.fit(losses_of(second))
    for name in ("networks", "average"):
        expected, got = getattr(whole, name).state_dict(), getattr(second, name).state_dict()
        assert all(torch.equal(expected[key], got[key]) for key in expected)


def test_nothing_to_resume_is_said(tmp_path):
    assert not line_trainer(tmp_path / "none.pt").resume()


def test_training_lowers_the_loss_and_the_average_follows(tmp_path):
    settings = TrainSettings(steps=200, learning_rate=0.05, warmup_steps=3, seed=5)
    trainer = line_trainer(tmp_path / "long.pt", settings)
    trainer.fit(losses_of(trainer))
    torch.testing.assert_close(
        trainer.networks.weight, torch.tensor([[1.0, -2.0]]), atol=0.02, rtol=0
    )
    assert not trainer.average.weight.requires_grad
    assert (trainer.average.weight - trainer.networks.weight).abs().max() < 0.2


def test_a_step_is_adams_at_the_rate_of_its_group_and_the_average_follows(tmp_path):
    torch.manual_seed(0)
    line = Linear(2, 1)
    groups = [{"params": [line.weight], "scale": 0.5}, {"params": [line.bias]}]
    settings = TrainSettings(steps=1, learning_rate=0.06, warmup_steps=3)
    trainer = Trainer(line, CheckpointFile(tmp_path / "one.pt"), settings, groups)
    weight, bias = line.weight.clone(), line.bias.clone()
    trainer.fit(lambda step: {"a": 3 * line.weight.sum(), "b": -line.bias.sum()})
    # Adam's first step is the rate itself, a third of it in the first of three steps of warming up
    torch.testing.assert_close(line.weight, weight - 0.01)
    torch.testing.assert_close(line.bias, bias + 0.02)
    # the average keeps 1 / 10 of the start
    torch.testing.assert_close(trainer.average.weight, weight - 0.009)
    torch.testing.assert_close(trainer.average.bias, bias + 0.018)


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (80, 0.9), (10_000, 0.998)])
def test_an_average_grows_longer_as_training_goes_on(step, decay):
    average, networks = Linear(1, 1, bias=False), Linear(1, 1, bias=False)
    torch.nn.init.constant_(average.weight, 1.0)
    torch.nn.init.constant_(networks.weight, 3.0)
    update_average(average, networks, step)
    assert average.weight.item() == pytest.approx(decay * 1 + (1 - decay) * 3)


def test_losses_in_the_log_are_running_means(tmp_path):
    trainer = line_trainer(tmp_path / "two.pt", TrainSettings(steps=2))
    weight = trainer.networks.weight
    trainer.fit(lambda step: {"square": 0 * weight.sum() + (5.0, 15.0)[step]})
    assert trainer.losses == {"square": pytest.approx(0.98 * 5 + 0.02 * 15)}


def test_a_step_without_finite_gradient_changes_nothing(tmp_path):
    trainer = line_trainer(tmp_path / "nan.pt", TrainSettings(steps=1))
    before = trainer.networks.weight.clone()
    trainer.fit(lambda step: {"bad": trainer.networks.weight.sum() * math.nan})
    assert torch.equal(trainer.networks.weight, before)


def test_a_checkpoint_of_another_training_is_named(tmp_path):
    path = tmp_path / "state.pt"
    for state in ({"networks": {}}, {"networks": Linear(3, 1).state_dict()}, {}):
        save_tensors(path, state)
        with pytest.raises(MismatchError, match=r"state\.pt does not fit this training \(.*delete"):
            line_trainer(path).resume()
