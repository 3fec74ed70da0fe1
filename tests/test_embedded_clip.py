"""The included clay CLIP: small, named, and as good as its model card says, with a margin."""

import pytest
import torch

from freestyle_core.clay.draw import draw, plain_head, styled_head
from freestyle_core.clay.evaluate import FIRST_SEED, code_of_seed, random_cameras
from freestyle_core.clay.measure_clip import accuracy, texts_of
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.clay.train.clip import build_clip
from freestyle_core.files.clip import EMBEDDED, find_clips, load_clip
from freestyle_core.metrics.clip import NEUTRAL, WEAK_GAIN, clip_gain


@pytest.fixture(scope="module")
def clip():
    return load_clip("clay")


@pytest.fixture(scope="module")
def heads(clip):
    """Features of one unknown head, plain and in every style."""
    z, camera = code_of_seed(FIRST_SEED + 40), random_cameras(1, 7)
    made = [plain_head(z), *(styled_head(z, style) for style in STYLES.values())]
    return clip.encode_images(torch.cat([draw(head, camera, 96)[0] for head in made]) * 2 - 1)


def test_it_is_there_small_and_named(clip):
    assert clip.name == "clay CLIP"
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) < 3e6
    assert find_clips()[-1].place == EMBEDDED
    sizes = [tuple(value.shape) for value in build_clip(clip.tokenizer).parameters()]
    assert sizes == [tuple(value.shape) for value in clip.model.parameters()]


def test_it_knows_the_styles_of_a_head_it_never_saw(clip, heads):
    right = torch.arange(len(STYLES))
    assert accuracy(heads[1:], texts_of(clip, None), right).float().mean() > 0.85
    assert accuracy(texts_of(clip, 0), heads[1:], right).float().mean() > 0.8  # held-out words


def test_a_style_is_nearer_to_its_words_than_the_plain_head(clip, heads):
    texts = texts_of(clip, None)
    gains = [clip_gain(heads[i + 1][None], heads[:1], texts[i]) for i in range(len(STYLES))]
    assert sum(gain > WEAK_GAIN for gain in gains) >= 32
    person = clip.encode_texts([NEUTRAL])
    assert (heads[:1] @ person.T).item() > (heads[1:] @ person.T).mean().item() + 0.2
