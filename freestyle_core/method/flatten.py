"""A portrait that is mixed by region becomes one of ordinary planes again, nearly.

Planes are projections, so they cannot hold what is cut out of space exactly. `flattened` finds the
planes that come nearest on the surface, by least squares: features are linear in planes, so that
conjugate gradients find them without a learning rate. It is where fine-tuning starts from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..geometry.cameras import orbit_cameras
from ..geometry.rays import pixel_rays
from ..geometry.triplane import sample_folded
from ..types import Portrait, Triplane
from .render import render_views

YAWS_DEG = (0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0)
PITCHES_DEG = (-20.0, 20.0)
SPREAD = 0.01  # of points about the surface, a share of the cube
COPIES = 2  # points about each point of the surface
ANYWHERE, ELSEWHERE = 20_000, 0.1  # points in the whole cube, which stay as empty, their weight
DAMPING = 1e-3  # of the squares of what is added to the planes, against those of the misfit
STEPS = 20


def flattened(portrait: Portrait) -> Portrait:
    """Return the portrait without regions, its planes as near as planes can come.

    A portrait without regions comes back as it is.
    """
    if not portrait.triplane.regions:
        return portrait
    with torch.inference_mode(False), torch.no_grad():  # gradients are not for that mode
        return _flattened(portrait)


def _flattened(portrait: Portrait) -> Portrait:
    triplane, renderer = portrait.triplane, portrait.renderer
    points, weights = _points(portrait)
    wanted = sample_folded(renderer.fold(triplane.planes, triplane.regions), points)
    missing = wanted - sample_folded(renderer.fold(triplane.planes), points)
    added = _least_squares(
        lambda planes: weights * sample_folded(renderer.fold(planes), points),
        weights * missing,
        torch.zeros_like(triplane.planes),
    )
    return replace(portrait, triplane=Triplane(triplane.planes + added, triplane.box_size))


def _points(portrait: Portrait) -> tuple[Tensor, Tensor]:
    """Return points [1,N,3], most of them near the surface, and their weights [N]."""
    yaws = [yaw for yaw in YAWS_DEG for _ in PITCHES_DEG]
    pitches = [pitch for _ in YAWS_DEG for pitch in PITCHES_DEG]
    view = render_views(portrait, orbit_cameras(yaws, pitches, portrait.renderer.config.rig()))
    rays = pixel_rays(view.cameras, view.depth.shape[-1])
    surface = rays.at(view.depth.flatten(1)[..., None])[view.alpha.flatten(1) > 0.5]
    box, generator = portrait.triplane.box_size, torch.Generator().manual_seed(0)
    noise = torch.randn((COPIES, *surface.shape), generator=generator).to(surface)
    near = (surface + SPREAD * box * noise).flatten(0, 1)
    anywhere = ((torch.rand(ANYWHERE, 3, generator=generator) - 0.5) * box).to(near)
    weights = torch.cat([near.new_ones(len(near)), near.new_full((len(anywhere),), ELSEWHERE)])
    return torch.cat([near, anywhere])[None], weights


def _least_squares(apply: Callable[[Tensor], Tensor], wanted: Tensor, start: Tensor) -> Tensor:
    """Return x that brings the linear `apply`(x) nearest to `wanted`, by conjugate gradients."""

    with torch.enable_grad():
        variable = start.clone().requires_grad_(True)
        image = apply(variable)

    def back(misfit: Tensor) -> Tensor:  # the transpose, which is the same everywhere
        return torch.autograd.grad(image, variable, misfit, retain_graph=True)[0]

    x, misfit = torch.zeros_like(start), wanted
    towards = slope = back(misfit)
    size = first = float(slope.square().sum())
    for _ in range(STEPS):
        if size <= 1e-10 * first:
            break
        changed = apply(towards)
        step = size / float(changed.square().sum() + DAMPING * towards.square().sum())
        x, misfit = x + step * towards, misfit - step * changed
        slope = back(misfit) - DAMPING * x
        size, before = float(slope.square().sum()), size
        towards = slope + (size / before) * towards
    return x
