"""The named styles the clay editor learns, each a change of shape, colour, light or picture.

`STYLES` maps a name to its `Style`, whose hooks the renderer calls. A style is built from a `Look`,
so `jitter_style` builds the same style again a little differently: real editors disagree from view
to view, and the pipeline's work is to make that consistent.

Where to look: `style_record` (what a style is), `characters`, `materials` (statues and light),
`face_paint` (paint on the head's colours), `style_fields` (extra geometry), `filters` (painting
techniques).
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from ...errors import InputError
from ..heads.noise import Color, Look, recolor
from . import characters, filters, materials
from . import fields as style_fields
from .materials import Post, Texture
from .style import PLAIN, WHITE, Geometry, Style

__all__ = ["PARAMETER_JITTER", "STYLES", "Style", "jitter_style", "random_look"]

# Random shifts of the head from picture to picture: standard deviations, in parameter units. Small,
# since they move what tells one head from another: three times as much, with stronger changes of
# colour and material, left a perfect edit 22.5 dB from the style itself.
PARAMETER_JITTER = {
    "smile": 0.045,
    "eyelid": 0.008,
    "browa": 0.03,
    "browh": 0.001,
    "eye": 0.006,
    "mouthw": 0.011,
    "lip": 0.016,
    "hairvol": 0.022,
    "jaw": 0.006,
    "width": 0.0025,
    "cheek": 0.02,
    "noset": 0.01,
}


# --- materials ---


def _statue(
    name: str,
    texture: Texture,
    post: Post | None = None,
    *,
    palette: dict[str, Color | float] | None = None,
    field: Geometry | None = None,
) -> Style:
    eyes: dict[str, Color | float] = dict(
        sclera=WHITE, iris=(0.30, 0.30, 0.30), glint=0.0, blush_strength=0.0
    )
    return Style(name, palette=eyes | (palette or {}), texture=texture, post=post, field=field)


def _bronze(look: Look) -> Style:
    post = materials.metal(
        (0.07, 0.035, 0.015), (0.40, 0.22, 0.09), (0.86, 0.60, 0.32), look, (0.22, 0.56, 0.46)
    )
    return _statue("bronze statue", materials.statue(materials.plain(WHITE)), post)


def _gold(look: Look) -> Style:
    post = materials.metal((0.34, 0.16, 0.01), (0.94, 0.64, 0.08), (1.0, 0.94, 0.50), look)
    return _statue("gold", materials.statue(materials.plain(WHITE), hair=0.9), post)


def _marble(look: Look) -> Style:
    texture = materials.statue(materials.marble(look), hair=0.93, brow=0.75)
    return _statue("marble statue", texture, palette=dict(gloss=1.2))


def _stone(look: Look) -> Style:
    texture = materials.statue(materials.stone(look), hair=0.85)
    return _statue("stone", texture, palette=dict(gloss=0.0), field=style_fields.chisel)


def _wooden(look: Look) -> Style:
    return _statue("wooden", materials.statue(materials.wood(look), hair=0.75))


def _sand(look: Look) -> Style:
    return _statue("sand", materials.statue(materials.sand(look)), palette=dict(gloss=0.0))


def _ice(look: Look) -> Style:
    texture = materials.statue(materials.plain(WHITE), hair=0.9, carve=0.1)
    return _statue("ice", texture, materials.ice(look))


def _glass(look: Look) -> Style:
    texture = materials.statue(materials.plain(WHITE), carve=0.1)
    return _statue("glass", texture, materials.glass(look))


def _chocolate(look: Look) -> Style:
    return _statue("chocolate", materials.chocolate(look), materials.chocolate_gloss)


def _lava(look: Look) -> Style:
    texture = materials.statue(materials.plain((0.17, 0.13, 0.13)), hair=0.7, brow=0.6)
    return _statue(
        "lava", texture, materials.lava(look), palette=dict(gloss=0.4), field=style_fields.chisel
    )


# --- light and painting techniques ---


def _neon(look: Look) -> Style:
    return Style(
        "cyberpunk neon",
        dict(hairlen=0.4, quiff=0.6, beard=-2.4),
        dict(hair=(0.85, 0.30, 0.90), cloth=(0.25, 0.25, 0.30), iris=(0.2, 0.9, 0.9)),
        post=materials.neon(look),
    )


def _filter(name: str, image_filter: filters.ImageFilter) -> Style:
    return Style(name, image_filter=image_filter, consistent_3d=False)


_BUILDERS: dict[str, Callable[[Look], Style]] = {
    "zombie": characters.zombie,
    "bronze statue": _bronze,
    "marble statue": _marble,
    "Na'vi": characters.navi,
    "elf": characters.elf,
    "clown": characters.clown,
    "vampire": characters.vampire,
    "gold": _gold,
    "ice": _ice,
    "wooden": _wooden,
    "sand": _sand,
    "pixel art": lambda look: _filter("pixel art", filters.pixel_art(look)),
    "pencil sketch": lambda look: _filter("pencil sketch", filters.pencil_sketch(look)),
    "robot": characters.robot,
    "plush": characters.plush,
    "Hulk": characters.hulk,
    "old person": characters.old,
    "child": characters.child,
    "cyberpunk neon": _neon,
    "stone": _stone,
    "chocolate": _chocolate,
    "glass": _glass,
    "watercolor": lambda look: _filter("watercolor", filters.watercolor(look)),
    "toy brick": characters.toy_brick,
    "devil": characters.devil,
    "skull": characters.skull,
    "alien": characters.alien,
    "mummy": characters.mummy,
    "Santa Claus": characters.santa,
    "Frankenstein's monster": characters.monster,
    "porcelain doll": characters.doll,
    "cat": characters.cat,
    "pirate": characters.pirate,
    "lava": _lava,
}

STYLES: dict[str, Style] = {name: build(Look()) for name, build in _BUILDERS.items()}


# --- variation from picture to picture ---


def random_look(generator: torch.Generator) -> Look:
    """Return a small variation: a piece of the material nearby, slightly other colours."""
    u = (torch.rand(8, generator=generator, dtype=torch.float64) * 2 - 1).tolist()
    return Look(
        offset=(0.15 * u[0], 0.15 * u[1], 0.15 * u[2]),
        scale=1.0 + 0.05 * u[3],
        strength=1.0 + 0.08 * u[4],
        hue=0.006 * u[5],
        brightness=1.0 + 0.03 * u[6],
        saturation=1.0 + 0.05 * u[7],
    )


def jitter_style(style: Style, generator: torch.Generator) -> Style:
    """Return the style as an editor might draw it once more: recognisable, but not the same.

    Noise is read elsewhere, colours and expression move a little. Equal generators (on the CPU)
    give equal styles.
    """
    if style.name not in _BUILDERS and style is not PLAIN:
        raise InputError(
            f"jitter_style knows the styles of STYLES, got {style.name!r}; add a builder for it"
        )
    look = random_look(generator)
    drawn = PLAIN if style is PLAIN else _BUILDERS[style.name](look)
    noise = torch.randn(len(PARAMETER_JITTER), generator=generator, dtype=torch.float64)
    shifts = {
        name: sigma * float(n)
        for (name, sigma), n in zip(PARAMETER_JITTER.items(), noise.clamp(-2, 2), strict=True)
    }
    return replace(drawn, post=_recolored(drawn.post, look), shifts=shifts, look=look)


def _recolored(post: Post | None, look: Look) -> Post:
    def apply(q, normals, c, albedo, ao, w, specular):
        if post is not None:
            c = post(q, normals, c, albedo, ao, w, specular)
        return recolor(c, look)

    return apply
