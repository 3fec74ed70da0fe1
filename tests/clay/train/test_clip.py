"""Training the clay CLIP on a tiny made-up data set, and the loss where its value is known."""

import math
from functools import partial

import pytest
import torch

from freestyle_core.clay.data.clip_batches import ClipBatch, ClipPool
from freestyle_core.clay.styles.attributes import ATTRIBUTES
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.clay.train import clip as training
from freestyle_core.clay.train.clip import (
    contrastive_losses,
    held_out_scores,
    train_clip,
)
from freestyle_core.files.clip import load_clip
from freestyle_core.training.loop import TrainSettings
from tests.clay.train.stopping import check_that_it_goes_on

PIXELS = 32


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three styles, each of its own colour; towers that learn them in seconds."""
    small = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1)
    monkeypatch.setattr(training, "IMAGE", small)
    monkeypatch.setattr(training, "TEXT", small)
    monkeypatch.setattr(training, "WIDTH", 16)
    monkeypatch.setattr(training, "CLIP_PIXELS", PIXELS)
    monkeypatch.setattr(training, "caption_corpus", lambda seed: ["a photo of a zombie, an elf"])
    generator = torch.Generator().manual_seed(0)
    for index in range(2):
        style = torch.tensor([-1, 0, 1, 2]).repeat(6)
        image = torch.randint(60, (24, 3, PIXELS, PIXELS), generator=generator).byte()
        for row, number in enumerate(style.tolist()):
            if number >= 0:
                image[row, number] += 180
        rows = {
            "image": image,
            "style": style,
            "asked": torch.full((24, 2), -1),
            "shows": torch.zeros(24, len(ATTRIBUTES), dtype=torch.bool),
            "head": torch.arange(6).repeat_interleave(4) + 6 * index,
        }
        torch.save(rows, tmp_path / f"clip_{index:04d}.pt")
    return tmp_path


def test_the_loss_of_a_perfect_space_is_the_uncertainty_that_is_left():
    """Two styles, at right angles: a picture cannot say which of its two captions was meant."""
    axes = torch.eye(2)
    images, texts = axes[[0, 1]], axes[[0, 0, 1]]
    truth = torch.tensor([[True, True, False], [False, False, True]])
    scale = torch.tensor(30.0)
    losses = contrastive_losses(images, texts, truth, scale)
    assert losses["to text"].item() == pytest.approx(math.log(2) / 2, abs=1e-6)  # log 2 and 0
    assert losses["to image"].item() == pytest.approx(0.0, abs=1e-6)


def test_the_loss_by_hand_with_a_caption_that_fits_nothing():
    images, texts = torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    truth = torch.tensor([[True, False, False], [True, True, False]])
    losses = contrastive_losses(images, texts, truth, torch.tensor(2.0))
    first = [2.0, 0.0, 1.2]
    second = [0.0, 2.0, 1.6]
    total = [math.log(sum(map(math.exp, row))) for row in (first, second)]
    to_text = (total[0] - first[0] + total[1] - (second[0] + second[1]) / 2) / 2
    assert losses["to text"].item() == pytest.approx(to_text, abs=1e-5)
    pairs = math.log(math.exp(2) + 1)  # of each of the two captions that are true of something
    to_image = (pairs - (2 + 0) / 2 + pairs - 2) / 2
    assert losses["to image"].item() == pytest.approx(to_image, abs=1e-5)


def test_the_loss_wants_true_pairs_near_and_others_apart():
    images = torch.nn.functional.normalize(torch.tensor([[1.0, 0.4], [0.3, 1.0]]), dim=1)
    images.requires_grad_()
    truth = torch.tensor([[True, False], [False, True]])
    losses = contrastive_losses(images, torch.eye(2), truth, torch.tensor(5.0))
    (losses["to text"] + losses["to image"]).backward()
    assert (images.grad.diagonal() < 0).all()
    assert images.grad[0, 1] > 0 and images.grad[1, 0] > 0


def test_a_clip_learns_styles_and_is_saved_as_it_is_measured(folder, tmp_path):
    settings = TrainSettings(steps=24, batch_size=12, learning_rate=8e-3, warmup_steps=4)
    clip = train_clip(folder, tmp_path / "clip", settings=settings)
    scores = held_out_scores(clip, ClipPool(folder))
    assert set(scores) == {"trained words", "held-out words"}
    assert scores["trained words"] > 0.9  # chance is one in 34
    loaded = load_clip(tmp_path / "clip")
    assert loaded.name == "clay CLIP"
    images = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1
    torch.testing.assert_close(
        loaded.encode_images(images), clip.encode_images(images), atol=0.01, rtol=0
    )
    size = sum(path.stat().st_size for path in (tmp_path / "clip").iterdir())
    assert size < 3e6


def test_interrupted_training_ends_where_an_uninterrupted_one_does(folder, tmp_path):
    settings = TrainSettings(steps=4, batch_size=4, warmup_steps=1, checkpoint_seconds=0.0)
    train = partial(train_clip, folder, settings=settings)
    check_that_it_goes_on(train, ClipPool, "batch", tmp_path)


def test_the_shipped_sizes_fit_into_three_megabytes():
    """Weights of the towers as they are trained: half precision, with 2,048 tokens."""
    from types import SimpleNamespace

    class Words(SimpleNamespace):
        def __len__(self):
            return 2048

    tokenizer = Words(bos_token_id=2046, eos_token_id=2047, pad_token_id=2047, model_max_length=48)
    model = training.build_clip(tokenizer)
    assert sum(value.numel() for value in model.parameters()) * 2 < 2.9e6
    assert model.config.vision_config.image_size == 96
    assert len(STYLES) == 34


def test_the_batch_reaches_the_towers_as_clip_prepares_it(folder, tmp_path):
    """A picture in [0,1] and the same through `Clip` give one feature."""
    settings = TrainSettings(steps=1, batch_size=4)
    clip = train_clip(folder, tmp_path / "clip", settings=settings)
    seen = {}

    def losses(images, texts, truth, scale):
        seen.update(images=images, texts=texts)
        return {"none": images.sum() * 0}

    batch = ClipBatch(
        torch.rand(3, 3, PIXELS, PIXELS), ["a zombie", "an elf"], torch.ones(3, 2) > 0
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "contrastive_losses", losses)
        training.batch_losses(clip.model, clip.tokenizer, batch, "cpu")
    torch.testing.assert_close(seen["images"], clip.encode_images(batch.images * 2 - 1))
    torch.testing.assert_close(seen["texts"], clip.encode_texts(batch.captions))
