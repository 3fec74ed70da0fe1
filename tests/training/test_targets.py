"""Pictures that a training compares with: equal losses, features made once."""

import pytest
import torch

from freestyle_core.training.losses import reconstruction_loss
from freestyle_core.training.targets import FeatureDistance, Targets
from tests.tiny import tiny_perceptual


@pytest.fixture
def images():
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rows", [[0], [3, 1], [2, 2]])
@pytest.mark.parametrize("keep_mb", [0, 100])
def test_the_loss_is_eq_5_with_kept_features_and_without(images, rows, keep_mb):
    distance, shown = tiny_perceptual(), images.flip(0)[: len(rows)] * 0.9
    targets = Targets(images, distance, keep_mb=keep_mb)
    expected = reconstruction_loss(shown, images[rows], distance)
    torch.testing.assert_close(targets.loss(shown, torch.tensor(rows)), expected)


def test_features_of_the_targets_are_made_once(images):
    distance, seen = tiny_perceptual(), []
    made = distance.net.features

    def features(pictures):
        seen.append(len(pictures))
        return made(pictures)

    distance.net.features = features
    targets = Targets(images, distance)
    assert sum(seen) == 5
    for row in range(5):
        targets.loss(images[:1], torch.tensor([row]))
    assert sum(seen) == 5 + 5  # the shown picture's alone


def test_any_function_of_two_batches_will_do(images):
    def half(a, b):
        return torch.full((len(a),), 0.5)

    assert not isinstance(half, FeatureDistance)
    loss = Targets(images, half).loss(images[:2], torch.tensor([0, 1]))
    assert float(loss) == 0.5  # no difference of colours, and the distance


def test_kept_features_take_two_bytes_a_value(images):
    distance = tiny_perceptual()
    values = sum(x.numel() for x in distance.features_of(images))
    targets = Targets(images, distance, keep_mb=2 * values / 2**20)
    assert sum(x.nbytes for x in targets._features) == 2 * values
    assert Targets(images, distance, keep_mb=1.99 * values / 2**20)._features is None
