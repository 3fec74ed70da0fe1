"""Training the clay perceptual features on a tiny made-up data set."""

from functools import partial

import pytest
import torch

from freestyle_core.clay.data.shards import SHARD
from freestyle_core.clay.train import perceptual as training
from freestyle_core.clay.train.perceptual import (
    PairPool,
    blurred,
    identity_values,
    train_perceptual,
)
from freestyle_core.errors import FileFormatError
from freestyle_core.files.bundle import load_bundle
from freestyle_core.models.perceptual import PerceptualConfig, PerceptualNet
from freestyle_core.training.loop import TrainSettings
from tests.clay.train.stopping import check_that_it_goes_on


@pytest.fixture
def folder(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for index in range(2):
        z = torch.randn(SHARD, 64, generator=generator)
        style = torch.tensor([0, 1, 2, 2])
        target = torch.full((4, 3, 128, 128), 40, dtype=torch.uint8)
        target += (style * 60).byte()[:, None, None, None]  # a style is a brightness
        pairs = {
            "source": torch.randint(256, (4, 3, 128, 128), generator=generator, dtype=torch.uint8),
            "target": target,
            "style": style,
            "identity": torch.tensor([0, 3, 4, 49]) + index * SHARD,
        }
        torch.save({"z": z}, tmp_path / f"heads_{index:04d}.pt")
        torch.save(pairs, tmp_path / f"pairs_{index:04d}.pt")
    return tmp_path


def test_a_pair_gives_the_plain_class_and_its_style_with_one_identity(folder):
    pool = PairPool(folder)
    images, styles, codes = pool.held_out(4)
    assert styles.tolist() == [3, 3, 3, 3, 0, 1, 2, 2]
    assert images[4:, 0, 0, 0].mul(255).round().tolist() == [40, 100, 160, 160]
    z = torch.load(folder / "heads_0001.pt", weights_only=True)["z"]
    torch.testing.assert_close(codes[3], identity_values(z[49:50])[0])
    torch.testing.assert_close(codes[7], codes[3])


def test_only_the_direction_of_an_identity_code_counts():
    z = torch.zeros(1, 64)
    z[0, 1] = 5.0  # normalised to length 8: erf(8 / sqrt 2) = 1
    torch.testing.assert_close(identity_values(z), identity_values(3 * z))
    assert identity_values(z)[0, :3].tolist() == [0.0, 1.0, 0.0]


def test_a_blur_keeps_means_and_takes_the_fine_grain(monkeypatch):
    monkeypatch.setattr(training, "BLURRED", 1.0)
    rows = torch.arange(112) % 2  # stripes of one pixel
    stripes = rows.float().expand(8, 3, 112, 112)
    soft = blurred(stripes, torch.Generator().manual_seed(0))
    assert soft.shape == stripes.shape
    torch.testing.assert_close(soft.mean((2, 3)), torch.full((8, 3), 0.5), atol=0.02, rtol=0)
    grain = soft.diff(dim=-1).abs().mean((1, 2, 3))  # 1 in the stripes themselves
    assert grain.max() < 0.7
    assert grain[0] == grain[1] != grain[2]  # each quarter of the batch by its own width


def test_some_pictures_stay_sharp():
    images = torch.rand(8, 3, 112, 112, generator=torch.Generator().manual_seed(1))
    same = 0
    for seed in range(100):
        soft = blurred(images, torch.Generator().manual_seed(seed))
        same += sum(torch.equal(a, b) for a, b in zip(soft[::2], images[::2], strict=True))
    assert 90 <= same <= 150  # 30 % of 400 quarters; four deviations are 37


def test_interrupted_training_ends_where_an_uninterrupted_one_does(folder, tmp_path):
    settings = TrainSettings(steps=4, batch_size=2, warmup_steps=1, checkpoint_seconds=0.0)
    train = partial(train_perceptual, folder, settings=settings)
    check_that_it_goes_on(train, PairPool, "draw", tmp_path)


def test_the_written_file_gives_the_trained_network(folder, tmp_path):
    settings = TrainSettings(steps=1, batch_size=1)
    net = train_perceptual(folder, tmp_path / "p.safetensors", settings=settings)
    bundle = load_bundle(tmp_path / "p.safetensors", "perceptual")
    loaded = PerceptualNet(PerceptualConfig.from_dict(bundle.config))
    loaded.load_state_dict(bundle.state)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    # stored in half precision: eleven bits
    torch.testing.assert_close(loaded(image)[0], net(image)[0], rtol=0.02, atol=0.02)


def test_pairs_without_their_heads_are_refused(folder):
    (folder / "heads_0001.pt").unlink()
    with pytest.raises(FileFormatError, match="heads_0001.pt"):
        PairPool(folder)
