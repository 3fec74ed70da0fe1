"""Attributes: what they change of a head, what a style refuses, and how they are said."""

import pytest
import torch

from freestyle_core.clay.data.shards import cameras_at, draw_edit
from freestyle_core.clay.draw import draw, styled_head
from freestyle_core.clay.heads.head import HAIR, LIP, SKIN
from freestyle_core.clay.styles.attributes import (
    ATTRIBUTES,
    COLOR,
    FACE,
    TAKES,
    draw_attributes,
    takes,
    with_attributes,
)
from freestyle_core.clay.styles.captions import adjectives_before, describe
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.clay.styles.style import PLAIN
from tests.identities import identity_code

IDENTITY = identity_code(3)


def _picture(style):
    image, _, _ = draw(styled_head(IDENTITY, style), cameras_at(torch.tensor([[12.0, 3.0]])), 32)
    return image[0]


def _seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def plain():
    return _picture(PLAIN)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_attribute_changes_the_plain_head(name, plain):
    changed = with_attributes(PLAIN, [name])
    assert (_picture(changed) - plain).abs().max() > 0.1


def test_a_statue_smiles_but_keeps_its_colour():
    gold = STYLES["gold"]
    assert with_attributes(gold, ["red hair", "blue eyes"]) is gold
    smiling = with_attributes(gold, ["smiling"])
    assert smiling.parameters["smile"] == 1.8
    assert smiling.palette == gold.palette


def test_faces_without_hair_take_moods_only():
    assert takes(STYLES["skull"]) == FACE and takes(STYLES["zombie"]) == COLOR
    assert set(TAKES) < set(STYLES)
    for seed in range(20):
        (name,) = draw_attributes(STYLES["robot"], 1, _seeded(seed))
        assert ATTRIBUTES[name].group == "mood"


def test_a_red_beard_leaves_the_hair_on_top_alone():
    style = with_attributes(STYLES["pirate"], ["red beard"])
    head = styled_head(IDENTITY, style)
    points = torch.tensor([[0.0, -0.2, 0.15], [0.0, 0.28, 0.0]])  # chin and crown
    colors = torch.full((6, 2, 3), 0.5)
    dyed = style.texture(points, points, colors, head.parameters)
    torch.testing.assert_close(dyed[HAIR, 0], torch.tensor(ATTRIBUTES["red beard"].beard))
    undyed = STYLES["pirate"].texture(points, points, colors, head.parameters)
    torch.testing.assert_close(dyed[HAIR, 1], undyed[HAIR, 1])
    torch.testing.assert_close(dyed[[SKIN, LIP]], undyed[[SKIN, LIP]])


def test_geometry_of_style_and_attribute_add_up():
    clown = with_attributes(STYLES["clown"], ["horns"])
    nose = torch.tensor([0.0]), torch.tensor([-0.045]), torch.tensor([0.22])
    horn = torch.tensor([0.135]), torch.tensor([0.265]), torch.tensor([0.10])
    p = {"nosel": 1.0}
    for x, y, z in (nose, horn):
        assert clown.field(torch.ones(6, 1), x, y, z, p).min() < 0  # inside


def test_two_attributes_are_of_two_groups():
    for seed in range(60):
        names = draw_attributes(PLAIN, 2, _seeded(seed))
        assert len(names) == 2
        assert len({ATTRIBUTES[name].group for name in names}) == 2


def test_edits_are_plain_or_styled_in_the_shares_promised():
    generator = _seeded(0)
    edits = [draw_edit(generator) for _ in range(3000)]
    plain = sum(style is PLAIN for style, _ in edits) / 3000
    both = sum(style is not PLAIN and bool(names) for style, names in edits) / 3000
    assert plain == pytest.approx(0.08, abs=0.015)
    assert both == pytest.approx(0.92 * 0.35, abs=0.03)
    assert all(names for style, names in edits if style is PLAIN)


@pytest.mark.parametrize(
    ("wording", "adjectives", "expected"),
    [
        ("an elf", ["smiling"], "a smiling elf"),
        ("a gold statue", ["old", "sad"], "an old sad gold statue"),
        ("the Hulk", ["angry"], "the angry Hulk"),
        ("zombie", ["bald"], "bald zombie"),
        ("a zombie", [], "a zombie"),
    ],
)
def test_adjectives_stand_after_the_article(wording, adjectives, expected):
    assert adjectives_before(wording, adjectives) == expected


def test_colours_are_said_as_they_are_called():
    coloured = {name: a for name, a in ATTRIBUTES.items() if a.group in ("hair", "beard", "eyes")}
    checked = 0
    for name, attribute in coloured.items():
        color, _, part = name.partition(" ")
        if part in ("hair", "beard", "eyes") and color not in ("long", "short", "big", "curly"):
            words = [*attribute.before, *attribute.after]
            assert words and all(color in word for word in words), name
            checked += 1
    assert checked == 14


def test_attributes_after_the_noun_are_joined():
    said = {describe("a zombie", ["old", "red beard"], _seeded(i)) for i in range(30)}
    assert said == {"an old zombie with a red beard", "an elderly zombie with a red beard"}
    said = {describe("a cat", ["red beard", "big eyes"], _seeded(i)) for i in range(30)}
    assert said == {"a cat with a red beard and big eyes"}
