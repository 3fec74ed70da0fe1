"""Paint on the head's own colours: stains, stripes, masks, wrinkles, panels, bandages.

A paint is `(q [N,3], normals [N,3], c [N,3], p) -> c` on one material; `painted` joins paints, one
per material, into a texture hook. Places on the face are written in head coordinates: the eyes at
x = 0.079, y = 0.02, the mouth at y = -0.118, the tip of the nose at y = -0.045, z = 0.22.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..heads.noise import Color, Look, blend, fractal_noise, rgb, smoothstep, value_noise
from .materials import Texture

Paint = Callable[[Tensor, Tensor, Tensor, dict], Tensor]
ROWS = {"skin": 0, "hair": 1, "cloth": 2, "eye": 3, "brow": 4, "lip": 5}


def painted(**paints: Paint) -> Texture:
    """Return a texture that applies each paint to the material it is named after."""

    def texture(q: Tensor, normals: Tensor, colors: Tensor, p: dict) -> Tensor:
        rows = list(colors.unbind(0))
        for name, paint in paints.items():
            rows[ROWS[name]] = paint(q, normals, rows[ROWS[name]], p)
        return torch.stack([row.expand(len(q), 3) for row in rows])

    return texture


def layers(*paints: Paint) -> Paint:
    """Return one paint that applies several in order."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        for layer in paints:
            c = layer(q, normals, c, p)
        return c

    return paint


def solid_color(color: Color) -> Paint:
    """Return a paint that covers everything with one colour."""
    return lambda q, normals, c, p: rgb(color, q).expand(len(q), 3)


def front(q: Tensor) -> Tensor:
    """Return 1 on the face side of the head and 0 behind, [N]."""
    return (q[:, 2] > 0.05).to(q.dtype)


def blotches(
    color: Color,
    frequency: float,
    look: Look,
    *,
    low: float = 0.45,
    high: float = 0.6,
    amount: float = 0.7,
    seed: float = 3.0,
) -> Paint:
    """Return irregular stains of a colour where the noise is above a level."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        mask = smoothstep(low, high, fractal_noise(look.place(q), frequency, 3, seed))
        return blend(c, color, (amount * look.strength * mask).clamp(0, 1))

    return paint


def eye_rings(color: Color, look: Look, *, amount: float = 0.8, radius: float = 0.062) -> Paint:
    """Return dark rings around the eyes."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        x = q[:, 0].abs() / p["width"] - 0.079 * p["eyesep"]
        distance = (x**2 + (q[:, 1] - 0.018) ** 2) / radius**2
        mask = torch.exp(-(distance**1.5)) * front(q)
        return blend(c, color, (amount * look.strength * mask).clamp(0, 1))

    return paint


def stripes(look: Look) -> Paint:
    """Return darker wavy stripes, faint in the middle of the face."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        side = q[:, 0].abs()
        bend = 6 * value_noise(look.place(q), 9.0) + side * 60
        wave = torch.sin(q[:, 1] * 95 * look.scale + bend)
        amount = smoothstep(0.45, 0.75, wave) * (0.35 + 0.65 * smoothstep(0.06, 0.13, side))
        return c * (1 - (0.42 * look.strength * amount).clamp(0, 1))[:, None]

    return paint


def freckles(color: Color, look: Look, frequency: float = 75.0) -> Paint:
    """Return small bright dots on the face."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        dots = smoothstep(0.88, 0.93, value_noise(look.place(q), frequency, 2.0))
        return blend(c, color, dots * 0.85 * (q[:, 2] > 0.06).to(q.dtype))

    return paint


def grain(look: Look, frequency: float, amount: float) -> Paint:
    """Return the colour made uneven by fine noise."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        return c * (1 + amount * (value_noise(look.place(q), frequency) - 0.5))[:, None]

    return paint


def spots(color: Color, look: Look, frequency: float = 75.0) -> Paint:
    """Return a regular pattern of spots, as on a clown's collar."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        x = q[:, 0] + 0.1 * look.offset[0]
        wave = torch.sin(x * frequency) * torch.sin(q[:, 1] * frequency)
        return blend(c, color, (wave > 0.35).to(q.dtype))

    return paint


def hem(color: Color, level: float, width: float) -> Paint:
    """Return a band of colour around the collar; an infinite width colours all above the level."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        height = q[:, 1] + 0.12 * (q[:, 2] + 0.045) - level
        inside = (height > 0) & (height < width)
        return blend(c, color, inside.to(q.dtype))

    return paint


def clown_face(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
    """Return white skin with a red nose, a red mouth and blue diamonds over the eyes."""
    side = q[:, 0].abs()
    face = (q[:, 2] > 0.08).to(q.dtype)
    mouth = ((side / 0.088) ** 2 + ((q[:, 1] + 0.118 - side * side * 5) / 0.040) ** 2).sqrt()
    c = blend(c, (0.90, 0.10, 0.10), smoothstep(1.05, 0.9, mouth) * face)
    diamond = (side - 0.079).abs() / 0.026 + (q[:, 1] - 0.03).abs() / 0.098
    c = blend(c, (0.12, 0.38, 0.92), smoothstep(1.05, 0.9, diamond) * face)
    nose = (q - rgb((0, -0.045, 0.19 + 0.03 * p["nosel"]), q)).norm(dim=-1)
    return blend(c, (0.92, 0.07, 0.07), smoothstep(0.046, 0.041, nose))


def wrinkles(look: Look) -> Paint:
    """Return lines on the forehead, at eyes and mouth, bags under the eyes, and age spots."""
    age_spots = blotches((0.55, 0.36, 0.26), 30.0, look, low=0.56, high=0.64, amount=0.5)

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        x, y = q[:, 0].abs(), q[:, 1]
        lines = torch.sin((y - 0.5 * x * x) * 330).clamp_min(0) * smoothstep(0.085, 0.10, y)
        lines = lines * smoothstep(0.150, 0.135, y) * smoothstep(0.12, 0.08, x)
        crow = torch.sin(torch.atan2(y - 0.02, x - 0.10) * 16).clamp_min(0)
        crow = crow * torch.exp(-((x - 0.135) ** 2 + (y - 0.02) ** 2) / 0.0009)
        fold_at = 0.045 + 0.55 * (-0.045 - y).clamp(0, 0.09)
        fold = torch.exp(-(((x - fold_at) / 0.006) ** 2)) * ((y < -0.04) & (y > -0.13))
        bag_at = -0.035 + 6 * (x - 0.079) ** 2
        bag = torch.exp(-(((y - bag_at) / 0.005) ** 2)) * ((x - 0.079).abs() < 0.045)
        depth = (0.6 * lines + 0.8 * crow + 1.2 * fold + 0.8 * bag) * front(q)
        c = c * (1 - (0.36 * look.strength * depth).clamp(0, 0.7))[:, None]
        return age_spots(q, normals, c, p)

    return paint


def muzzle(color: Color, center: Color, radius: Color) -> Paint:
    """Return a pale ellipsoid of colour, as on an animal's muzzle."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        inside = ((q - rgb(center, q)) / rgb(radius, q)).norm(dim=-1)
        return blend(c, color, smoothstep(1.0, 0.88, inside))

    return paint


def panels(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
    """Return steel divided by dark panel lines."""
    side, y = (q[:, 0].abs() - 0.115).abs(), q[:, 1]
    line = torch.minimum(side, torch.minimum((y + 0.075).abs(), (y - 0.115).abs()))
    plate = rgb((0.62, 0.66, 0.72), q).expand(len(q), 3)
    return plate * (0.28 + 0.72 * smoothstep(0.002, 0.005, line))[:, None]


def bandages(look: Look) -> Paint:
    """Return crossing strips of old linen with dark gaps, open over the eyes."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        at = look.place(q)
        bend = 0.25 * q[:, 0] + 0.12 * torch.sin(q[:, 2] * 9 + 4 * look.offset[0])
        turn = (q[:, 1] + bend + 0.012 * value_noise(at, 12.0)) * 19 * look.scale + look.offset[1]
        strip, within = turn.floor(), turn - turn.floor()
        shade = 0.86 + 0.2 * torch.sin(strip * 2.4 + 1) * 0.5 + 0.16 * within
        linen = rgb((0.90, 0.82, 0.64), q) * (shade * (0.9 + 0.2 * value_noise(at, 170.0)))[:, None]
        gap = smoothstep(0.16, 0.03, within)
        linen = blend(linen, (0.20, 0.14, 0.09), (0.9 * gap * look.strength).clamp(0, 1))
        slit = ((q[:, 1] - 0.022) / 0.050).abs() ** 3 + (q[:, 0].abs() / 0.15) ** 6
        return blend(linen, (0.13, 0.10, 0.08), smoothstep(1.2, 0.8, slit) * front(q))

    return paint


def bone(look: Look) -> Paint:
    """Return bone with black hollows and a row of teeth."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        x, y, z = q.unbind(-1)
        at = look.place(q)
        c = rgb((0.92, 0.87, 0.74), q) * (0.82 + 0.3 * fractal_noise(at, 18.0))[:, None]
        sockets = ((x.abs() - 0.078) / 0.055) ** 2 + ((y - 0.018) / 0.051) ** 2
        hole = ((x.abs() - 0.012) / 0.016) ** 2 + ((y + 0.045) / 0.031) ** 2
        dark = smoothstep(1.08, 0.85, torch.minimum(sockets, hole)) * (z > 0.04)
        teeth = ((x / 0.078) ** 2 + ((y + 0.118) / 0.034) ** 4) < 1
        gap = smoothstep(0.55, 0.9, torch.cos(x * 165).abs().clamp(0, 1))
        gap = torch.maximum(gap, smoothstep(0.005, 0.003, (y + 0.118).abs()))
        row = blend(rgb((0.98, 0.95, 0.86), q).expand_as(c), (0.16, 0.11, 0.08), gap)
        c = torch.where((teeth & (z > 0.06))[:, None], row, c)
        return blend(c, (0.03, 0.02, 0.02), dark)

    return paint


def scars(look: Look) -> Paint:
    """Return a stitched scar across the forehead and one down a cheek."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        x, y = q[:, 0], q[:, 1]
        shift = 0.02 * torch.sin(q.new_tensor(9.0 * look.offset[0]))
        top, slide = y - 0.128 - 0.15 * (x - shift), x - shift
        cheek, down = x + 0.125 + 0.2 * (y + 0.06), y + 0.065
        seam = ((top.abs() < 0.005) & (slide.abs() < 0.085)) | (
            (cheek.abs() < 0.005) & (down.abs() < 0.06)
        )
        knots = ((top.abs() < 0.017) & (slide.abs() < 0.085) & (torch.sin(x * 210) > 0.72)) | (
            (cheek.abs() < 0.017) & (down.abs() < 0.06) & (torch.sin(y * 210) > 0.72)
        )
        return blend(c, (0.24, 0.10, 0.10), ((seam | knots).to(q.dtype)) * front(q))

    return paint


def slit_pupils(iris: Color) -> Paint:
    """Return a cat's eye: all iris, with an upright slit."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        radius = 0.047 * p["eye"]
        x = (q[:, 0].abs() / p["width"] - 0.079 * p["eyesep"]) / radius + 0.08
        y = (q[:, 1] - 0.022) / radius
        slit = smoothstep(1.15, 0.85, (x / 0.22) ** 2 + (y / 0.72) ** 2)
        edge = smoothstep(0.72, 0.95, (x * x + y * y).sqrt())
        eye = blend(rgb(iris, q).expand(len(q), 3), (0.22, 0.20, 0.05), edge)
        return blend(eye, (0.02, 0.02, 0.02), slit)

    return paint


def blue_flowers(look: Look) -> Paint:
    """Return white glaze with cobalt ornaments, as on china."""

    def paint(q: Tensor, normals: Tensor, c: Tensor, p: dict) -> Tensor:
        at = look.place(q)
        x, y, z = at.unbind(-1)
        petals = torch.sin(x * 62) * torch.sin(y * 62 + 2 * torch.sin(x * 21))
        flower = smoothstep(0.45, 0.6, petals * torch.cos(z * 40))
        vine = smoothstep(0.16, 0.08, torch.sin(y * 40 + 2.2 * torch.sin(x * 38)).abs())
        mask = torch.maximum(flower, vine * 0.8)
        return blend(c, (0.10, 0.22, 0.68), (mask * look.strength).clamp(0, 1))

    return paint
