"""A finished distillation as something that is rendered like a portrait: `DistilledHead`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...geometry.rays import Rays, pixel_rays
from ...progress import Progress, no_progress
from ...types import CameraBatch, Rendering
from .cameras import Placement
from .field import Field
from .march import Look, Occupancy, march
from .shading import Shading, unit

RAYS_AT_ONCE = 2**12  # keeps a processor's cache
HEADLIGHT_AMBIENT = 0.55  # the mean of the ambient light of training


@dataclass(frozen=True)
class DistilledHead:
    """A field placed in our scene; the front of the head looks towards +z.

    `render` shows it on white, lit from the camera by default (the middle of what training shows).
    Where it was trained with a background of its own, that is left out.
    """

    field: Field  # the average, frozen
    occupancy: Occupancy
    placement: Placement
    image_resolution: int
    samples: int  # a ray, as many as in training
    losses: dict[str, list[float]]  # of every step, by name
    provenance: dict[str, Any]

    @torch.no_grad()
    def render(
        self,
        cameras: CameraBatch,  # V, in the scene of the generator
        *,
        shading: Shading = "lambertian",
        progress: Progress = no_progress,
    ) -> Rendering:
        """Return V views in [0,1] at the generator's image size; depth is in scene units."""
        device = self.occupancy.density.device
        placed = self.placement.into_field(cameras.to(device))
        planes, filled = self.field.folded(), self.occupancy.filled()
        side, views = self.image_resolution, []
        for index in range(len(placed)):
            rays = pixel_rays(placed[index], side)
            parts = [
                self._rows(rays.part(slice(first, first + RAYS_AT_ONCE)), planes, filled, shading)
                for first in range(0, side * side, RAYS_AT_ONCE)
            ]
            views.append(torch.cat(parts))
            progress(index + 1, len(placed))
        maps = torch.stack(views).transpose(1, 2).reshape(len(placed), 5, side, side)
        image = maps[:, :3].clamp(0, 1)
        return Rendering(
            image=image,
            raw=image,
            depth=maps[:, 3:4] / self.placement.scale,
            alpha=maps[:, 4:5].clamp(0, 1),
            cameras=cameras,
        )

    def _rows(self, rays: Rays, planes: Any, filled: Tensor, shading: Shading) -> Tensor:
        """Return colour, depth and alpha [M,5] of rays."""
        look = Look(shading, HEADLIGHT_AMBIENT, unit(rays.origins[0]))
        seen = march(self.field, planes, filled, rays, self.samples, look)
        colour = seen.colour + (1 - seen.alpha)[:, None]
        return torch.cat([colour, seen.depth[:, None], seen.alpha[:, None]], dim=1)
