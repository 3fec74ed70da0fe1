"""A portrait as Gaussian splats: sampled from its density, then fitted to its own pictures.

The surface gives the splats' places, sizes and directions, and the decoder their first colours.
Those are of the raw rendering; what a portrait is seen as comes out of super-resolution, which
works on pictures. So the splats are drawn from many sides and learn, by plain descent, to look like
the portrait's own pictures. Read `extract_splats`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor

from .. import seeds
from ..checks import check_numbers
from ..errors import InputError
from ..geometry.cameras import orbit_cameras
from ..geometry.rays import pixel_rays
from ..geometry.splats import render_splats, turning_z_to
from ..geometry.visibility import Sightings, sightings, vertex_normals
from ..geometry.volume import activate_density
from ..progress import Portion, Progress, enter_phase, no_progress
from ..types import CameraBatch, CameraRig, Portrait, Rendering, Splats
from .mesh import MeshSettings, extract_mesh, metres_per_unit
from .render import DEFAULT_SETTINGS, RenderSettings, render_views

WIDTH, THICKNESS = 0.6, 0.2  # standard deviations of a new splat, in lattice steps
# of a fitted one: narrower ones would leave gaps where a viewer comes near
LEAST_WIDTH, LEAST_THICKNESS, MOST_WIDTH = 0.2, 0.05, 3.0
FIRST_OPACITY = 0.9
MIST, MIST_STEPS = 10.0, 2.0  # density of what is seen through, lattice steps from the surface
INSIDE = 0.95  # alpha of a pixel that shows nothing but the head
UNSEEN = 0.02  # of a pixel: splats that never have more are inside the head
FRONT_SHARE = 0.75  # of the views, within the angles that the generator knows well
FRONT_DEG = (35.0, 30.0)  # yaw and pitch of those, to each side
AROUND_PITCH_DEG = 25.0
# of Adam, for each kind of number; places in lattice steps
RATES = {"places": 0.06, "sizes": 0.05, "turns": 0.02, "opacities": 0.15, "colors": 0.03}
FADE = 0.1  # of the rates is left at the end


@dataclass(frozen=True)
class SplatSettings:
    """How fine the splats are, and how long they learn."""

    resolution: int = 144  # lattice points along each side of the cube, about one splat each
    steps: int = 150  # of fitting, one picture each; 0 leaves them as sampled
    views: int = 48  # pictures they are fitted to
    level: float = 0.0  # density per scene unit where the surface is sampled; 0: where it is seen
    head_height_m: float = 0.25  # metres from chin to crown; 0 keeps scene units
    seed: int = 0  # of the views and their order

    def __post_init__(self) -> None:
        check_numbers(self)
        seeds.check_seed(self.seed)
        if not 16 <= self.resolution <= 512:
            raise InputError(f"splat resolution must be 16 to 512, got {self.resolution}; try 144")
        if not 0 <= self.steps <= 100_000:
            raise InputError(f"steps must be 0 to 100000, got {self.steps}; 150 is usual")
        if not 4 <= self.views <= 1000:
            raise InputError(f"views must be 4 to 1000, got {self.views}; 48 is usual")
        if self.level < 0:
            raise InputError(f"density level must not be negative, got {self.level}; 0 finds it")
        if not 0 <= self.head_height_m:
            raise InputError(f"head height must not be negative, got {self.head_height_m} metres")


@torch.no_grad()
def extract_splats(
    portrait: Portrait,
    *,
    settings: SplatSettings | None = None,
    render: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> Splats:
    """Return a portrait as splats, on the CPU, in the axes and the unit of `extract_mesh`."""
    settings = settings or SplatSettings()
    rig = portrait.renderer.config.rig()
    cameras = fitting_cameras(rig, settings.views, settings.seed)
    pictures = render_views(
        portrait, cameras, settings=render, progress=Portion(progress, 0.0, 0.2)
    )
    splats = sampled_splats(portrait, pictures, settings, progress=Portion(progress, 0.2, 0.3))
    if settings.steps:
        splats = fitted(
            splats,
            pictures,
            settings,
            white=portrait.renderer.config.white_background,
            progress=Portion(progress, 0.3, 1.0),
        )
    if not settings.head_height_m:
        return splats
    return splats.scaled(metres_per_unit(rig, settings.head_height_m))


def sampled_splats(
    portrait: Portrait,
    pictures: Rendering,  # V views of it
    settings: SplatSettings,
    *,
    progress: Progress = no_progress,
) -> Splats:
    """Return flat splats on the surface, one per vertex, on the CPU; scene units.

    A vertex and its normal give place and direction, its faces how far its splat must reach. Its
    colour is what the pictures show of it, more of those that see it squarely; what none shows has
    the decoder's.
    """
    level = settings.level or visible_level(portrait, pictures)
    step = portrait.triplane.box_size / (settings.resolution - 1)
    points, faces, colors = _surface(portrait, level, settings, Portion(progress, 0.0, 0.5))
    normals, area = vertex_normals(points, faces)
    opacities = torch.full_like(area, FIRST_OPACITY)
    if level > MIST:
        mist, faces, paint = _surface(portrait, MIST, settings, Portion(progress, 0.5, 1.0))
        around = vertex_normals(mist, faces)
        away, _ = cKDTree(points.numpy()).query(
            mist.numpy(), distance_upper_bound=MIST_STEPS * step
        )
        loose = torch.from_numpy(np.isinf(away))
        points = torch.cat([points, mist[loose]])
        colors = torch.cat([colors, paint[loose]])
        normals = torch.cat([normals, around[0][loose]])
        area = torch.cat([area, around[1][loose]])
        thin = torch.full_like(area[len(opacities) :], 1 - math.exp(-MIST * step))
        opacities = torch.cat([opacities, thin])
    wide = (area.sqrt().clamp(step / 3, step) * WIDTH)[:, None]
    scales = torch.cat([wide, wide, torch.full_like(wide, step * THICKNESS)], dim=1)
    colors = _seen_colors(points, normals, pictures, colors)
    return Splats(points, scales, turning_z_to(normals), opacities, colors)


def _surface(
    portrait: Portrait, level: float, settings: SplatSettings, progress: Progress
) -> tuple[Tensor, Tensor, Tensor]:
    """Return vertices [P,3] in scene units, faces [Q,3] and the decoder's colours [P,3]."""
    surface = extract_mesh(
        portrait,
        settings=MeshSettings(
            resolution=settings.resolution,
            level=level,
            largest_only=False,
            flat_base=False,
            head_height_m=0.0,
        ),
        progress=progress,
    )
    return surface.vertices, surface.faces, surface.colors


def _seen_colors(points: Tensor, normals: Tensor, pictures: Rendering, colors: Tensor) -> Tensor:
    """Return what the pictures show at points [P,3], and the colours given where none does."""
    depth, alpha, cameras = pictures.depth.cpu(), pictures.alpha.cpu(), pictures.cameras.to("cpu")
    seen = sightings(points, normals, depth, alpha, cameras, solid=INSIDE)
    total = torch.zeros_like(colors)
    for view, image in enumerate(pictures.image.cpu().split(1)):
        one = Sightings(seen.places[[view]], seen.facing[[view]])
        total += one.colors(image)[0] * one.facing[0, :, None] ** 2
    weight = seen.facing.square().sum(0)[:, None]
    return torch.where(weight > 0, total / weight.clamp_min(1e-9), colors)


def visible_level(portrait: Portrait, pictures: Rendering) -> float:
    """Return the density where the pictures' depth lies, half of it at least: per scene unit.

    That is the surface which is seen; the usual level of a mesh lies before it, in thin air.
    """
    rays = pixel_rays(pictures.cameras[0], pictures.depth.shape[-1])
    points = rays.at(pictures.depth[:1].flatten(2).transpose(1, 2))[0]
    solid = pictures.alpha[0].flatten() > INSIDE
    if not bool(solid.any()):
        return MeshSettings.level
    planes = portrait.renderer.fold(portrait.triplane.planes[:1], portrait.triplane.regions)
    raw = portrait.renderer.decode_density(planes, points[solid][None])
    return float(activate_density(raw).median())


def fitting_cameras(rig: CameraRig, views: int, seed: int) -> CameraBatch:
    """Return the cameras of the pictures: most of them in front, the others all round."""
    front = round(FRONT_SHARE * views)
    draw = torch.rand(front, 2, generator=seeds.generator(seed), dtype=torch.float64) * 2 - 1
    around = views - front
    yaw = [
        *(draw[:, 0] * FRONT_DEG[0]).tolist(),
        *(360 * (i + 0.5) / around for i in range(around)),
    ]
    turns = [(-1) ** i * AROUND_PITCH_DEG * (i % 3) / 2 for i in range(around)]
    return orbit_cameras(yaw, [*(draw[:, 1] * FRONT_DEG[1]).tolist(), *turns], rig)


def fitted(
    splats: Splats,
    pictures: Rendering,  # V views
    settings: SplatSettings,
    *,
    white: bool,  # whether what shows no splat is white; else it is not looked at
    progress: Progress = no_progress,
) -> Splats:
    """Return the splats, on the CPU, after so many steps towards the pictures.

    Those that no picture shows are left out.
    """
    # a host may have switched gradients off, and gives tensors that nothing can be learnt from
    with torch.inference_mode(False), torch.enable_grad():
        images = pictures.image.detach().clone()
        cameras = pictures.cameras.clone()
        learnt = _Learnt(splats, images.device)
        random, views = seeds.generator(settings.seed), len(images)
        rounds = range(settings.steps // views + 1)
        order = torch.cat([torch.randperm(views, generator=random) for _ in rounds])
        most = torch.zeros(len(splats), device=images.device)
        for step in range(settings.steps):
            enter_phase(progress, "fitting splats, step", step, settings.steps)
            view = int(order[step])
            target = images[view]
            shown = render_splats(
                learnt.splats(),
                cameras[view],
                target.shape[-1],
                background=1.0 if white else target,
            )
            most = torch.maximum(most, shown.most)
            learnt.step((shown.image - target).square().mean(), step / settings.steps)
            progress(step + 1, settings.steps, shown.image.detach().clamp(0, 1))
        return learnt.kept(most > UNSEEN)


class _Learnt:
    """The numbers of splats as they are learnt: sizes as logarithms, opacities as logits."""

    def __init__(self, splats: Splats, device: torch.device) -> None:
        def own(x: Tensor) -> Tensor:
            return x.detach().clone().to(device).requires_grad_()

        self._places = splats.positions.detach().clone().to(device)
        self._unit = float(splats.scales.median()) / WIDTH  # a lattice step, about
        self._moves = own(torch.zeros_like(splats.positions))  # in steps
        self._sizes = own(splats.scales.log())
        self._turns = own(splats.rotations)
        self._opacities = own(splats.opacities.logit())
        self._colors = own(splats.colors)
        least = torch.tensor([LEAST_WIDTH, LEAST_WIDTH, LEAST_THICKNESS], device=device)
        self._least = least * self._unit
        kinds = (self._moves, self._sizes, self._turns, self._opacities, self._colors)
        groups = [
            {"params": [x], "lr": rate} for x, rate in zip(kinds, RATES.values(), strict=True)
        ]
        self._adam = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15)
        self._rates = list(RATES.values())

    def splats(self) -> Splats:
        """Return them as they are now."""
        return Splats(
            self._places + self._moves * self._unit,
            torch.maximum(self._sizes.exp(), self._least).clamp(max=MOST_WIDTH * self._unit),
            F.normalize(self._turns, dim=-1),
            self._opacities.sigmoid(),
            self._colors,
        )

    def step(self, loss: Tensor, done: float) -> None:
        """Lower the loss by a step; the rates fall as `done` goes from 0 to 1."""
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        for group, rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"] = rate * FADE**done
        self._adam.step()

    @torch.no_grad()
    def kept(self, rows: Tensor) -> Splats:  # bool [P]
        """Return the chosen ones."""
        made = self.splats().part(rows)
        return replace(made, colors=made.colors.clamp(0, 1)).to("cpu")
