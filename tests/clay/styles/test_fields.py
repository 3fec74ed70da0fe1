"""The extra geometry of the styles: where each part lies, worked out from its primitives.

Far outside everything the distances are 1, deep inside they are -1; what a style adds or carves is
then all there is. A sphere's middle is as deep as its radius, a capsule's end too; half way between
the middle and the end of an ellipsoid's axis of length a it is a / 2 deep.
"""

import math

import pytest
import torch

from freestyle_core.clay.draw import plain_head, styled_head
from freestyle_core.clay.heads.head import BROW, CLOTH, EYE, HAIR, SKIN
from freestyle_core.clay.styles.catalogue import STYLES
from tests.identities import identity_code

P = {"nosel": 1.0, "eyesep": 1.0, "width": 1.0}
BUMP = math.sin(1) * 0.0045 + (
    math.sin(113 * math.pi / 94) * math.sin(-109 * math.pi / 86) * 0.0016
)  # where the coarse waves along x and z are at their top

# style, material, distance to everything else, point, distance
PARTS = [
    ("clown", SKIN, 1, (0, -0.045, 0.22), -0.038),
    ("vampire", EYE, 1, (0.024, -0.119, 0.184), -0.0085),
    ("vampire", EYE, 1, (-0.022, -0.152, 0.196), -0.0015),
    ("plush", EYE, 1, (0.079, 0.022, 0.172), -0.040),
    ("plush", BROW, 1, (0.016, -0.05, 0.232), -0.016),
    ("robot", BROW, 1, (0, 0.318, -0.02), -0.022),
    ("robot", SKIN, 1, (0.2, 0, -0.02), -0.028),  # the bolt is cut at 0.228
    ("toy brick", SKIN, -1, (0, 0.18, 0), -0.04),  # half the height of the stud
    ("toy brick", EYE, -1, (-0.08, 0.045, 0.17), -0.01),
    ("stone", SKIN, 0, (math.pi / 94, 0, math.pi / 86), BUMP),
    ("lava", HAIR, 0, (math.pi / 94, 0, math.pi / 86), BUMP),
    # two capsules meet: -0.025, and a quarter of the blend of 0.02
    ("devil", BROW, 1, (-0.135, 0.265, 0.10), -0.030),
    ("skull", SKIN, -1, (0.106, 0.018, 0.17), 0.028),
    ("skull", HAIR, -1, (0, 0.3, 0), 0),  # no hair
    ("alien", EYE, 1, (0.084 + 0.037 * 0.866, 0.012 + 0.037 * 0.5, 0.16), -0.037),
    ("alien", SKIN, 1, (0.1075, 0.13, -0.02), -0.1075),
    ("mummy", SKIN, 0, (0, 0, 0.2), -0.004),
    ("mummy", BROW, -1, (0.08, 0.1, 0.17), 0),
    ("Santa Claus", HAIR, 1, (0.232, 0.175, -0.01), -0.046),
    # the brim's plane, 0.2275 - 0.165 - 0.42 * 0.005, is nearer than the outside of the cap
    ("Santa Claus", CLOTH, 1, (0, 0.2275, -0.045), -0.0604),
    ("Frankenstein's monster", SKIN, 1, (0.1025, 0.19, -0.03), -0.072),  # flat at 0.262
    ("Frankenstein's monster", EYE, 1, (-0.135, -0.215, -0.02), -0.034),
    # 0.0829 from the hollow's axis, 0.0496 of the way from 0.045 to 0.004 thick
    ("cat", SKIN, 1, (0.105, 0.20, -0.02), -0.03989),
    ("cat", BROW, 1, (-0.06, -0.075, 0.20), -0.0035),
    ("pirate", CLOTH, 1, (0.2525, 0.09, -0.04), -0.0175),
    ("pirate", BROW, 1, (0.111, 0.022, 0.178), -0.032),
]


@pytest.mark.parametrize(("name", "material", "around", "point", "distance"), PARTS)
def test_every_part_lies_where_it_should(name, material, around, point, distance):
    x, y, z = torch.tensor(point)[:, None]
    field = STYLES[name].field(torch.full((6, 1), float(around)), x, y, z, P)
    assert field[material].item() == pytest.approx(distance, abs=2e-5)


def test_a_plush_head_has_knobbly_round_ears():
    x, y, z = torch.tensor([0.165, 0.235, -0.07])[:, None]
    field = STYLES["plush"].field(torch.ones(6, 1), x, y, z, P)
    # 0.04 behind the middle of a sphere of 0.068, 0.004 thicker, knobs of up to 1.6 * 0.0022
    assert field[SKIN].item() == pytest.approx(-0.032, abs=0.0036)


def test_there_is_a_part_of_every_style_with_geometry():
    assert {name for name, style in STYLES.items() if style.field} == {part[0] for part in PARTS}


@pytest.mark.parametrize("name", sorted({part[0] for part in PARTS}))
def test_geometry_is_in_the_truth_of_a_head(name):
    """The distances that networks are trained and measured with are the styled head's."""
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    style, code = STYLES[name], identity_code(3)
    head = styled_head(code, style)
    plain = plain_head(code)
    x, y, z = points.T
    without = type(head)(head.parameters, head.colors).field(x, y, z)
    torch.testing.assert_close(
        head.field(x, y, z), style.field(without, x, y, z, head.parameters), rtol=0, atol=0
    )
    inside, before = head.distance(points) < 0, plain.distance(points) < 0
    assert (inside != before).any()
