"""Extra geometry of the styles: `field(f [6,N], x [N], y [N], z [N], p) -> f`.

The six rows are distances to skin, hair, cloth, eye, brow and lip, in head units. Adding 1 to a row
removes that part. Everything here runs at every step of the ray march: a few primitives per style,
no solid noise.
"""

import torch
from torch import Tensor

from ..heads.sdf import capsule, ellipsoid, length, smax, smin, sphere


def clown_nose(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return the head with a ball on the tip of the nose."""
    skin, *rest = f.unbind(0)
    ball = sphere(x, y, z, (0, -0.045, 0.19 + 0.03 * p["nosel"]), 0.038)
    return torch.stack([smin(skin, ball, 0.006), *rest])


def fangs(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return the head with two pointed teeth below the upper lip."""
    skin, hair, cloth, eye, brow, lip = f.unbind(0)
    tooth = capsule(x.abs(), y, z, (0.024, -0.119, 0.184), (0.022, -0.152, 0.196), 0.0085, 0.0015)
    return torch.stack([skin, hair, cloth, torch.minimum(eye, tooth), brow, lip])


def fur(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return a teddy bear: a knobbly surface, round ears on top, a muzzle with a button nose."""
    skin, hair, cloth, eye, brow, lip = f.unbind(0)
    side = x.abs()
    skin = smax(skin, -ellipsoid(side, y, z, (0.25, 0.0, -0.02), (0.05, 0.10, 0.08)), 0.02)
    ear = sphere(side, y, z, (0.165, 0.235, -0.03), 0.068)
    ear = smax(ear, -sphere(side, y, z, (0.172, 0.24, 0.045), 0.05), 0.015)
    muzzle = ellipsoid(x, y, z, (0, -0.085, 0.165), (0.085, 0.066, 0.06))
    skin = smin(smin(skin, ear, 0.02), muzzle, 0.02)
    knob = torch.sin(x * 210) * torch.sin(y * 215 + 1) * torch.sin(z * 205 + 2)
    knob = knob + 0.6 * torch.sin(x * 130 + y * 90) * torch.sin(y * 140 - z * 120)
    knob = knob * 0.0022
    nose = ellipsoid(x, y, z, (0, -0.05, 0.232), (0.032, 0.021, 0.022))
    button = sphere(side, y, z, (0.079 * p["eyesep"], 0.022, 0.172), 0.040)
    return torch.stack(
        [
            skin + knob - 0.004,
            hair + knob * 1.5 - 0.006,
            cloth + knob,
            torch.minimum(eye, button),
            torch.minimum(brow + 1, nose),
            lip,
        ]
    )


def robot(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return the head without hair or ears, with bolts, an antenna and a collar plate."""
    skin, hair, cloth, eye, brow, lip = f.unbind(0)
    side = x.abs()
    stalk = capsule(side, y, z, (0, 0.25, -0.02), (0, 0.31, -0.02), 0.009, 0.009)
    lamp = sphere(side, y, z, (0, 0.318, -0.02), 0.022)
    bolt = capsule(side, y, z, (0.17, 0.0, -0.02), (0.235, 0.0, -0.02), 0.05, 0.05)
    bolt = smax(bolt, side - 0.228, 0.006)
    skin = torch.minimum(skin, torch.minimum(bolt, stalk))
    return torch.stack([skin, hair, cloth, eye, torch.minimum(brow, lamp), lip])


def toy_brick(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return a toy figure: a cylinder for a head, a stud, printed eyes and a wide mouth."""
    skin, hair, cloth, *_ = f.unbind(0)
    side = x.abs()
    drum = smax(length(x, z) - 0.182, (y - 0.005).abs() - 0.165, 0.06)
    stud = smax(length(x, z) - 0.085, (y - 0.18).abs() - 0.04, 0.01)
    neck = smax(length(x, z + 0.02) - 0.10, (y + 0.24).abs() - 0.1, 0.01)
    head = smin(smin(drum, stud, 0.01), neck, 0.01)
    eye = ellipsoid(side, y, z, (0.07, 0.045, 0.17), (0.020, 0.024, 0.022))
    brow = capsule(side, y, z, (0.05, 0.095, 0.178), (0.09, 0.10, 0.162), 0.006, 0.006)
    smile = y - 5.0 * x * x
    lip = ellipsoid(x, smile, z, (0, -0.065, 0.182), (0.075, 0.010, 0.02))
    return torch.stack([head, hair, cloth, eye, brow, lip])


def chisel(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return the head with the uneven surface of roughly cut rock."""
    bump = torch.sin(x * 47 + 2 * torch.sin(y * 31)) * torch.sin(y * 53 + 1) * torch.sin(z * 43)
    bump = bump * 0.0045 + torch.sin(x * 113 + y * 71) * torch.sin(y * 97 - z * 109) * 0.0016
    return f + bump


def horns(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return the head with two curved horns (they belong to the brow material)."""
    skin, hair, cloth, eye, brow, lip = f.unbind(0)
    side = x.abs()
    root = capsule(side, y, z, (0.085, 0.20, 0.09), (0.135, 0.265, 0.10), 0.036, 0.025)
    tip = capsule(side, y, z, (0.135, 0.265, 0.10), (0.130, 0.335, 0.09), 0.025, 0.004)
    return torch.stack([skin, hair, cloth, eye, torch.minimum(brow, smin(root, tip, 0.02)), lip])


def skull(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return a skull: hollow eyes, nose hole and cheeks; no hair, brows, lips or ears."""
    skin, hair, cloth, eye, brow, lip = f.unbind(0)
    side = x.abs()
    skin = smax(skin, -ellipsoid(side, y, z, (0.225, 0.0, -0.02), (0.05, 0.10, 0.08)), 0.01)
    skin = smax(skin, -ellipsoid(x, y, z, (0, -0.035, 0.235), (0.05, 0.065, 0.045)), 0.02)
    skin = smax(skin, -ellipsoid(side, y, z, (0.175, -0.105, 0.06), (0.055, 0.06, 0.09)), 0.03)
    skin = smax(skin, -ellipsoid(side, y, z, (0.078, 0.018, 0.17), (0.056, 0.052, 0.085)), 0.012)
    skin = smax(skin, -ellipsoid(side, y, z, (0.012, -0.045, 0.19), (0.013, 0.028, 0.06)), 0.006)
    return torch.stack([skin, hair + 1, cloth, eye + 1, brow + 1, lip + 1])


def alien(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return a bald alien: swollen skull, slanted almond eyes, no brows, no ears."""
    skin, hair, cloth, _, brow, lip = f.unbind(0)
    side = x.abs()
    skin = smax(skin, -ellipsoid(side, y, z, (0.235, 0.0, -0.02), (0.05, 0.10, 0.08)), 0.02)
    skin = smin(skin, ellipsoid(x, y, z, (0, 0.13, -0.02), (0.215, 0.185, 0.21)), 0.05)
    u, v = side - 0.084, y - 0.012
    along, across = u * 0.866 + v * 0.5, v * 0.866 - u * 0.5  # turned by 30 degrees
    almond = ellipsoid(along, across, z, (0, 0, 0.160), (0.074, 0.044, 0.055))
    return torch.stack([skin, hair + 1, cloth, almond, brow + 1, lip])


def bald(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return the head without hair, brows and lips, wrapped a little thicker."""
    skin, hair, cloth, eye, brow, lip = f.unbind(0)
    return torch.stack([skin - 0.004, hair + 1, cloth, eye, brow + 1, lip + 1])


def santa(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return the head under a cap (cloth) with a thick brim (hair) that falls to one side."""
    skin, hair, cloth, eye, brow, lip = f.unbind(0)
    tilt = y - 0.165 + 0.42 * (z + 0.04)
    cap = ellipsoid(x, y, z, (0, 0.12, -0.045), (0.225, 0.215, 0.235))
    cap = smin(cap, capsule(x, y, z, (0.03, 0.27, -0.05), (0.20, 0.22, -0.03), 0.09, 0.035), 0.05)
    cap = smax(cap, -tilt, 0.01)
    brim = length(length(x / 0.215, (z + 0.035) / 0.225) * 0.22 - 0.22, tilt) - 0.032
    tassel = sphere(x, y, z, (0.232, 0.175, -0.01), 0.046)
    beard = ellipsoid(x, y, z, (0, -0.215, 0.085), (0.115, 0.125, 0.085))
    moustache = capsule(x.abs(), y, z, (0.008, -0.088, 0.20), (0.062, -0.105, 0.165), 0.017, 0.008)
    hair = smin(hair, beard, 0.04)
    hair = torch.minimum(hair, torch.minimum(moustache, torch.minimum(brim, tassel)))
    return torch.stack([skin, hair, torch.minimum(cloth, cap), eye, brow, lip])


def monster(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return a flat-topped head with bolts in the neck (they belong to the eye material)."""
    skin, hair, cloth, eye, brow, lip = f.unbind(0)
    side = x.abs()
    block = ellipsoid(x, y, z, (0, 0.19, -0.03), (0.205, 0.16, 0.20))
    skin = smax(smin(skin, block, 0.04), y - 0.262, 0.02)
    hair = smin(hair, ellipsoid(x, y, z, (0, 0.21, -0.05), (0.225, 0.13, 0.215)), 0.03)
    hair = smax(hair, y - 0.285, 0.02)
    bolt = capsule(side, y, z, (0.06, -0.215, -0.02), (0.135, -0.215, -0.02), 0.02, 0.02)
    knob = capsule(side, y, z, (0.135, -0.215, -0.02), (0.148, -0.215, -0.02), 0.034, 0.034)
    bolts = torch.minimum(bolt, knob)
    return torch.stack([skin, hair, cloth, torch.minimum(eye, bolts), brow, lip])


def cat(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return a cat: pointed ears, a muzzle, whiskers (brow material), no hair and no human ears."""
    skin, hair, cloth, eye, brow, lip = f.unbind(0)
    side = x.abs()
    skin = smax(skin, -ellipsoid(side, y, z, (0.235, 0.0, -0.02), (0.05, 0.10, 0.08)), 0.02)
    ear = capsule(side, y, z, (0.105, 0.20, -0.02), (0.165, 0.335, -0.02), 0.068, 0.006)
    ear = smax(
        ear, -capsule(side, y, z, (0.115, 0.22, 0.06), (0.165, 0.32, 0.02), 0.045, 0.004), 0.01
    )
    muzzle = ellipsoid(side, y, z, (0.034, -0.085, 0.172), (0.048, 0.042, 0.05))
    skin = smin(smin(skin, ear, 0.02), muzzle, 0.012)
    upper = capsule(side, y, z, (0.06, -0.075, 0.20), (0.205, -0.05, 0.13), 0.0035, 0.002)
    lower = capsule(side, y, z, (0.06, -0.092, 0.20), (0.200, -0.11, 0.13), 0.0035, 0.002)
    nose = ellipsoid(x, y, z, (0, -0.050, 0.228), (0.022, 0.014, 0.016))
    whiskers = torch.minimum(upper, lower)
    return torch.stack(
        [skin, hair + 1, cloth, eye, torch.minimum(brow + 1, whiskers), torch.minimum(lip, nose)]
    )


def pirate(f: Tensor, x: Tensor, y: Tensor, z: Tensor, p: dict) -> Tensor:
    """Return the head with a bandana (cloth) and a patch over one eye (brow material)."""
    skin, hair, cloth, eye, brow, lip = f.unbind(0)
    scarf = ellipsoid(x, y, z, (0, 0.085, -0.04), (0.216, 0.228, 0.238))
    tilt = y - 0.12 + 0.30 * (z + 0.04)
    scarf = smax(scarf, -tilt, 0.01)
    knot = ellipsoid(x, y, z, (0.235, 0.09, -0.04), (0.035, 0.05, 0.04))
    center = 0.079 * p["eyesep"] * p["width"]
    patch = ellipsoid(x, y, z, (center, 0.022, 0.178), (0.064, 0.058, 0.045))
    scarf = torch.minimum(scarf, knot)
    return torch.stack(
        [skin, hair, torch.minimum(cloth, scarf), eye, torch.minimum(brow, patch), lip]
    )
