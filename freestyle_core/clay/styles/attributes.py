"""Attributes that combine with every style: "an old zombie with a red beard", "a smiling statue".

An attribute changes head parameters, colours or geometry on top of a style, or of the plain head.
Not every style can show every attribute: a marble statue can smile but has no red hair, a skull
can hardly do either; `TAKES` says which.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..heads.noise import Color, blend, smoothstep
from .characters import SHAVEN
from .fields import horns
from .materials import Texture
from .style import Geometry, Style

MOST_AT_ONCE = 2
FACE, SHAPE, COLOR = range(3)  # what a style must be able to show


@dataclass(frozen=True)
class Attribute:
    """One attribute: its words, before a noun or after it, and what it changes."""

    kind: int  # FACE, SHAPE or COLOR
    group: str  # two of one group are never asked for together
    before: tuple[str, ...] = ()  # "a {before} zombie"
    after: tuple[str, ...] = ()  # "a zombie {after}"
    parameters: dict[str, float] = field(default_factory=dict)
    palette: dict[str, Color] = field(default_factory=dict)  # only for styles that take COLOR
    beard: Color | None = None  # only for styles that take COLOR
    field: Geometry | None = None


def _hair(word: str, color: Color) -> Attribute:
    return Attribute(
        COLOR, "hair", (f"{word}-haired",), (f"with {word} hair",), palette={"hair": color}
    )


def _beard(word: str, color: Color) -> Attribute:
    return Attribute(COLOR, "beard", (), (f"with a {word} beard",), {"beard": 1.0}, {}, color)


def _eyes(word: str, color: Color) -> Attribute:
    return Attribute(
        COLOR, "eyes", (f"{word}-eyed",), (f"with {word} eyes",), palette={"iris": color}
    )


ATTRIBUTES: dict[str, Attribute] = {
    "smiling": Attribute(
        FACE,
        "mood",
        ("smiling", "happy", "laughing"),
        ("with a big smile",),
        {"smile": 1.8, "mouthw": 1.65, "browa": -0.1},
    ),
    "angry": Attribute(
        FACE,
        "mood",
        ("angry", "furious"),
        ("with an angry face",),
        {"smile": -0.9, "browa": 1.0, "browt": 1.6, "browh": -0.008, "eyelid": 0.25},
    ),
    "sad": Attribute(
        FACE,
        "mood",
        ("sad", "unhappy"),
        ("with a sad face",),
        {"smile": -1.1, "browa": -1.2, "browh": 0.018, "eyelid": 0.30},
    ),
    "old": Attribute(
        SHAPE,
        "age",
        ("old", "elderly"),
        (),
        {"hairline": 1.7, "cheek": 0.5, "eyelid": 0.36, "noset": 1.35, "ear": 1.35, "lip": 0.55},
        {"hair": (0.84, 0.84, 0.83)},
    ),
    "chubby": Attribute(
        SHAPE,
        "weight",
        ("chubby", "fat"),
        ("with fat cheeks",),
        {"width": 1.16, "cheek": 1.9, "jaw": 1.3, "chin": 1.4, "neck": 1.35},
    ),
    "bald": Attribute(
        SHAPE,
        "hair",
        ("bald",),
        ("without hair", "with a bald head"),
        {k: v for k, v in SHAVEN.items() if k != "beard"},
    ),
    "long hair": Attribute(
        SHAPE,
        "hair",
        ("long-haired",),
        ("with long hair",),
        {"hairlen": 0.95, "hairvol": 0.9, "hairline": 0.0},
    ),
    "beard": Attribute(
        SHAPE, "beard", ("bearded",), ("with a beard", "with a full beard"), {"beard": 1.0}
    ),
    "big nose": Attribute(
        SHAPE,
        "nose",
        ("big-nosed",),
        ("with a big nose",),
        {"nosel": 1.8, "nosew": 1.7, "noset": 1.8},
    ),
    "big eyes": Attribute(SHAPE, "eye size", (), ("with big eyes",), {"eye": 1.42, "eyelid": -0.1}),
    "pointed ears": Attribute(
        SHAPE, "ears", (), ("with pointed ears", "with elf ears"), {"eartip": 1.0}
    ),
    "horns": Attribute(SHAPE, "horns", ("horned",), ("with horns", "with two horns"), field=horns),
    "red hair": _hair("red", (0.78, 0.13, 0.05)),
    "blond hair": _hair("blond", (0.95, 0.80, 0.42)),
    "black hair": _hair("black", (0.06, 0.05, 0.06)),
    "white hair": _hair("white", (0.93, 0.93, 0.92)),
    "blue hair": _hair("blue", (0.12, 0.30, 0.90)),
    "green hair": _hair("green", (0.16, 0.66, 0.22)),
    "pink hair": _hair("pink", (0.97, 0.42, 0.68)),
    "red beard": _beard("red", (0.80, 0.15, 0.05)),
    "white beard": _beard("white", (0.93, 0.93, 0.92)),
    "black beard": _beard("black", (0.06, 0.05, 0.06)),
    "blue eyes": _eyes("blue", (0.10, 0.38, 0.95)),
    "green eyes": _eyes("green", (0.10, 0.70, 0.25)),
    "red eyes": _eyes("red", (0.90, 0.05, 0.05)),
    "yellow eyes": _eyes("yellow", (0.98, 0.80, 0.10)),
}

# what a style can show; styles that are not named here take everything
TAKES: dict[str, int] = dict.fromkeys(
    (
        "bronze statue",
        "marble statue",
        "gold",
        "ice",
        "wooden",
        "sand",
        "stone",
        "chocolate",
        "glass",
        "lava",
        "pencil sketch",
        "cyberpunk neon",
    ),
    SHAPE,
) | dict.fromkeys(
    ("robot", "plush", "toy brick", "skull", "alien", "mummy", "Santa Claus", "cat"), FACE
)


def takes(style: Style) -> int:
    """Return the highest kind of attribute that a style can show."""
    return TAKES.get(style.name, COLOR)


def with_attributes(style: Style, names: Sequence[str]) -> Style:
    """Return a style changed by the attributes that it can show, in the order given."""
    for name in names:
        attribute = ATTRIBUTES[name]
        if attribute.kind > takes(style):
            continue
        colors = attribute.palette if takes(style) == COLOR else {}
        style = replace(
            style,
            parameters={**style.parameters, **attribute.parameters},
            palette={**style.palette, **colors},
            texture=_dyed(style.texture, attribute.beard),
            field=_both(style.field, attribute.field),
        )
    return style


def _dyed(texture: Texture | None, color: Color | None) -> Texture | None:
    """Return the texture with the hair below the cheeks in `color`."""
    if color is None:
        return texture

    def dyed(q: Tensor, normals: Tensor, colors: Tensor, p: dict) -> Tensor:
        colors = texture(q, normals, colors, p) if texture else colors
        low = smoothstep(-0.02, -0.06, q[:, 1])
        before = smoothstep(-0.04, 0.0, q[:, 2]) * smoothstep(0.20, 0.16, q[:, 0].abs())
        hair = blend(colors[1], color, low * before)
        return torch.cat([colors[:1], hair[None], colors[2:]])

    return dyed


def _both(first: Geometry | None, second: Geometry | None) -> Geometry | None:
    if first is None or second is None:
        return first or second
    return lambda f, x, y, z, p: second(first(f, x, y, z, p), x, y, z, p)


def draw_attributes(style: Style, count: int, generator: torch.Generator) -> list[str]:
    """Return up to `count` random attributes that the style can show, of different groups."""
    possible = [name for name, a in ATTRIBUTES.items() if a.kind <= takes(style)]
    chosen: list[str] = []
    for i in torch.randperm(len(possible), generator=generator).tolist():
        used = {ATTRIBUTES[name].group for name in chosen}
        if len(chosen) < count and ATTRIBUTES[possible[i]].group not in used:
            chosen.append(possible[i])
    return chosen
