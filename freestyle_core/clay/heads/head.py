"""A procedural head: about thirty signed-distance primitives shaped by named parameters.

`head_field` returns one distance per material; the surface is their minimum. Lengths are in head
units: the skull is about 0.4 wide, x is to the head's left, y up, z out of the face. Everything but
hair sweep and grooves is mirrored through |x|. `SCALE` and `LIFT` place the head in EG3D's box.

Parameters are continuous (a beard grows from below zero instead of switching on), because a
regressed network blurs switches.
"""

import math

import torch
from torch import Tensor

from .sdf import capsule, ellipsoid, length, smax, smin, sphere

SKIN, HAIR, CLOTH, EYE, BROW, LIP = range(6)
SCALE = 0.90  # head units -> scene units
LIFT = -0.006  # scene units, added to y
LATENT = 64  # identity code size; the first len(PARAMETERS) numbers are used

# name -> range of the parameter for plain heads; styles may go beyond it
PARAMETERS: dict[str, tuple[float, float]] = {
    "width": (0.90, 1.12),
    "headh": (0.93, 1.08),
    "jaw": (0.78, 1.15),
    "chin": (0.60, 1.35),
    "cheek": (0.50, 1.40),
    "eye": (0.92, 1.25),
    "eyesep": (0.92, 1.10),
    "eyelid": (-0.05, 0.34),
    "nosel": (0.75, 1.30),
    "nosew": (0.75, 1.45),
    "noset": (0.75, 1.35),
    "lip": (0.75, 1.55),
    "mouthw": (1.00, 1.60),
    "smile": (-0.20, 1.15),
    "browt": (0.70, 1.70),
    "browa": (-0.60, 0.35),
    "browh": (0.00, 0.022),
    "ear": (0.80, 1.30),
    "eartip": (0.00, 0.00),
    "neck": (0.85, 1.15),
    "hairlen": (-0.45, 1.00),
    "hairvol": (0.10, 1.40),
    "hairline": (-0.60, 1.00),
    "hairwave": (0.00, 1.00),
    "part": (-1.00, 1.00),
    "bun": (-1.20, 1.00),
    "quiff": (-0.80, 1.00),
    "beard": (-2.40, 1.00),
    "skin": (0.00, 1.00),
    "skinw": (0.00, 1.00),
    "hairh": (0.00, 1.00),
    "hairb": (0.00, 1.00),
    "eyeh": (0.00, 1.00),
    "clothh": (0.00, 1.00),
    "cloths": (0.25, 0.80),
    "clothv": (0.35, 0.85),
}

_SKIN_RAMP = (
    (0.99, 0.82, 0.72),
    (0.97, 0.74, 0.60),
    (0.90, 0.62, 0.45),
    (0.74, 0.47, 0.32),
    (0.50, 0.31, 0.22),
)
_HAIR_RAMP = (
    (0.10, 0.08, 0.08),
    (0.28, 0.16, 0.10),
    (0.50, 0.29, 0.15),
    (0.72, 0.30, 0.12),
    (0.90, 0.72, 0.38),
    (0.82, 0.80, 0.78),
)
_IRIS_RAMP = (
    (0.25, 0.45, 0.65),
    (0.28, 0.50, 0.33),
    (0.48, 0.32, 0.16),
    (0.22, 0.13, 0.09),
    (0.36, 0.40, 0.46),
)


def identity_parameters(z: Tensor) -> dict[str, float]:
    """Return the head parameters of an identity code [64]: normal numbers mapped into each range.

    Only the direction of z counts, because EG3D's mapping network normalises its length away.
    """
    z = z.double() * z.double().square().mean().rsqrt()
    uniform = 0.5 * (1 + torch.erf(z[: len(PARAMETERS)] / math.sqrt(2)))
    return {
        name: low + (high - low) * float(u)
        for (name, (low, high)), u in zip(PARAMETERS.items(), uniform, strict=True)
    }


# --- signed-distance primitives; points come as three tensors, shapes as Python floats ---


def eye_place(p: dict[str, float]) -> tuple[float, float, float, float]:
    """Return the centre (for the left eye, in width-normalised x) and radius of the eye ball."""
    return 0.079 * p["eyesep"], 0.022, 0.150, 0.047 * p["eye"]


def mouth_lift(x: Tensor, p: dict[str, float]) -> Tensor:
    """Return how far the mouth's corners are pulled up at width-normalised x."""
    return p["smile"] * 5.5 * (x * x).clamp_max(0.007)


MOUTH_Y = -0.118


def _face(x, y, z, p):
    """Skull, jaw, cheeks, eye sockets and brow ridge."""
    tall, jaw = p["headh"], p["jaw"]
    d = ellipsoid(x, y, z, (0, 0.075 * tall, -0.03), (0.19, 0.205 * tall, 0.215))
    d = smin(
        d, ellipsoid(x, y, z, (0, -0.06, 0.045), (0.15 * (0.6 + 0.4 * jaw), 0.165, 0.145)), 0.07
    )
    d = smin(d, ellipsoid(x, y, z, (0.085 * jaw, -0.115, 0.03), (0.05, 0.07, 0.085)), 0.06)
    d = smin(d, sphere(x, y, z, (0, -0.185 - 0.012 * p["chin"], 0.125), 0.034 * p["chin"]), 0.055)
    d = smin(d, sphere(x, y, z, (0.088, -0.058, 0.125), 0.036 + 0.017 * p["cheek"]), 0.035)
    # the socket is carved before the eye ball goes in, or the eye looks glued on
    ex, ey, ez, er = eye_place(p)
    d = smax(d, -ellipsoid(x, y, z, (ex, ey, ez + 0.052), (er * 1.12, er * 0.98, 0.034)), 0.04)
    return smin(d, capsule(x, y, z, (0.03, 0.072, 0.176), (0.11, 0.072, 0.145), 0.016, 0.016), 0.03)


def _nose(d, x, y, z, p):
    tip_z, tip_y = 0.200 + 0.03 * p["nosel"], -0.045
    tip, wide = p["noset"], p["nosew"]
    bridge_end = (0, tip_y + 0.008, tip_z - 0.012)
    d = smin(d, capsule(x, y, z, (0, 0.045, 0.178), bridge_end, 0.012, 0.020 * tip), 0.028)
    d = smin(
        d, ellipsoid(x, y, z, (0, tip_y, tip_z), (0.026 * tip, 0.022 * tip, 0.025 * tip)), 0.014
    )
    wing = (0.024 * wide, tip_y - 0.006, tip_z - 0.024)
    d = smin(d, ellipsoid(x, y, z, wing, (0.017, 0.014, 0.019)), 0.014)
    nostril = (0.013 * wide, tip_y - 0.022, tip_z - 0.010)
    return smax(d, -ellipsoid(x, y, z, nostril, (0.008, 0.007, 0.010)), 0.008)


def _ears(d, x, y, z, p):
    size, tip = p["ear"], p["eartip"]
    ex, ey, ez = x - 0.187 * p["width"] - 0.012, y - 0.005, z + 0.02
    a = ellipsoid(ex + 0.25 * ez, ey, ez, (0, 0, 0), (0.019 * size, 0.056 * size, 0.036 * size))
    point = (0.07 * tip, 0.01 + 0.15 * tip, -0.02 - 0.06 * tip)
    a = smin(a, capsule(ex, ey, ez, (0, 0.015, -0.005), point, 0.004 + 0.022 * tip, 0.004), 0.02)
    shell = (0.014 * size, 0.036 * size, 0.020 * size)
    a = smax(a, -ellipsoid(ex + 0.25 * ez, ey, ez, (0.017, 0.004, 0.010), shell), 0.012)
    return smin(d, a, 0.018)


def _lids(skin, x, y, z, p):
    """Lids: a shell a little larger than the eye ball, cut open by two planes."""
    ex, ey, ez, er = eye_place(p)
    shell = ellipsoid(x, y, z, (ex, ey, ez), (er * 1.10, er * 1.10, er * 1.06))
    upper_edge = er * (0.66 - p["eyelid"] * 0.75) + 0.02 * (x - ex)
    upper = smax(shell, upper_edge - (y - ey), 0.006)
    lower = smax(shell, (y - ey) + er * 0.74, 0.006)
    return smin(skin, smin(upper, lower, 0.003), 0.008)


def _lips(x, y, z, p):
    full, wide = p["lip"], 0.058 * p["mouthw"]
    ym, zm = y - mouth_lift(x, p), z + x * x * 3.0  # lips follow the curve of the teeth
    upper = ellipsoid(x, ym, zm, (0, MOUTH_Y + 0.0085, 0.184), (wide, 0.0095 * full, 0.016))
    bow = ellipsoid(x, ym, zm, (0.016, MOUTH_Y + 0.011, 0.186), (wide * 0.35, 0.008 * full, 0.012))
    lower = ellipsoid(x, ym, zm, (0, MOUTH_Y - 0.0105, 0.182), (wide * 0.82, 0.0125 * full, 0.017))
    return smin(smin(upper, bow, 0.01), lower, 0.002)


def _brows(x, y, z, p):
    angle, thick = p["browa"], p["browt"]
    by, bz = 0.022 + 0.066 + p["browh"], 0.193
    inner = (0.035, by - 0.012 * angle - 0.004, bz + 0.004)
    arch = (0.082, by + 0.008, bz - 0.018)
    outer = (0.118, by - 0.004 + 0.008 * angle, bz - 0.052)
    a = capsule(x, y, z, inner, arch, 0.0075 * thick, 0.009 * thick)
    b = capsule(x, y, z, arch, outer, 0.009 * thick, 0.005 * thick)
    return smin(a, b, 0.008)


def _hair(x, xs, y, z, p):
    """A grown skull minus a face window and two ear windows, with grooves along the strands."""
    tall, volume, wave = p["headh"], p["hairvol"], p["hairwave"]
    long_ = min(max(p["hairlen"], 0.0), 1.0)
    bald = min(max(-p["hairlen"], 0.0), 1.0)
    bun, quiff = max(p["bun"], 0.0), max(p["quiff"], 0.0)
    signed = xs / p["width"]
    around = torch.atan2(signed + 0.02 * p["part"], z + 0.07)
    groove = 0.0045 * torch.sin(around * 16 + wave * 3.0 * torch.sin(y * 26) + 1.0)
    curls = torch.sin(xs * 60) * torch.sin(y * 55 + 1.0) * torch.sin(z * 60)
    groove = groove + wave * wave * 0.012 * curls
    grow = 0.012 + 0.028 * volume - 0.12 * bald
    d = ellipsoid(
        x, y, z, (0, 0.085 * tall, -0.042), (0.192 + grow, 0.212 * tall + grow * 1.1, 0.212 + grow)
    )
    fall = 0.36 * long_
    back_radii = (0.178 + grow + 0.02 * long_, 0.12 + fall * 0.62, 0.150 + grow)
    d = smin(d, ellipsoid(x, y, z, (0, 0.05 - fall * 0.55, -0.062), back_radii), 0.05)
    quiff_radii = (0.045 + 0.06 * quiff, 0.02 + 0.055 * quiff, 0.03 + 0.055 * quiff)
    d = smin(d, ellipsoid(xs, y, z, (0, 0.235 + 0.035 * quiff, 0.075), quiff_radii), 0.04)
    d = smin(d, sphere(xs, y, z, (0, 0.20 + 0.11 * bun, -0.13), 0.001 + 0.085 * bun), 0.02)
    sweep = 0.05 * p["part"] * signed / 0.15
    face = (0.162, 0.297 - p["hairline"] * 0.035, 0.275)
    cut = ellipsoid(x, y - sweep, z, (0, -0.135, 0.25), face)
    window = 1 - 0.75 * min(1.0, long_ * 3.0)
    ear = (0.06 * window, (0.075 + 0.02 * (1 - long_)) * window, 0.075 * window)
    # under long hair the ear window shrinks away, or it leaves a dimple
    cut = smin(cut, ellipsoid(x, y, z, (0.19, -0.02, 0.05), ear) + 0.05 * (1 - window), 0.03)
    d = smax(d, -cut, 0.025) - groove * 0.8
    return smax(d, (-0.10 - fall * 1.1) - y - 0.35 * (z + 0.1), 0.03)


def _beard(hair, x, y, z, p):
    grown = min(max(p["beard"], 0.0), 1.0)
    if p["beard"] <= -0.6:  # far below the skin: nothing to see, save the work
        return hair
    ym = y - mouth_lift(x, p)
    radii = (0.135 + 0.01 * grown, 0.105 + 0.04 * grown, 0.120 + 0.01 * grown)
    d = ellipsoid(x, y, z, (0, -0.135 - 0.03 * grown, 0.075), radii)
    d = smax(d, -ellipsoid(x, ym, z, (0, MOUTH_Y + 0.006, 0.21), (0.062, 0.038, 0.07)), 0.012)
    d = smax(d, -ellipsoid(x, y, z, (0, 0.01, 0.14), (0.13, 0.105, 0.15)), 0.02)
    strands = torch.sin(torch.atan2(x, z + 0.07) * 40) * torch.sin(y * 60) * 0.003
    sunk = 0.05 * (1 - grown) + 0.2 * max(-p["beard"], 0.0)
    return smin(hair, d + sunk - strands, 0.012)


def _clothes(x, y, z, p):
    d = ellipsoid(x, y, z, (0, -0.405, -0.045), (0.30, 0.085, 0.155))
    d = smin(d, ellipsoid(x, y, z, (0.19, -0.395, -0.045), (0.135, 0.075, 0.115)), 0.06)
    d = smax(d, -0.455 - y, 0.03)
    ring = length(x / 1.12, z + 0.045) - 0.108 * p["neck"]
    collar = length(ring, y + 0.325 + 0.12 * (z + 0.045)) - 0.024
    return smin(d, collar, 0.012)


def head_field(x: Tensor, y: Tensor, z: Tensor, p: dict[str, float]) -> Tensor:
    """Return the distances [6,N] to skin, hair, cloth, eye, brow and lip at points [N] each."""
    ax = (x * x + 1e-8).sqrt()
    wx = ax / p["width"]
    skin = _ears(_nose(_face(wx, y, z, p), wx, y, z, p), wx, y, z, p)
    mouth_mound = ellipsoid(wx, y - mouth_lift(wx, p), z, (0, MOUTH_Y, 0.152), (0.07, 0.045, 0.04))
    skin = smin(skin, mouth_mound, 0.03)
    neck = capsule(
        ax, y, z, (0, -0.12, -0.03), (0, -0.40, -0.05), 0.088 * p["neck"], 0.10 * p["neck"]
    )
    skin = _lids(smin(skin, neck, 0.04), wx, y, z, p)
    ex, ey, ez, er = eye_place(p)
    eye = ellipsoid(wx, y, z, (ex, ey, ez), (er, er, er * 0.95))
    hair = _beard(_hair(wx, x, y, z, p), wx, y, z, p)
    parts = (skin, hair, _clothes(ax, y, z, p), eye, _brows(wx, y, z, p), _lips(wx, y, z, p))
    return torch.stack(parts)


# --- colours ---


def _ramp(t: float, table: tuple[tuple[float, float, float], ...]) -> Tensor:
    colors = torch.tensor(table)
    at = min(max(t, 0.0), 1.0) * (len(table) - 1)
    i = min(int(at), len(table) - 2)
    return torch.lerp(colors[i], colors[i + 1], at - i)


def _hsv(hue: float, saturation: float, value: float) -> Tensor:
    k = (torch.tensor([5.0, 3.0, 1.0]) + hue * 6) % 6
    return value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)


def palette(p: dict[str, float]) -> dict[str, Tensor | float]:
    """Return the colours [3] of every material, in [0,1] sRGB."""
    skin = _ramp(p["skin"], _SKIN_RAMP)
    skin = skin * torch.tensor([1.0, 1.0, 1.0 + 0.06 * (p["skinw"] - 0.5)])
    return {
        "skin": skin,
        "hair": _ramp(p["hairh"], _HAIR_RAMP) * (0.85 + 0.3 * p["hairb"]),
        "cloth": _hsv(p["clothh"], p["cloths"], p["clothv"]),
        "iris": _ramp(p["eyeh"], _IRIS_RAMP),
        "lip": skin * torch.tensor([0.92, 0.58, 0.57]) + torch.tensor([0.04, 0.0, 0.0]),
        "sclera": torch.tensor([0.97, 0.96, 0.94]),
        "blush": torch.tensor([0.90, 0.42, 0.36]),
        "blush_strength": 1.0,
        "gloss": 1.0,
        "glint": 1.0,
    }
