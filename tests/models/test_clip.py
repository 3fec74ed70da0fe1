"""A CLIP of random weights: how pictures and texts are prepared, and what comes out."""

import numpy as np
import pytest
import torch
from PIL import Image

from freestyle_core.errors import InputError, MismatchError, ShapeError
from freestyle_core.models import clip as module
from freestyle_core.models.clip import MEAN, STD, Clip, preprocess
from tests.tiny_clip import PIXELS, SPACE, tiny_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("words"))


def pictures(count, height=40, width=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=generator) * 2 - 1


def shown(prepared):
    mean, std = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
    return prepared * std + mean


def test_a_plain_colour_is_normalised_by_the_mean_and_deviation_of_clip():
    grey = preprocess(torch.zeros(1, 3, 50, 50), 32)  # 0 of -1..1 is 0.5
    assert grey.shape == (1, 3, 32, 32)
    expected = [(0.5 - m) / s for m, s in zip(MEAN, STD, strict=True)]
    torch.testing.assert_close(grey[0].mean((1, 2)), torch.tensor(expected))
    assert grey[0].std(dim=(1, 2)).max() < 1e-5


@pytest.mark.parametrize("size", [(48, 48), (64, 96), (20, 20)])
def test_resizing_is_that_of_pil_as_in_the_official_preparation(size):
    """CLIP's own transform: the shorter side by PIL's bicubic, then the middle."""
    noise = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    byte = (70 + noise * 120).byte()  # PIL cuts overshoots off after each axis, we do at the end
    image = Image.fromarray(byte.permute(1, 2, 0).numpy())
    scale = 32 / min(size)
    resized = image.resize((round(size[1] * scale), 32), Image.Resampling.BICUBIC)
    left = (resized.width - 32) // 2
    middle = np.array(resized.crop((left, 0, left + 32, 32)))
    expected = torch.from_numpy(middle).permute(2, 0, 1).float() / 255
    got = shown(preprocess(byte[None].float() / 127.5 - 1, 32))[0]
    assert (got - expected).abs().max() < 1.5 / 255  # PIL rounds to bytes, twice


def test_of_a_wide_picture_the_middle_is_kept():
    thirds = torch.tensor([-1.0, 0.0, 1.0]).repeat_interleave(32).expand(1, 3, 32, 96)
    got = shown(preprocess(thirds, 32))
    torch.testing.assert_close(got, torch.full_like(got, 0.5))
    tall = shown(preprocess(thirds.transpose(2, 3), 32))
    torch.testing.assert_close(tall, torch.full_like(got, 0.5))


def test_features_are_the_models_own_of_length_one(clip):
    images, texts = pictures(3, PIXELS, PIXELS), ["an elf", "a photo of a zombie"]
    image, text = clip.encode_images(images), clip.encode_texts(texts)
    assert image.shape == (3, SPACE) and text.shape == (2, SPACE) and clip.width == SPACE
    assert image.dtype == text.dtype == torch.float32
    torch.testing.assert_close(image.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(text.norm(dim=1), torch.ones(2))
    # transformers' own way: tokens padded only to the longest
    ids = clip.tokenizer(texts, padding=True, return_tensors="pt").input_ids
    mean, std = (torch.tensor(value)[:, None, None] for value in (MEAN, STD))
    with torch.no_grad():
        out = clip.model(input_ids=ids, pixel_values=((images / 2 + 0.5) - mean) / std)
    scale = clip.model.logit_scale.exp()
    torch.testing.assert_close(out.logits_per_image, scale * image @ text.T, atol=1e-4, rtol=1e-4)
    assert not image.requires_grad
    assert (image @ image.T).fill_diagonal_(0).max() < 0.999  # it tells pictures apart


def test_neither_the_company_nor_the_order_of_a_batch_matters(clip, monkeypatch):
    images = pictures(5)
    texts = ["an elf", "a zombie", "a person", "elf", "a photo of an elf"]
    all_images, all_texts = clip.encode_images(images), clip.encode_texts(texts)
    monkeypatch.setattr(module, "AT_ONCE", 2)
    torch.testing.assert_close(clip.encode_images(images), all_images)
    torch.testing.assert_close(clip.encode_texts(texts), all_texts)
    torch.testing.assert_close(clip.encode_images(images.flip(0)).flip(0), all_images)
    torch.testing.assert_close(clip.encode_texts(texts[::-1]).flip(0), all_texts)


def test_half_precision_is_nearly_the_same(clip, tmp_path):
    half = tiny_clip(tmp_path).to(torch.bfloat16)
    images = pictures(2)
    out = half.encode_images(images)
    assert out.dtype == torch.float32
    assert ((out * clip.encode_images(images)).sum(1) > 0.99).all()


def test_a_text_that_would_be_cut_is_refused(clip):
    assert clip.max_tokens == 16  # of the text tower, the tokenizer itself would take 48
    clip.encode_texts(["elf " * 14])
    with pytest.raises(InputError, match="has 15 tokens, the text encoder reads 14"):
        clip.encode_texts(["an elf", "elf " * 15])
    with pytest.raises(InputError, match="a list"):
        clip.encode_texts("an elf")
    with pytest.raises(InputError, match="at least one"):
        clip.encode_texts([])


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 4, 32, 32), (0, 3, 32, 32)])
def test_other_shapes_are_refused(clip, shape):
    with pytest.raises(ShapeError, match=r"images \[N,3,H,W\]"):
        clip.encode_images(torch.zeros(shape))


def test_pictures_that_are_not_finite_are_refused(clip):
    images = pictures(2)
    images[1, 0, 3, 3] = float("nan")
    with pytest.raises(ShapeError, match="pictures are not finite"):
        clip.encode_images(images)


def test_a_tokenizer_of_another_model_is_refused(clip, monkeypatch):
    config = clip.model.config.text_config
    monkeypatch.setattr(config, "eos_token_id", 7)
    with pytest.raises(MismatchError, match="looks for the end token 7"):
        Clip(clip.model, clip.tokenizer, "other")
    monkeypatch.setattr(config, "eos_token_id", 2)  # old configs: the largest token is the end
    Clip(clip.model, clip.tokenizer, "old")
    monkeypatch.setattr(config, "vocab_size", len(clip.tokenizer) - 1)
    with pytest.raises(MismatchError, match="take both from the same model"):
        Clip(clip.model, clip.tokenizer, "smaller")
