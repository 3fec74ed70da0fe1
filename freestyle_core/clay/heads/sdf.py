"""Signed distances of simple bodies, and how two of them are joined: negative inside."""

from __future__ import annotations

from torch import Tensor

Point = tuple[float, float, float]  # x, y, z in head units


def smin(a: Tensor, b: Tensor, radius: float) -> Tensor:
    """Return the union of two distances, blended over `radius`."""
    h = (0.5 + 0.5 * (b - a) / radius).clamp(0, 1)
    return b + (a - b) * h - radius * h * (1 - h)


def smax(a: Tensor, b: Tensor, radius: float) -> Tensor:
    """Return the intersection of two distances, blended over `radius`."""
    return -smin(-a, -b, radius)


def length(*components: Tensor) -> Tensor:
    """Return the length of the vectors with these components."""
    total = components[0] * components[0]
    for component in components[1:]:
        total = total + component * component
    return (total + 1e-12).sqrt()


def ellipsoid(x: Tensor, y: Tensor, z: Tensor, center: Point, radii: Point) -> Tensor:
    """Return the approximate distance to an ellipsoid (exact in sign)."""
    x, y, z = x - center[0], y - center[1], z - center[2]
    a, b, c = radii
    k0 = length(x / a, y / b, z / c)
    k1 = length(x / (a * a), y / (b * b), z / (c * c))
    return k0 * (k0 - 1) / k1.clamp_min(1e-4)


def sphere(x: Tensor, y: Tensor, z: Tensor, center: Point, radius: float) -> Tensor:
    """Return the distance to a sphere."""
    return length(x - center[0], y - center[1], z - center[2]) - radius


def capsule(
    x: Tensor, y: Tensor, z: Tensor, start: Point, end: Point, radius: float, end_radius: float
) -> Tensor:
    """Return the distance to a tapered capsule from `start` to `end`."""
    bx, by, bz = (end[i] - start[i] for i in range(3))
    px, py, pz = x - start[0], y - start[1], z - start[2]
    h = ((px * bx + py * by + pz * bz) / (bx * bx + by * by + bz * bz)).clamp(0, 1)
    return length(px - bx * h, py - by * h, pz - bz * h) - (radius + (end_radius - radius) * h)


# --- the parts of the head ---
