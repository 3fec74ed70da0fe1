"""The pictures of the clay CLIP: what a shard holds, and which attributes a head shows."""

from types import SimpleNamespace

import pytest
import torch

from freestyle_core.clay.data import clip_views
from freestyle_core.clay.data.clip_views import (
    CLIP_PIXELS,
    DRAWN,
    RENDERED,
    SOFTENED,
    make_clip_views,
    shown_attributes,
    views_shard,
)
from freestyle_core.clay.draw import Head, plain_head, styled_head
from freestyle_core.clay.styles.attributes import ATTRIBUTES, with_attributes
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.clay.styles.style import PLAIN

ORDER = list(ATTRIBUTES)


@pytest.fixture
def quick(monkeypatch):
    """One view each, drawn flat at once; the generator's are grey, the VAE doubles the dark."""

    def draw(head, cameras, pixels):
        level = 0.8 if head.style is None else 0.25
        return torch.full((len(cameras), 3, pixels, pixels), level), None, None

    def render(eg3d, z, cameras):
        return torch.full((len(cameras), 3, CLIP_PIXELS, CLIP_PIXELS), 0.5)

    monkeypatch.setattr(clip_views, "draw", draw)
    monkeypatch.setattr(clip_views, "_render", render)
    latent = SimpleNamespace(mode=lambda: None)
    seen = []

    def encode(images):
        seen.append(images)
        return SimpleNamespace(latent_dist=latent)

    def decode(code):
        return SimpleNamespace(sample=seen[-1] / 2 - 0.5)  # 0.25 -> 0.125

    return SimpleNamespace(encode=encode, decode=decode, seen=seen)


def test_a_shard_has_every_kind_of_picture_with_what_is_true_of_it(quick):
    rows = views_shard(2, None, quick, heads=3)
    of_head = 3 + 2 + 4 * (3 + 1)
    assert {len(value) for value in rows.values()} == {3 * of_head}
    assert rows["head"].unique().tolist() == [6, 7, 8]  # no other shard has them
    made, style = rows["made"], rows["style"]
    counts = [int((made == kind).sum()) for kind in (DRAWN, RENDERED, SOFTENED)]
    assert counts == [3 * 15, 3 * 2, 3 * 4]
    assert (style[made == RENDERED] == -1).all()
    level = rows["image"][:, 0, 0, 0]
    assert set(level[made == RENDERED].tolist()) == {128}
    assert set(level[made == SOFTENED].tolist()) == {32}
    assert quick.seen[0].shape == (1, 3, 128, 128)  # the VAE sees what it was trained for
    styled = (made == DRAWN) & (torch.arange(len(made)) % of_head >= 5)
    assert set(level[styled].tolist()) == {64}
    asked = rows["asked"]
    assert (asked.max() >= 0) and asked.shape[1] == 2
    for row in (asked >= 0).any(1).nonzero()[:, 0].tolist():
        said = [a for a in asked[row].tolist() if a >= 0]
        assert rows["shows"][row, said].all()
    again = views_shard(2, None, quick, heads=3)
    assert all(torch.equal(value, again[name]) for name, value in rows.items())


def test_shards_that_exist_are_kept(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_views, "views_shard", lambda i, *_: {"index": torch.tensor(i)})
    (tmp_path / "clip_0001.pt").write_bytes(b"kept")
    make_clip_views(tmp_path, range(3), None, None)
    assert (tmp_path / "clip_0001.pt").read_bytes() == b"kept"
    assert int(torch.load(tmp_path / "clip_0002.pt", weights_only=True)["index"]) == 2


def shown(head, style=PLAIN, asked=()):
    known = shown_attributes(head, style, list(asked))
    return {name for name, value in zip(ORDER, known.tolist(), strict=True) if value}


@pytest.fixture(scope="module")
def head():
    return plain_head(torch.randn(64, generator=torch.Generator().manual_seed(0)))


def test_what_was_asked_for_is_shown(head):
    assert "horns" not in shown(head)
    assert {"horns", "sad"} <= shown(head, asked=["horns", "sad"])


def test_a_natural_beard_counts_from_half_way(head):
    """The range is -2.4 to 1, its middle -0.7; the attribute sets 1, so half-way is 0.15."""
    for value, expected in ((0.14, False), (0.16, True)):
        bearded = Head({**head.parameters, "beard": value}, head.colors)
        assert ("beard" in shown(bearded)) is expected


def test_a_hair_colour_counts_when_it_is_near(head):
    red = torch.tensor([0.78, 0.13, 0.05])
    for distance, expected in ((0.24, True), (0.26, False)):
        colors = {**head.colors, "hair": red + torch.tensor([0.0, 0.0, distance])}
        assert ("red hair" in shown(Head(head.parameters, colors))) is expected
    beard = Head({**head.parameters, "beard": 0.9}, {**head.colors, "hair": red})
    assert "red beard" in shown(beard) and "black beard" not in shown(beard)
    shaven = Head({**head.parameters, "beard": -1.0}, {**head.colors, "hair": red})
    assert "red beard" not in shown(shaven)


def test_a_style_shows_only_what_it_can(head):
    z = torch.randn(64, generator=torch.Generator().manual_seed(0))
    statue = STYLES["gold"]
    drawn = styled_head(z, with_attributes(statue, ["beard"]))
    of_statue = shown(drawn, statue, ["beard"])
    assert "beard" in of_statue
    assert not any(ATTRIBUTES[name].kind > 1 for name in of_statue)  # no colours
    elf = STYLES["elf"]
    assert "pointed ears" in shown(styled_head(z, elf), elf)  # by its nature
