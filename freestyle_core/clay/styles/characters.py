"""Characters: styles that change who the head is, by its parameters, colours, paint and geometry.

Each function builds one style as a `Look` asks for it. What a style does not name (nose, width, eye
distance, often hair or clothes) stays the identity's own, so two heads give two zombies.
"""

from ..heads.noise import Look
from . import face_paint as paint
from . import fields as style_fields
from . import materials
from .style import Style

SHY = {"beard": -2.4, "bun": -1.2, "quiff": -0.8}  # no beard, no bun, no quiff
SHAVEN = {**SHY, "hairlen": -0.45, "hairvol": 0.0, "hairwave": 0.0}


def zombie(look: Look) -> Style:
    skin = paint.layers(
        paint.blotches((0.38, 0.47, 0.26), 11.0, look, amount=0.6),
        paint.eye_rings((0.16, 0.11, 0.15), look, amount=0.9),
        paint.blotches((0.45, 0.10, 0.08), 14.0, look, low=0.58, high=0.63, amount=0.9, seed=11.0),
    )
    return Style(
        "zombie",
        SHY | dict(eyelid=0.28, smile=-0.5, hairlen=-0.1, hairwave=0.9, hairvol=0.5, cheek=0.35,
                   browa=-0.7, mouthw=1.2),
        dict(skin=(0.70, 0.80, 0.48), lip=(0.28, 0.17, 0.18), sclera=(0.93, 0.90, 0.55),
             iris=(0.72, 0.72, 0.60), hair=(0.16, 0.15, 0.12), cloth=(0.33, 0.28, 0.22),
             blush_strength=0.0, gloss=0.5),
        paint.painted(skin=skin, cloth=paint.blotches((0.17, 0.11, 0.08), 12.0, look)),
    )  # fmt: skip


def navi(look: Look) -> Style:
    skin = paint.layers(paint.stripes(look), paint.freckles((0.80, 1.0, 1.0), look))
    return Style(
        "Na'vi",
        SHY | dict(eartip=0.8, ear=1.0, eye=1.38, nosew=1.5, noset=1.3, hairlen=0.9, hairvol=0.4,
                   neck=0.8, eyesep=1.1, width=0.93, headh=1.08, browt=0.6, hairline=-0.5,
                   hairwave=0.1),
        dict(skin=(0.22, 0.50, 0.88), lip=(0.30, 0.28, 0.66), iris=(0.98, 0.80, 0.10),
             hair=(0.07, 0.06, 0.09), cloth=(0.45, 0.30, 0.18), blush=(0.30, 0.30, 0.75)),
        paint.painted(skin=skin),
    )  # fmt: skip


def elf(look: Look) -> Style:
    return Style(
        "elf",
        SHY | dict(eartip=1.0, hairlen=0.85, jaw=0.75, width=0.92, browa=-0.2, smile=0.7,
                   hairwave=0.1, noset=0.75, hairline=0.2),
        dict(skin=(0.99, 0.86, 0.76), hair=(0.95, 0.82, 0.46), iris=(0.15, 0.60, 0.28),
             cloth=(0.12, 0.42, 0.16)),
        paint.painted(cloth=paint.hem((0.90, 0.74, 0.25), -0.326, 0.014)),
    )  # fmt: skip


def clown(look: Look) -> Style:
    return Style(
        "clown",
        SHY | dict(hairlen=0.25, hairvol=1.7, hairwave=1.2, hairline=-0.8, smile=1.5, mouthw=1.5,
                   lip=1.8, eye=1.05),
        dict(skin=(0.98, 0.97, 0.96), lip=(0.80, 0.05, 0.06), hair=(0.97, 0.34, 0.04),
             cloth=(0.98, 0.82, 0.10), blush=(1.0, 0.5, 0.5)),
        paint.painted(skin=paint.clown_face, cloth=paint.spots((0.85, 0.10, 0.15), look)),
        field=style_fields.clown_nose,
    )  # fmt: skip


def vampire(look: Look) -> Style:
    return Style(
        "vampire",
        SHY | dict(hairlen=-0.05, hairvol=0.25, hairline=0.75, hairwave=0.0, eyelid=0.25, browa=0.5,
                   browt=1.0, eartip=0.4, cheek=0.4, jaw=0.85, smile=0.5, part=0.0, mouthw=1.3),
        dict(skin=(0.88, 0.87, 0.91), lip=(0.55, 0.03, 0.07), iris=(0.92, 0.05, 0.05),
             hair=(0.05, 0.05, 0.06), cloth=(0.10, 0.08, 0.10), blush_strength=0.0),
        paint.painted(
            skin=paint.eye_rings((0.42, 0.22, 0.36), look, amount=0.75),
            cloth=paint.hem((0.70, 0.03, 0.06), -0.342, 1.0),
        ),
        field=style_fields.fangs,
    )  # fmt: skip


def hulk(look: Look) -> Style:
    return Style(
        "Hulk",
        SHY | dict(jaw=1.4, chin=1.6, width=1.12, browt=1.7, browa=0.75, browh=-0.012, neck=1.5,
                   nosew=1.45, noset=1.3, smile=-0.7, hairlen=-0.1, hairvol=0.5, hairwave=0.5,
                   eye=0.85, mouthw=1.3),
        dict(skin=(0.30, 0.64, 0.16), lip=(0.22, 0.42, 0.14), hair=(0.06, 0.07, 0.05),
             cloth=(0.42, 0.16, 0.62), blush=(0.2, 0.5, 0.1), iris=(0.35, 0.6, 0.2)),
        paint.painted(skin=paint.grain(look, 28.0, 0.3)),
    )  # fmt: skip


def old(look: Look) -> Style:
    return Style(
        "old person",
        dict(hairline=1.8, hairvol=0.6, hairwave=0.6, eyelid=0.36, cheek=0.5, noset=1.35, nosel=1.3,
             ear=1.35, lip=0.55, browt=1.5, quiff=-0.8, bun=-1.2, hairlen=-0.05),
        dict(hair=(0.88, 0.88, 0.87), cloth=(0.45, 0.38, 0.30)),
        paint.painted(skin=paint.wrinkles(look)),
    )  # fmt: skip


def child(look: Look) -> Style:
    return Style(
        "child",
        dict(eye=1.36, jaw=0.62, chin=0.4, cheek=1.6, nosel=0.35, noset=0.62, nosew=0.7, width=1.05,
             headh=1.05, neck=0.68, browt=0.55, mouthw=0.85, eyelid=-0.1, smile=1.3, beard=-2.4,
             ear=1.05, browh=0.02, lip=0.75),
        dict(blush_strength=1.6),
    )  # fmt: skip


def robot(look: Look) -> Style:
    return Style(
        "robot",
        SHAVEN | dict(ear=0.5),
        dict(hair=(0.95, 0.30, 0.08), blush_strength=0.0),
        paint.painted(
            skin=paint.panels,
            hair=paint.solid_color((0.30, 0.33, 0.38)),
            cloth=paint.solid_color((0.28, 0.30, 0.36)),
            brow=paint.solid_color((0.98, 0.33, 0.06)),
            lip=paint.solid_color((0.18, 0.20, 0.24)),
        ),
        materials.steel(look),
        field=style_fields.robot,
    )


def plush(look: Look) -> Style:
    pale = paint.muzzle((0.97, 0.88, 0.72), (0, -0.09, 0.19), (0.09, 0.07, 0.085))
    inner_ear = paint.layers(
        paint.muzzle((0.97, 0.70, 0.62), (0.172, 0.24, 0.005), (0.05, 0.05, 0.04)),
        paint.muzzle((0.97, 0.70, 0.62), (-0.172, 0.24, 0.005), (0.05, 0.05, 0.04)),
    )
    fluff = paint.grain(look, 130.0, 0.5)
    return Style(
        "plush",
        SHAVEN | dict(noset=0.8, nosel=0.75, lip=0.6, smile=1.2, mouthw=0.9, eyelid=-0.2, ear=0.4,
                      eye=0.8, width=1.08, cheek=1.5, chin=0.6),
        dict(skin=(0.76, 0.51, 0.29), hair=(0.62, 0.40, 0.22), lip=(0.22, 0.10, 0.08),
             blush_strength=0.0, gloss=0.0),
        paint.painted(
            skin=paint.layers(inner_ear, pale, fluff), hair=fluff,
            cloth=paint.grain(look, 120.0, 0.4),
            eye=paint.solid_color((0.04, 0.03, 0.03)), brow=paint.solid_color((0.07, 0.05, 0.05)),
        ),
        field=style_fields.fur,
    )  # fmt: skip


def toy_brick(look: Look) -> Style:
    black = (0.04, 0.04, 0.04)
    return Style(
        "toy brick",
        SHY | dict(smile=0.0, hairvol=0.6, hairwave=0.0, width=1.0, eye=1.0, hairlen=0.0,
                   hairline=0.5),
        dict(skin=(1.0, 0.80, 0.08), lip=(0.12, 0.05, 0.03), hair=(0.32, 0.15, 0.06),
             cloth=(0.82, 0.08, 0.08), blush_strength=0.0, gloss=2.0),
        paint.painted(eye=paint.solid_color(black), brow=paint.solid_color((0.15, 0.07, 0.03))),
        field=style_fields.toy_brick,
    )  # fmt: skip


def devil(look: Look) -> Style:
    return Style(
        "devil",
        SHY | dict(eartip=0.7, browa=0.85, browt=1.3, smile=1.0, jaw=0.85, chin=1.4, hairlen=-0.1,
                   hairvol=0.2, hairline=0.6, hairwave=0.0, eyelid=0.2, mouthw=1.4),
        dict(skin=(0.84, 0.10, 0.07), lip=(0.36, 0.02, 0.03), hair=(0.07, 0.04, 0.05),
             iris=(1.0, 0.78, 0.05), sclera=(1.0, 0.93, 0.60), cloth=(0.12, 0.05, 0.06),
             blush=(0.6, 0.0, 0.0)),
        paint.painted(
            skin=paint.eye_rings((0.30, 0.0, 0.02), look, amount=0.7),
            brow=paint.solid_color((0.13, 0.08, 0.08)),
        ),
        field=style_fields.horns,
    )  # fmt: skip


def skull(look: Look) -> Style:
    return Style(
        "skull",
        SHAVEN | dict(width=1.0, ear=0.6, jaw=0.8, cheek=1.1, smile=0.4, nosel=0.4, noset=0.6,
                      nosew=0.7, neck=0.6, eyesep=1.0, eye=1.0, eyelid=-0.1),
        dict(blush_strength=0.0, gloss=0.4, cloth=(0.16, 0.15, 0.18)),
        paint.painted(skin=paint.bone(look)),
        field=style_fields.skull,
    )  # fmt: skip


def alien(look: Look) -> Style:
    return Style(
        "alien",
        SHAVEN | dict(width=1.0, jaw=0.45, chin=0.35, cheek=0.3, eye=0.8, nosel=0.2, noset=0.4,
                      nosew=0.6, ear=0.3, smile=0.1, mouthw=0.55, lip=0.5, neck=0.55, eyesep=1.0),
        dict(skin=(0.68, 0.66, 0.84), lip=(0.48, 0.42, 0.62), cloth=(0.62, 0.64, 0.70),
             blush=(0.50, 0.45, 0.80), gloss=2.0, glint=0.0),
        paint.painted(
            skin=paint.blotches((0.50, 0.48, 0.74), 10.0, look, amount=0.5),
            eye=paint.solid_color((0.02, 0.02, 0.04)),
        ),
        field=style_fields.alien,
    )  # fmt: skip


def mummy(look: Look) -> Style:
    return Style(
        "mummy",
        SHAVEN | dict(ear=0.5, eyelid=0.2, noset=0.8, nosel=0.7, smile=0.0, cheek=0.5),
        dict(sclera=(0.98, 0.93, 0.60), iris=(0.55, 0.12, 0.05), blush_strength=0.0, gloss=0.0),
        paint.painted(skin=paint.bandages(look), cloth=paint.bandages(look)),
        field=style_fields.bald,
    )


def santa(look: Look) -> Style:
    white = (0.97, 0.97, 0.96)
    return Style(
        "Santa Claus",
        dict(beard=1.0, bun=-1.2, quiff=-0.8, hairlen=0.0, hairvol=0.3, hairwave=0.6, cheek=1.4,
             noset=1.3, smile=1.0, browt=1.7, hairline=0.6),
        dict(hair=white, cloth=(0.84, 0.06, 0.08), blush_strength=1.7),
        paint.painted(brow=paint.solid_color(white), hair=paint.grain(look, 60.0, 0.18)),
        field=style_fields.santa,
    )  # fmt: skip


def monster(look: Look) -> Style:
    return Style(
        "Frankenstein's monster",
        SHY | dict(width=1.05, jaw=1.25, chin=1.3, eyelid=0.34, browt=1.4, browa=0.1, browh=-0.01,
                   hairlen=-0.05, hairvol=0.3, hairline=-0.6, hairwave=0.0, part=0.0, smile=-0.3,
                   neck=1.15, eye=0.95),
        dict(skin=(0.66, 0.80, 0.70), lip=(0.36, 0.34, 0.36), hair=(0.05, 0.05, 0.06),
             cloth=(0.20, 0.17, 0.15), blush_strength=0.0, iris=(0.35, 0.30, 0.2)),
        paint.painted(
            skin=paint.layers(
                paint.eye_rings((0.28, 0.32, 0.36), look, amount=0.7), paint.scars(look)
            )
        ),
        field=style_fields.monster,
    )  # fmt: skip


def doll(look: Look) -> Style:
    return Style(
        "porcelain doll",
        SHY | dict(eye=1.28, jaw=0.72, chin=0.6, cheek=1.4, nosel=0.6, noset=0.7, nosew=0.75,
                   mouthw=0.75, lip=1.3, smile=0.6, browt=0.55, eyelid=0.0, hairlen=0.55,
                   hairwave=0.7, hairvol=1.0, neck=0.72, hairline=0.0),
        dict(skin=(1.0, 0.955, 0.93), lip=(0.85, 0.05, 0.16), hair=(0.20, 0.08, 0.04),
             iris=(0.15, 0.40, 0.85), blush=(1.0, 0.38, 0.50), blush_strength=2.0, gloss=3.5,
             cloth=(0.95, 0.95, 0.97)),
        paint.painted(cloth=paint.blue_flowers(look)),
    )  # fmt: skip


def cat(look: Look) -> Style:
    skin = paint.layers(
        paint.stripes(look),
        paint.muzzle((0.99, 0.95, 0.88), (0, -0.105, 0.18), (0.095, 0.06, 0.09)),
        paint.grain(look, 110.0, 0.25),
    )
    return Style(
        "cat",
        SHAVEN | dict(width=1.08, eye=1.25, nosel=0.5, noset=0.7, nosew=0.7, ear=0.3, lip=0.5,
                      mouthw=0.7, smile=1.2, browt=0.5, eyelid=0.0, cheek=1.5, chin=0.5),
        dict(skin=(0.95, 0.58, 0.22), lip=(0.85, 0.42, 0.45), cloth=(0.20, 0.45, 0.65),
             blush_strength=0.0, gloss=0.2),
        paint.painted(
            skin=skin,
            eye=paint.slit_pupils((0.70, 0.85, 0.18)),
            brow=paint.solid_color((0.10, 0.07, 0.05)),
        ),
        field=style_fields.cat,
    )  # fmt: skip


def pirate(look: Look) -> Style:
    return Style(
        "pirate",
        dict(beard=0.8, bun=-1.2, quiff=-0.8, hairlen=0.15, hairvol=0.3, hairwave=0.6, browt=1.4),
        dict(cloth=(0.78, 0.09, 0.09), hair=(0.16, 0.10, 0.07)),
        paint.painted(
            cloth=paint.spots((0.97, 0.95, 0.90), look), brow=paint.solid_color((0.07, 0.06, 0.06))
        ),
        field=style_fields.pirate,
    )
