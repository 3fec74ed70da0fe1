"""Draw procedural heads: sphere tracing, soft material borders, and a fixed studio light.

The light and the highlights do not depend on the camera, because EG3D's decoder sees no viewing
direction: to it a true highlight is noise. Backgrounds are white.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..geometry.rays import pixel_rays
from ..types import CameraBatch
from .heads.head import (
    EYE,
    LIFT,
    MOUTH_Y,
    SCALE,
    eye_place,
    head_field,
    identity_parameters,
    mouth_lift,
    palette,
)
from .styles.catalogue import Style

BORDER = 0.0012  # head units: width of the blend between materials, antialiases them for free
BOUND = 0.60  # head units: radius of the sphere that holds the whole bust
STEPS, RELAXATION, SURFACE = 28, 0.97, 9e-4
KEY = F.normalize(torch.tensor([-0.45, 0.62, 0.64]), dim=0)
FILL = F.normalize(torch.tensor([0.75, 0.05, 0.60]), dim=0)
BACK = F.normalize(torch.tensor([0.35, 0.35, -0.85]), dim=0)
HALF = F.normalize(KEY + torch.tensor([0.0, 0.0, 1.0]), dim=0)

Field = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Head:
    """A head ready to be drawn: its distance field, colours and style."""

    parameters: dict[str, float]
    colors: dict[str, Any]  # Tensor [3]; gloss, glint and blush_strength are numbers
    style: Style | None = None

    def field(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return the distances [6,N] to every material, in head units."""
        f = head_field(x, y, z, self.parameters)
        if self.style and self.style.field:
            f = self.style.field(f, x, y, z, self.parameters)
        return f

    def distance(self, points: Tensor) -> Tensor:
        """Return the distance [N] to the surface at points [N,3] in scene units, scene units."""
        q = to_head_units(points)
        return self.field(q[:, 0], q[:, 1], q[:, 2]).amin(0) * SCALE


def to_head_units(points: Tensor) -> Tensor:
    """Return scene points [...,3] in head units."""
    return (points - points.new_tensor([0.0, LIFT, 0.0])) / SCALE


def plain_head(z: Tensor) -> Head:
    """Return the unstyled head of identity code [64]."""
    p = identity_parameters(z)
    return Head(p, palette(p))


def styled_head(z: Tensor, style: Style) -> Head:
    """Return the head of identity code [64], restyled."""
    p = style.apply(identity_parameters(z))
    colors: dict[str, Any] = {**palette(p)}
    for name, value in style.palette.items():
        colors[name] = torch.tensor(value) if isinstance(value, tuple) else value
    return Head(p, colors, style)


def _march(head: Head, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance along each ray to the surface [N] and whether it was hit [N]."""
    n = origins.shape[0]
    t_hit, hit = torch.full((n,), 9.0), torch.zeros(n, dtype=torch.bool)
    b = (origins * directions).sum(-1)
    disc = b * b - ((origins * origins).sum(-1) - BOUND**2)
    alive = (disc > 0).nonzero()[:, 0]
    o, d = origins[alive], directions[alive]
    root = disc[alive].sqrt()
    t, t_max = -b[alive] - root, -b[alive] + root
    for step in range(STEPS):
        q = o + d * t[:, None]
        s = head.field(q[:, 0], q[:, 1], q[:, 2]).amin(0)
        t = t + s * RELAXATION
        last = step == STEPS - 1
        if step % 3 == 2 or last:  # dropping finished rays more often costs more than it saves
            done = (s < SURFACE) | (t > t_max) | last
            found = done & (t < t_max) & (s < 0.01)
            t_hit[alive[found]], hit[alive[found]] = t[found], True
            keep = ~done
            alive, o, d, t, t_max = alive[keep], o[keep], d[keep], t[keep], t_max[keep]
            if alive.numel() == 0:
                break
    return t_hit, hit


def _normals(head: Head, q: Tensor) -> Tensor:
    corners = torch.tensor([[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])
    p = (q[None] + 0.0012 * corners[:, None]).reshape(-1, 3)
    s = head.field(p[:, 0], p[:, 1], p[:, 2]).amin(0).reshape(4, -1)
    return F.normalize((s[:, :, None] * corners[:, None]).sum(0), dim=-1)


def _smoothstep(low: float, high: float, value: Tensor) -> Tensor:
    u = ((value - low) / (high - low)).clamp(0, 1)
    return u * u * (3 - 2 * u)


def _eye_colors(head: Head, q: Tensor) -> tuple[Tensor, Tensor]:
    """Return the painted eye [N,3] and the strength [N] of the glint, at a fixed place."""
    p, pal = head.parameters, head.colors
    ex, ey, ez, er = eye_place(p)
    x = q[:, 0].abs() / p["width"]
    lx, ly = (x - ex) / er, (q[:, 1] - ey) / er
    r = (((lx + 0.10) ** 2 + ly**2) + 1e-9).sqrt()  # both eyes look a little inward
    front = torch.sigmoid((q[:, 2] - ez) * 400)
    iris = (1 - _smoothstep(0.56, 0.64, r)) * front
    pupil = (1 - _smoothstep(0.26, 0.33, r)) * front
    ring = 1 - 0.5 * _smoothstep(0.42, 0.60, r)
    iris_color = pal["iris"] * ((1.15 - 0.30 * ly.clamp(-1, 1)) * ring)[:, None]
    color = torch.lerp(pal["sclera"].expand(len(q), 3), iris_color, iris[:, None])
    color = torch.lerp(color, torch.full_like(color, 0.03), pupil[:, None])
    sx = q[:, 0].sign() * lx
    big = 1 - _smoothstep(0.10, 0.16, ((sx + 0.20) ** 2 + (ly - 0.26) ** 2).sqrt())
    small = 1 - _smoothstep(0.05, 0.10, ((sx - 0.18) ** 2 + (ly + 0.20) ** 2).sqrt())
    return color, (big + 0.5 * small).clamp(0, 1) * front * pal["glint"]


def _material_colors(head: Head, q: Tensor) -> tuple[Tensor, Tensor]:
    """Return the colours [6,N,3] of all materials at q and the eye glint [N]."""
    p, pal, n = head.parameters, head.colors, len(q)
    x = q[:, 0].abs() / p["width"]

    def spot(cx, cy, cz, radius):
        d2 = (x - cx) ** 2 + (q[:, 1] - cy) ** 2 + (q[:, 2] - cz) ** 2
        return torch.exp(-d2 / radius**2)[:, None] * pal["blush_strength"]

    blush = pal["blush"] * (0.45 + 0.55 * pal["skin"].mean())
    skin = torch.lerp(pal["skin"].expand(n, 3), blush, 0.42 * spot(0.1, -0.062, 0.15, 0.05))
    skin = torch.lerp(skin, blush, 0.22 * spot(0, -0.05, 0.23, 0.032))
    eye, glint = _eye_colors(head, q)
    seam = q[:, 1] - mouth_lift(x, p) - MOUTH_Y - 0.0005
    lip = pal["lip"] * (1 - 0.55 * torch.exp(-((seam / 0.0028) ** 2)))[:, None]
    hair = pal["hair"].expand(n, 3)
    brow = (pal["hair"] * 0.72).expand(n, 3)
    return torch.stack([skin, hair, pal["cloth"].expand(n, 3), eye, brow, lip]), glint


def shade(head: Head, q: Tensor) -> Tensor:
    """Return the lit colours [N,3] in [0,1] at surface points q [N,3] (head units)."""
    style, pal = head.style, head.colors
    normal = _normals(head, q)
    weights = torch.softmax(-head.field(q[:, 0], q[:, 1], q[:, 2]) / BORDER, 0)  # [6,N]
    colors, glint = _material_colors(head, q)
    if style and style.texture:
        colors = style.texture(q, normal, colors, head.parameters)
    albedo = (weights[:, :, None] * colors).sum(0)
    ao = torch.ones(len(q))
    for height, strength in ((0.012, 0.30), (0.035, 0.24), (0.08, 0.15)):
        tap = q + normal * height
        clearance = head.field(tap[:, 0], tap[:, 1], tap[:, 2]).amin(0)
        ao = ao - strength * (height - clearance).clamp_min(0) / height
    ao = ao.clamp(0.25, 1)[:, None]
    key = ((normal @ KEY) * 0.62 + 0.38).clamp_min(0)[:, None]
    fill = ((normal @ FILL) * 0.5 + 0.5).clamp_min(0)[:, None]
    up = normal[:, 1:2]
    light = key * torch.tensor([1.0, 0.955, 0.88]) * 0.92
    light = light + fill * torch.tensor([0.78, 0.84, 1.0]) * 0.26
    light = light + (up * 0.5 + 0.5) * torch.tensor([0.85, 0.92, 1.0]) * 0.24
    light = light + (normal @ BACK).clamp_min(0)[:, None] * torch.tensor([0.62, 0.60, 0.66])
    bounce = (-up).clamp_min(0) * torch.tensor([0.075, 0.05, 0.04])
    color = albedo * (light * (ao * 0.85 + 0.15 * pal["skin"]) + bounce)
    specular = (normal @ HALF).clamp_min(0)
    gloss = (weights * torch.tensor([0.10, 0.16, 0.02, 0.10, 0.03, 0.22])[:, None]).sum(0)
    shine = pal["gloss"] * gloss * (0.9 * specular**24 + 0.21 * specular**5)
    color = color + shine[:, None] * ao + 0.95 * (glint * weights[EYE])[:, None]
    if style and style.post:
        color = style.post(q, normal, color, albedo, ao, weights, specular)
    return color.clamp(0, 1)


@torch.no_grad()
def draw(
    head: Head,
    cameras: CameraBatch,
    resolution: int = 128,
    *,
    supersample: int = 1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return images [V,3,H,H] on white, alpha [V,1,H,H] and depth [V,1,H,H] (0 where empty).

    Args:
        resolution: pixels per side, H.
        supersample: rays per pixel and axis; 2 gives smooth silhouettes at 4 times the cost.
    """
    size, views = resolution * supersample, len(cameras)
    rays = pixel_rays(cameras, size)
    o = to_head_units(rays.origins.reshape(-1, 3))
    directions = rays.directions.reshape(-1, 3)
    t, hit = _march(head, o, directions)
    image = torch.ones(len(o), 3)
    image[hit] = shade(head, o[hit] + directions[hit] * t[hit][:, None])
    image = image.reshape(views, size, size, 3).permute(0, 3, 1, 2)
    alpha = hit.float().reshape(views, 1, size, size)
    depth = torch.where(hit, t * SCALE, torch.zeros_like(t)).reshape(views, 1, size, size)
    if supersample > 1:
        image, mean = (F.avg_pool2d(v, supersample) for v in (image, alpha))
        depth, alpha = F.avg_pool2d(depth, supersample) / mean.clamp_min(1e-3), mean
    if head.style and head.style.image_filter:
        image = head.style.image_filter(image, alpha)
    return image.contiguous(), alpha, depth
