"""Batches of the clay CLIP: what is true of what, and pictures that change but stay themselves."""

import pytest
import torch

from freestyle_core.clay.data import clip_batches as batches
from freestyle_core.clay.data.clip_batches import (
    Caption,
    ClipPool,
    augmented,
    caption,
    ground_of,
    truth_of,
)
from freestyle_core.clay.styles.attributes import ATTRIBUTES
from freestyle_core.clay.styles.captions import HELD_OUT
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.errors import FileFormatError

STYLE, ATTRIBUTE = list(STYLES).index, list(ATTRIBUTES).index
ZOMBIE, DEVIL, OLD = STYLE("zombie"), STYLE("devil"), STYLE("old person")
ANGRY, BEARD, AGED, HORNS = (ATTRIBUTE(name) for name in ("angry", "beard", "old", "horns"))


def shows(*attributes):
    row = torch.zeros(len(ATTRIBUTES), dtype=torch.bool)
    row[list(attributes)] = True
    return row


def shard(first, heads=8, size=32):
    """Return pictures whose middle is as bright as their style's number, on white."""
    style = torch.tensor([-1, ZOMBIE, ZOMBIE, DEVIL]).repeat(heads)
    count = len(style)
    image = torch.full((count, 3, size, size), 255, dtype=torch.uint8)
    image[:, :, 8:24, 8:24] = (40 + style.byte() * 2)[:, None, None, None]
    asked = torch.full((count, 2), -1)
    asked[1::4, 0] = ANGRY
    shown = torch.stack([shows(*[a for a in row.tolist() if a >= 0]) for row in asked])
    head = torch.arange(heads).repeat_interleave(4) + first
    return {"image": image, "style": style, "asked": asked, "shows": shown, "head": head}


@pytest.fixture
def pool(tmp_path):
    for i in range(2):
        torch.save(shard(8 * i), tmp_path / f"clip_{i:04d}.pt")
    return ClipPool(tmp_path)


def test_a_caption_is_true_of_its_style_where_all_it_says_is_shown():
    styles = torch.tensor([ZOMBIE, ZOMBIE, DEVIL, -1, -1])
    shown = torch.stack([shows(ANGRY, BEARD), shows(), shows(ANGRY), shows(AGED), shows(BEARD)])
    captions = [
        Caption("a zombie", ZOMBIE, ()),
        Caption("an angry zombie", ZOMBIE, (ANGRY,)),
        Caption("an angry zombie with a beard", ZOMBIE, (ANGRY, BEARD)),
        Caption("a person", -1, ()),
        Caption("an old person", OLD, ()),
    ]
    expected = [
        [1, 1, 1, 0, 0],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1],  # a plain head made old is an old person, too
        [0, 0, 0, 1, 0],
    ]
    assert truth_of(styles, shown, captions).int().tolist() == expected


def test_captions_of_the_same_words_are_true_of_the_same_pictures():
    """ "an old man" is a wording of the style and of a plain head with the attribute."""
    styles, shown = torch.tensor([OLD, -1, -1]), torch.stack([shows(), shows(AGED), shows()])
    said = [Caption("An old man", -1, (AGED,)), Caption("an old man", OLD, ())]
    for order in (said, said[::-1]):
        assert truth_of(styles, shown, order).int().tolist() == [[1, 1], [1, 1], [0, 0]]


def test_a_batch_says_something_true_of_every_picture_and_names_every_style(pool):
    batch = pool.batch(40, torch.Generator().manual_seed(0))
    assert batch.images.shape == (40, 3, 32, 32)
    assert 0 <= batch.images.min() and batch.images.max() <= 1
    assert batch.truth.shape == (40, len(batch.captions)) and batch.truth.dtype == torch.bool
    assert len(set(batch.captions)) == len(batch.captions)
    assert batch.truth.any(1).all()
    assert (~batch.truth.any(0)).sum() > 30  # styles that no picture has, and wrong attributes
    again = pool.batch(40, torch.Generator().manual_seed(0))
    assert torch.equal(batch.images, again.images) and batch.captions == again.captions
    drawn = torch.cat([pool._draw(200, torch.Generator().manual_seed(i)) for i in range(5)])
    styles = pool.rows["style"][drawn]
    share = [(styles == s).float().mean().item() for s in (-1, ZOMBIE, DEVIL)]
    # the plain share, the others equally though there are twice as many zombies
    assert share == pytest.approx([0.12, 0.44, 0.44], abs=0.05)


def test_the_last_heads_are_never_drawn(pool):
    assert pool.held_out["head"].unique().tolist() == [11, 12, 13, 14, 15]
    assert pool.rows["head"].unique().tolist() == list(range(11))


def test_a_devil_always_has_horns(pool):
    devils = pool.rows["style"] == DEVIL
    assert pool.rows["shows"][devils, HORNS].all() and not pool.rows["shows"][~devils, HORNS].any()


def test_one_shard_is_too_few(tmp_path):
    torch.save(shard(0), tmp_path / "clip_0000.pt")
    with pytest.raises(FileFormatError, match=r"fewer than two clip_\*"):
        ClipPool(tmp_path)


def test_captions_are_of_many_kinds_and_never_held_out():
    generator = torch.Generator().manual_seed(1)
    texts = [caption(ZOMBIE, [ANGRY], generator).text.lower() for _ in range(300)]
    assert len(set(texts)) > 100
    assert any(text.startswith("a photo of ") for text in texts)
    assert any(text.startswith("turn the head into ") for text in texts)
    words = ("angry", "furious")
    assert all(any(word in text for word in words) for text in texts)
    plain = [caption(ZOMBIE, [], generator).text.lower() for _ in range(300)]
    held = [words.lower() for words in HELD_OUT["zombie"]]
    assert not any(text.endswith(words) for text in plain for words in held)
    assert "a person" in {caption(-1, [], generator).text for _ in range(60)}


def test_the_ground_is_the_white_that_reaches_the_border():
    image = torch.full((1, 3, 9, 9), 255, dtype=torch.uint8)
    image[:, :, 2:8, 2:8] = 90
    image[:, :, 4:6, 4:6] = 255  # a white eye
    image[:, 0, 0, 0] = 240  # not white enough
    ground = ground_of(image)[0]
    assert ground.sum() == 81 - 36 - 1
    assert not ground[4, 4] and not ground[0, 0] and ground[8, 8]


def test_augmented_pictures_differ_but_keep_their_colours():
    colors = torch.rand(64, 3, generator=torch.Generator().manual_seed(3))
    images = colors[:, :, None, None].expand(-1, -1, 32, 32).contiguous()
    ground = torch.zeros(64, 32, 32, dtype=torch.bool)
    out = augmented(images, ground, torch.Generator().manual_seed(0))
    assert out.shape == images.shape and 0 <= out.min() and out.max() <= 1
    mean = out.mean((2, 3))
    assert (mean - colors).abs().max() < 0.25  # tinted a little
    assert (mean - colors).abs().mean() > 0.01
    nearest = torch.cdist(mean, colors).argmin(1)
    assert (nearest == torch.arange(64)).float().mean() > 0.6
    again = augmented(images, ground, torch.Generator().manual_seed(0))
    assert torch.equal(out, again)


def test_some_grounds_are_grey_and_most_stay_white(monkeypatch):
    images, ground = torch.ones(400, 3, 30, 30), torch.ones(400, 30, 30, dtype=torch.bool)
    monkeypatch.setattr(batches, "_moved", lambda images, *_: images)
    out = augmented(images, ground, torch.Generator().manual_seed(0)).mean((1, 2, 3))
    grey = (out < 0.85).float().mean()  # 1 times at least 0.885; greys below 0.8 get there
    assert 0.08 < grey < 0.2


def test_a_mirror_and_a_cut_keep_the_picture_on_the_canvas():
    """A dot left of the middle goes to the right when mirrored; no cut leaves the picture."""
    images = torch.zeros(2, 1, 21, 21)
    images[:, :, 10, 5] = 1
    middle = torch.full((2, 5), 0.5)  # no turn, no shift; zoom 0.975
    middle[0, 2], middle[1, 2] = 0.0, 1.0  # mirrored, and not
    still = batches._moved(images, middle, torch.zeros(2, dtype=torch.bool))
    place = still.amax((1, 2)).argmax(1).tolist()
    assert place[0] >= 14 and place[1] <= 6
    ramp = torch.linspace(0, 1, 21).expand(64, 1, 21, 21)
    u = torch.rand(64, 5, generator=torch.Generator().manual_seed(2))
    u[:, 0], u[:, 2] = 0.5, 1.0
    cut = batches._moved(ramp, u, torch.ones(64, dtype=torch.bool))
    width = cut[:, 0, 10, -1] - cut[:, 0, 10, 0]
    zoom = 0.55 + 0.3 * u[:, 1]
    # from centre to centre of 21 pixels, of a picture that ends half a pixel outside
    torch.testing.assert_close(width, zoom, atol=0.06, rtol=0)
