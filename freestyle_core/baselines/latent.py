"""Which w makes a picture: the first stage of both inversions, with the generator frozen.

Adam on one w for all layers ("w") or on one for each ("w+"), from the mean of many heads, with
StyleGAN2's schedule (Karras et al. 2020, appendix D): the rate rises over the first twentieth and
falls as a cosine over the last quarter, and noise that fades out is added to w. The loss is the
perceptual distance alone and, where the generator takes other noise than its own, what keeps the
noise maps noise. Read `find_latent`.

Shapes: L rows of w (`EG3DConfig.num_ws`), h the neural resolution.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import seeds
from ..checks import check_numbers
from ..errors import InputError
from ..geometry.cameras import front_camera
from ..metrics.image import psnr
from ..models.eg3d import EG3D
from ..models.layers import Noise
from ..progress import Progress, enter_phase, no_progress
from ..training.losses import Perceptual
from .noise_maps import fresh_maps, noise_loss, renormalise
from .view import View, pixel_loss, reduced

RAMP_UP, RAMP_DOWN = 0.05, 0.25  # shares of the steps in which the rate rises and falls
LEAST_PSNR = 15.0  # dB, between pictures with own and with other noise, where noise is detail
SYMMETRY_POINTS = 64  # per side of the lattice


@dataclass(frozen=True)
class LatentSettings:
    """The search for w; the defaults are those of 3DGAN-Inv with a known pose."""

    space: Literal["w", "w+"] = "w"
    steps: int = 400
    idle_steps: int = 50  # of them, in which only an unknown pose would be learned: not made
    learning_rate: float = 0.01  # the highest, reached after the first twentieth
    samples: int = 5000  # heads whose mean w is the start
    psi: float = 0.7  # their truncation
    starts: int = 0  # start from the nearest of so many of them instead of from their mean
    w_noise: float = 0.05  # times the spread of w, at the start
    w_noise_share: float = 0.75  # of the steps, after which there is none
    noise: Literal["auto", "own", "other"] = "auto"  # noise maps: see `noise_of`
    lambda_noise: float = 1e5
    lambda_pixel: float = 0.0  # of the squared difference; published: none
    lambda_symmetry: float = 0.0  # of `symmetry_loss`; below 0: computed and shown, not lowered

    def __post_init__(self) -> None:
        check_numbers(self)
        for name, choices in (("space", ("w", "w+")), ("noise", ("auto", "own", "other"))):
            if getattr(self, name) not in choices:
                raise InputError(
                    f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}"
                )
        if self.steps < 0 or self.idle_steps < 0 or self.samples < 2 or self.starts < 0:
            raise InputError(
                "steps, idle_steps and starts cannot be negative and samples must be at least 2, "
                f"got {self.steps}, {self.idle_steps}, {self.starts} and {self.samples}"
            )
        if not 0 < self.learning_rate < 1 or not 0 < self.w_noise_share <= 1:
            raise InputError(
                "learning_rate must lie between 0 and 1 and w_noise_share be above 0 and at most "
                f"1, got {self.learning_rate} and {self.w_noise_share}"
            )
        if min(self.w_noise, self.lambda_noise, self.lambda_pixel) < 0:
            raise InputError("w_noise, lambda_noise and lambda_pixel cannot be negative")

    def count(self) -> int:
        """Return how many steps are made."""
        return max(0, self.steps - self.idle_steps)

    def clock(self, step: int) -> float:
        """Return how much of the search is over before a step, 0 to below 1."""
        return step / max(1, self.count())

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        t = self.clock(step)
        falling = min(1.0, (1.0 - t) / RAMP_DOWN)
        falling = 0.5 - 0.5 * math.cos(math.pi * falling)
        return self.learning_rate * falling * min(1.0, t / RAMP_UP)

    def noise_scale(self, step: int) -> float:
        """Return how much noise is added to w in a step, times the spread of w."""
        return self.w_noise * max(0.0, 1.0 - self.clock(step) / self.w_noise_share) ** 2


@dataclass(frozen=True)
class Heads:
    """What is known of the heads of a generator."""

    w: Tensor  # [S,w_dim], truncated
    mean: Tensor  # [1,w_dim]
    spread: float  # root of the mean squared distance to the mean


@torch.no_grad()
def sampled_heads(eg3d: EG3D, settings: LatentSettings, seed: int) -> Heads:
    """Return w of many heads, as seen from the front."""
    parameter = next(eg3d.parameters())
    label = front_camera(eg3d.config.rig()).label().to(parameter)
    random = seeds.generator(seed)
    z = torch.randn(settings.samples, eg3d.config.z_dim, generator=random).to(parameter)
    parts = [eg3d.map(x, label.expand(len(x), -1), psi=settings.psi)[:, 0] for x in z.split(1000)]
    w = torch.cat(parts)
    mean = w.mean(dim=0, keepdim=True)
    return Heads(w, mean, float((w - mean).square().sum(dim=1).mean().sqrt()))


@dataclass(frozen=True)
class Latent:
    """What was found."""

    ws: Tensor  # [1,L,w_dim]
    noise: Noise  # with which the generator is to be tuned: its own, or drawn anew every time
    losses: dict[str, list[float]]


def find_latent(
    eg3d: EG3D,
    view: View,
    perceptual: Perceptual,
    settings: LatentSettings,
    *,
    seed: int = 0,
    progress: Progress = no_progress,
    preview_every: int = 10,
) -> Latent:
    """Return the ws whose head looks most like the view; the generator stays as it is."""
    heads = sampled_heads(eg3d, settings, seed)
    noise = noise_of(eg3d, view, heads, settings, seed)
    learner = copy.deepcopy(eg3d).requires_grad_(False)
    maps = fresh_maps(learner, seeds.step_generator(seed, 3)) if noise == "random" else []
    rows = eg3d.config.num_ws if settings.space == "w+" else 1
    start = _nearest(eg3d, view, perceptual, heads, settings) if settings.starts else heads.mean
    w = start.clone().expand(rows, -1).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([w, *maps], lr=settings.learning_rate, betas=(0.9, 0.999))
    random = seeds.step_generator(seed, 1)
    losses: dict[str, list[float]] = {}
    count = settings.count()
    for step in range(count):
        enter_phase(progress, "searching w, step", step, count)
        optimizer.param_groups[0]["lr"] = settings.rate(step)
        drawn = torch.randn(w.shape, generator=random).to(w)
        moved = w + drawn * (heads.spread * settings.noise_scale(step))
        ws = moved[None].expand(-1, eg3d.config.num_ws, -1)
        planes = learner.planes(ws)
        picture = view.of(learner, planes, ws).image
        terms = _terms(learner, picture, planes, view, perceptual, maps, settings)
        optimizer.zero_grad(set_to_none=True)
        sum(term for name, term in terms.items() if not name.startswith("shown")).backward()
        optimizer.step()
        renormalise(maps)
        for name, term in terms.items():
            losses.setdefault(name, []).append(float(term.detach()))
        show = preview_every and (step + 1) % preview_every == 0
        progress(step + 1, count, picture[0].detach().clamp(0, 1).cpu() if show else None)
    found = w.detach()[None].expand(-1, eg3d.config.num_ws, -1).clone()
    return Latent(found, noise, losses)


def _terms(
    eg3d: EG3D,
    picture: Tensor,
    planes: Tensor,
    view: View,
    perceptual: Perceptual,
    maps: list[nn.Parameter],
    settings: LatentSettings,
) -> dict[str, Any]:
    """Return the weighted terms of the loss, [] each; what is only shown is named so."""
    ours, theirs = (reduced(x) for x in (picture, view.picture))
    terms = {"perceptual": perceptual(ours, theirs).mean()}
    if settings.lambda_pixel:
        terms["pixel"] = settings.lambda_pixel * pixel_loss(picture, view.picture)
    if maps:
        terms["noise"] = settings.lambda_noise * noise_loss(maps)
    if settings.lambda_symmetry > 0:
        terms["symmetry"] = settings.lambda_symmetry * symmetry_loss(eg3d, planes)
    elif settings.lambda_symmetry < 0:
        with torch.no_grad():
            terms["shown symmetry"] = symmetry_loss(eg3d, planes)
    return terms


@torch.no_grad()
def noise_of(eg3d: EG3D, view: View, heads: Heads, settings: LatentSettings, seed: int) -> Noise:
    """Return whether the generator is used with its own noise maps or with others.

    Published is others: maps of the search's own, and fresh ones in every step of the tuning. That
    suits a generator that was trained so. The clay one was trained with its own maps alone and
    makes no head with others, which is what "auto" looks for.
    """
    if settings.noise != "auto":
        return "const" if settings.noise == "own" else "random"
    ws = heads.mean[:, None].expand(-1, eg3d.config.num_ws, -1)
    generator = seeds.step_generator(seed, 2)
    kinds: tuple[Noise, Noise] = ("const", "random")
    own, other = (
        view.of(eg3d, eg3d.planes(ws, noise=kind, generator=generator), ws).image for kind in kinds
    )
    return "random" if float(psnr(own, other)) >= LEAST_PSNR else "const"


def symmetry_loss(eg3d: EG3D, planes: Tensor) -> Tensor:  # [1,3,C,R,R] -> []
    """Return how unlike its mirror image the density is: sum of ((s(p) - s(p')) / 64)^2 / 1e4.

    s is the raw density, p the points of a lattice of 64^3 in the box and p' their mirror images
    (x -> -x).
    """
    half = eg3d.config.box_size / 2
    axis = torch.linspace(-half, half, SYMMETRY_POINTS).to(planes)
    points = torch.cartesian_prod(axis[: SYMMETRY_POINTS // 2], axis, axis)[None]
    mirrored = points * points.new_tensor([-1.0, 1.0, 1.0])
    renderer = eg3d.renderer()
    folded = renderer.fold(planes)
    here, there = (renderer.decode_density(folded, p) for p in (points, mirrored))
    # the other half of the lattice has the same differences
    return 2 * ((here - there) / SYMMETRY_POINTS).square().sum() / 1e4


@torch.no_grad()
def _nearest(
    eg3d: EG3D, view: View, perceptual: Perceptual, heads: Heads, settings: LatentSettings
) -> Tensor:
    """Return the w [1,w] of the sampled head that looks most like the view."""
    scores = []
    for w in heads.w[: settings.starts]:
        ws = w[None, None].expand(-1, eg3d.config.num_ws, -1)
        picture = view.of(eg3d, eg3d.planes(ws), ws).image
        scores.append(perceptual(reduced(picture), reduced(view.picture)).mean())
    return heads.w[int(torch.stack(scores).argmin())][None]
