"""Painted balls whose pictures and depth are known exactly: a world for everything about warps."""

import torch

from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.geometry.rays import pixel_rays
from freestyle_core.types import CameraRig, Rendering

RIG = CameraRig(2.7, (0.0, 0.0, 0.0), 4.2647)
BALL = ((0.0, 0.0, 0.0), 0.25)
NOSE = ((0.0, 0.0, 0.4), 0.06)  # a small ball in front of the large one
WAVES = torch.tensor([[20.0, 3.0, 0.0], [0.0, 17.0, 4.0], [5.0, 0.0, 14.0]])


def painted(points, turn=0.0):
    """Return the colour [...,3] of points: slow waves fixed to space, or turned about y."""
    turn = torch.as_tensor(turn)
    x, y, z = points.unbind(-1)
    x, z = turn.cos() * x + turn.sin() * z, turn.cos() * z - turn.sin() * x
    return 0.5 + 0.4 * torch.sin(torch.stack([x, y, z], dim=-1) @ WAVES.T)


def balls(cameras, size=48, *, spheres=(BALL,), turn=0.0, depth_size=None):
    """Return an exact `Rendering` of balls on white; `turn` [V] is the paint's, for each view."""
    turn = torch.as_tensor(turn, dtype=torch.float32).expand(len(cameras))
    depth, alpha, points = _hits(cameras, size, spheres)
    colour = painted(points, turn[:, None]).clamp(0, 1)
    colour = torch.where(alpha[..., None] > 0, colour, torch.ones_like(colour))
    image = colour.transpose(1, 2).unflatten(2, (size, size))
    low = depth_size or size
    if low != size:
        depth, alpha, _ = _hits(cameras, low, spheres)
    maps = [x.unflatten(1, (low, low))[:, None] for x in (depth, alpha)]
    return Rendering(image, image, *maps, cameras)


def ball_view(size=48, **options):
    """Return what renders the balls for `evaluate_portrait`."""
    return lambda cameras: balls(cameras, size, **options)


def row(*yaws, pitch=0.0):
    return orbit_cameras(list(yaws), [pitch] * len(yaws), RIG)


def _hits(cameras, size, spheres):
    """Return depth and alpha [V,M] and the points [V,M,3] that the rays meet first."""
    rays = pixel_rays(cameras, size)
    nearest = torch.full(rays.origins.shape[:2], torch.inf)
    for centre, radius in spheres:
        off = rays.origins - torch.tensor(centre)
        b = (off * rays.directions).sum(-1)
        root = b.square() - off.square().sum(-1) + radius**2
        t = torch.where(root > 0, -b - root.clamp_min(0).sqrt(), torch.full_like(b, torch.inf))
        nearest = torch.minimum(nearest, t)
    hit = nearest.isfinite()
    depth = torch.where(hit, nearest, torch.full_like(nearest, 3.3))
    return depth, hit.float(), rays.at(depth[..., None])
