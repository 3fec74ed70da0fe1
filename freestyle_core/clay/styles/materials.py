"""Statues: a head made of one material, from a solid texture and a way of catching light.

A texture hook is `(q [N,3], normals [N,3], colors [6,N,3], p) -> colors`; a post hook is
`(q, normals, c [N,3], albedo [N,3], ao [N,1], w [6,N], specular [N]) -> c`, run after the lighting.
Highlights and reflections depend on the normal only, never on the view, so that every camera sees
the same colour at a point: EG3D's decoder knows no view direction.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..heads.noise import (
    Color,
    Look,
    blend,
    fractal_noise,
    key_light,
    ramp,
    rgb,
    smoothstep,
    value_noise,
    veins,
)

Texture = Callable[[Tensor, Tensor, Tensor, dict], Tensor]
Post = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
Solid = Callable[[Tensor, Tensor], Tensor]  # (points, normals) -> colours [N, 3]


def statue(solid: Solid, *, hair: float = 0.8, brow: float = 0.55, carve: float = 0.2) -> Texture:
    """Return a texture that makes every part of one solid, with the iris carved dark.

    `hair` and `brow` darken these parts; `carve` is what is left of the colour in a black pupil.
    """

    def texture(q: Tensor, normals: Tensor, colors: Tensor, p: dict) -> Tensor:
        base = solid(q, normals)
        eye = base * (carve + (1 - carve) * colors[3].mean(-1, keepdim=True))
        return torch.stack([base, base * hair, base * 0.9, eye, base * brow, base * 0.82])

    return texture


def plain(color: Color) -> Solid:
    """Return a solid of one colour."""
    return lambda q, normals: rgb(color, q).expand(len(q), 3)


def marble(look: Look) -> Solid:
    """Return white marble with thin dark veins."""

    def solid(q: Tensor, normals: Tensor) -> Tensor:
        at = look.place(q)
        cloud = ramp((0.90, 0.90, 0.91), (1.0, 0.99, 0.97), fractal_noise(at, 5.0))
        streak = at * rgb((1.0, 0.55, 1.0), q) + rgb((0.5, 0.0, 0.0), q) * at[:, 1:2]
        thick = veins(streak, 3.2, 0.024, 3.0) * 0.8 * look.strength
        fine = veins(streak, 5.5, 0.012, 11.0) * 0.35 * look.strength
        return blend(cloud, (0.22, 0.24, 0.29), torch.maximum(thick, fine).clamp(0, 1))

    return solid


def stone(look: Look) -> Solid:
    """Return rough grey-brown rock with dark cracks and pale specks."""

    def solid(q: Tensor, normals: Tensor) -> Tensor:
        at = look.place(q)
        base = ramp((0.34, 0.30, 0.27), (0.86, 0.79, 0.71), fractal_noise(at, 24.0, 4))
        base = base * (0.78 + 0.44 * value_noise(at, 150.0, 4.0))[:, None]
        moss = smoothstep(0.52, 0.66, fractal_noise(at, 9.0, 3, 5.0))
        base = blend(base, (0.44, 0.47, 0.27), (0.6 * look.strength * moss).clamp(0, 1))
        crack = (0.6 * look.strength * veins(at, 4.5, 0.02, 2.0)).clamp(0, 0.9)
        return base * (1 - crack)[:, None]

    return solid


def sand(look: Look) -> Solid:
    """Return beach sand in thin layers with visible grains."""

    def solid(q: Tensor, normals: Tensor) -> Tensor:
        at = look.place(q)
        layer = 0.5 + 0.5 * torch.sin(at[:, 1] * 110 + 6 * value_noise(at, 6.0))
        grain = value_noise(at, 300.0) - 0.5 + 0.7 * (value_noise(at, 110.0, 9.0) - 0.5)
        shade = 0.86 + 0.16 * look.strength * layer + 0.42 * grain
        return rgb((0.90, 0.71, 0.42), q) * shade[:, None]

    return solid


def wood(look: Look) -> Solid:
    """Return carved wood: growth rings around a leaning trunk, and fine fibres."""

    def solid(q: Tensor, normals: Tensor) -> Tensor:
        at = look.place(q)
        x = q[:, 0] + 0.3 * look.offset[0] + 0.02 * value_noise(at, 8.0)
        z = q[:, 2] + 0.25 + 0.05 * value_noise(at, 5.0, 3.0) + 0.25 * q[:, 1]
        stretched = at * rgb((1.0, 0.15, 1.0), q)
        rings = (x * x + z * z).sqrt() * 130 * look.scale + 3 * value_noise(stretched, 18.0)
        line = smoothstep(0.35, 0.95, torch.sin(rings) * 0.5 + 0.5)
        fibre = value_noise(at * rgb((1.0, 0.06, 1.0), q), 160.0)
        base = ramp((0.80, 0.52, 0.27), (0.46, 0.24, 0.10), (line * look.strength).clamp(0, 1))
        return base * (0.85 + 0.3 * fibre)[:, None]

    return solid


def chocolate(look: Look) -> Texture:
    """Return dark chocolate with white chocolate drizzled over hair and clothes."""
    base = statue(plain((0.33, 0.165, 0.075)), hair=0.72, brow=0.5)

    def texture(q: Tensor, normals: Tensor, colors: Tensor, p: dict) -> Tensor:
        brown = base(q, normals, colors, p)
        ox, oy, _ = look.offset
        wave = (q[:, 0] + 0.02 * torch.sin(q[:, 1] * 34 + 9 * ox)) * 0.75 + q[:, 1] * 0.55
        line = torch.sin((wave + 0.3 * oy) * 62 * look.scale)
        drizzle = smoothstep(0.72, 0.86, line) * smoothstep(-0.35, -0.1, normals[:, 1] + 0.3)
        brown[1] = blend(brown[1], (0.97, 0.90, 0.78), drizzle)
        brown[2] = blend(brown[2], (0.97, 0.90, 0.78), drizzle)
        return brown

    return texture


def metal(
    dark: Color, middle: Color, light: Color, look: Look, patina: Color | None = None
) -> Post:
    """Return polished metal that mirrors an imagined studio; patina grows in the hollows."""

    def post(q, normals, c, albedo, ao, w, specular):
        phase = 0.6 + 3 * look.offset[0]
        studio = 0.5 + 0.5 * torch.sin(normals[:, 1] * 5 + normals[:, 0] * 2.2 + phase)
        level = studio * 0.55 + 0.45 * key_light(normals)
        low = ramp(dark, middle, smoothstep(0.05, 0.5, level))
        high = ramp(middle, light, smoothstep(0.5, 0.95, level))
        mirror = torch.where(level[:, None] < 0.5, low, high)
        relief = 0.12 + 0.88 * albedo.mean(-1, keepdim=True)
        mirror = mirror * (0.35 + 0.65 * ao) * relief
        if patina is not None:
            crust = (1 - ao[:, 0]) * 1.15 + fractal_noise(look.place(q), 20.0) * 0.6
            lit = rgb(patina, q) * (0.35 + 0.65 * key_light(normals))[:, None] * relief
            grown = (smoothstep(0.46, 0.72, crust) * 0.9 * look.strength).clamp(0, 1)
            mirror = torch.lerp(mirror, lit, grown[:, None])
        return mirror + (specular**40)[:, None] * 0.7 * rgb((1.0, 0.97, 0.9), q)

    return post


def ice(look: Look) -> Post:
    """Return pale blue ice: deep blue inside, frosted edges, white cracks."""

    def post(q, normals, c, albedo, ao, w, specular):
        at = look.place(q)
        edge = (1 - normals[:, 2].clamp(0, 1)) ** 2
        cloud = fractal_noise(at, 12.0) * 0.75 + 0.25 * key_light(normals)
        body = ramp((0.22, 0.56, 0.86), (0.72, 0.91, 1.0), smoothstep(0.25, 0.62, cloud))
        body = body * (0.45 + 0.55 * ao) * (0.3 + 0.7 * albedo.mean(-1, keepdim=True))
        crack = torch.maximum(veins(at, 8.0, 0.02, 4.0), 0.6 * veins(at, 15.0, 0.025, 8.0))
        body = blend(body, (0.97, 1.0, 1.0), (0.75 * look.strength * crack).clamp(0, 1))
        body = blend(body, (0.86, 0.96, 1.0), 0.6 * edge)
        return body + (specular**30)[:, None] * 0.8

    return post


def glass(look: Look) -> Post:
    """Return green bottle glass: light centre, dark edges, hard reflections."""

    def post(q, normals, c, albedo, ao, w, specular):
        edge = 1 - normals[:, 2].abs().clamp(0, 1)
        bend = 0.5 + 0.5 * torch.sin(normals[:, 1] * 9 + normals[:, 0] * 7 + 5 * look.offset[0])
        body = ramp((0.74, 0.97, 0.74), (0.26, 0.72, 0.40), bend * 0.8)
        body = blend(body, (0.01, 0.16, 0.08), (edge**1.9 * 1.25).clamp(0, 1))
        body = body * (0.55 + 0.45 * ao) * (0.35 + 0.65 * albedo.mean(-1, keepdim=True))
        window = (normals @ rgb((0.70, 0.51, 0.5), q)).clamp_min(0) ** 60
        return body + (specular**45)[:, None] * 1.1 + window[:, None] * 0.8

    return post


def lava(look: Look) -> Post:
    """Return black crust with glowing cracks; eyes and mouth glow too."""

    def post(q, normals, c, albedo, ao, w, specular):
        at = look.place(q)
        crack = torch.maximum(veins(at, 4.5, 0.030, 2.0), veins(at, 8.0, 0.018, 6.0) * 0.6)
        heat = (crack * look.strength).clamp(0, 1)
        dark_iris = smoothstep(0.10, 0.16, albedo.mean(-1))
        lamp = w[3] * (0.15 + 0.85 * dark_iris) + w[5] * 0.7 + w[4] * 0.55
        heat = torch.maximum(heat, lamp.clamp(0, 1))
        glow = torch.where(
            heat[:, None] < 0.5,
            ramp((0.75, 0.08, 0.0), (1.0, 0.38, 0.02), heat * 2),
            ramp((1.0, 0.38, 0.02), (1.0, 0.92, 0.45), heat * 2 - 1),
        )
        rock = c * 0.9 + rgb((0.50, 0.07, 0.0), q) * (1 - ao)
        return torch.lerp(rock, glow, smoothstep(0.05, 0.35, heat)[:, None])

    return post


def chocolate_gloss(q, normals, c, albedo, ao, w, specular):
    """Return the colour with the broad soft shine of tempered chocolate."""
    return c + (specular**18)[:, None] * 0.4 * rgb((1.0, 0.88, 0.75), q) * ao


def steel(look: Look) -> Post:
    """Return a robot: brushed steel on skin and hair, lamps for eyes."""
    mirror = metal((0.10, 0.12, 0.16), (0.50, 0.55, 0.62), (0.95, 0.97, 1.0), look)

    def post(q, normals, c, albedo, ao, w, specular):
        shine = mirror(q, normals, c, albedo, ao, w, specular)
        c = torch.lerp(c, shine, 0.5 * (w[0] + w[1])[:, None])
        lamp = ramp((0.92, 1.0, 1.0), (0.05, 0.85, 1.0), albedo.mean(-1).clamp(0, 1))
        return torch.lerp(c, lamp, w[3][:, None])

    return post


def neon(look: Look) -> Post:
    """Return light at night: magenta from the left, cyan from the right, eyes that glow."""

    def post(q, normals, c, albedo, ao, w, specular):
        dark = c * rgb((0.20, 0.16, 0.34), q)
        diffuse = 0.35 + 0.65 * albedo
        left = (normals @ rgb((-0.963, 0.214, 0.161), q)).clamp_min(0) ** 1.3
        right = (normals @ rgb((0.958, 0.266, 0.106), q)).clamp_min(0) ** 1.3
        lit = dark + left[:, None] * rgb((1.1, 0.09, 0.72), q) * diffuse
        lit = lit + right[:, None] * rgb((0.05, 0.88, 1.1), q) * diffuse
        lit = lit + (specular**12)[:, None] * 0.15
        side = q[:, 0].abs()
        height = 0.02 * look.offset[1]
        stroke = (q[:, 1] + side * 0.9 - 0.05 - height).abs() < 0.005
        stroke = stroke & (side > 0.09) & (q[:, 2] > 0.02)
        lit = blend(lit, (0.1, 1.0, 0.95), (stroke & (w[0] > 0.5)).to(q.dtype))
        eye = rgb((0.2, 1.0, 0.95), q) * (0.5 + 0.8 * albedo.mean(-1, keepdim=True))
        return torch.lerp(lit, eye, (w[3] * 0.8)[:, None])

    return post
