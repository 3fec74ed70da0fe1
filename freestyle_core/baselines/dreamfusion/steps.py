"""One distillation: what its steps draw, render and lower. Read `Distillation.one_step` first.

A step is a function of its number: its random numbers come from `step_generator`, so a stopped run
goes on as if it had never stopped.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import FreeStyleError
from ...geometry.rays import Rays, pixel_rays
from ...models.text_to_image import TextToImage
from ...seeds import step_generator
from ...training.adan import Adan
from ...training.checkpoint import TrainingState, pack, unpack
from ...types import CameraRig
from .cameras import View, draw_view
from .field import Field
from .guidance import Words, draw_time, sds_gradient, sds_loss
from .march import CELLS, Look, Marched, Occupancy, march
from .settings import DreamFusionSettings
from .shading import Shading, entropy, entropy_ramp, light_directions, orientation

LOSSES = ("sds", "entropy", "orientation")
LOOK_EVERY = 16  # steps between two looks at where the box is empty
NORMAL_LATENTS = 4  # channels of the latents that normals and opacity can stand for


@dataclass(frozen=True)
class Drawn:
    """What chance decides in a step."""

    view: View
    shading: Shading
    ambient: float
    light: Tensor  # [3], normal numbers
    own_background: bool
    colour: Tensor  # [3], of the background otherwise
    jitter: Tensor  # [M,S]
    time: int  # step of the noise schedule
    noise: Tensor  # [1,C,h,w]


class Distillation:
    """The field that learns, its average, and what they learn from."""

    def __init__(
        self, prompt: str, teacher: TextToImage, rig: CameraRig, settings: DreamFusionSettings
    ) -> None:
        self.settings, self.teacher, suits = settings, teacher, teacher.suits
        self.device = teacher.device
        self.prompt = suits.prompt(prompt)
        self.words = Words(teacher, self.prompt, suits.negative)
        self.scale, self.ranges = settings.scale(suits), settings.ranges(suits, rig)
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(step_generator(settings.seed, -1).get_state())
            field = Field(
                settings.channels, settings.plane_resolutions, settings.hidden, settings.layers
            )
        self.field = field.to(self.device)
        self.average = copy.deepcopy(self.field).eval().requires_grad_(False)
        self.occupancy = Occupancy().to(self.device)
        self.optimizer = Adan(
            self.field.rates(settings.learning_rate, settings.plane_rate),
            settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            max_norm=settings.max_norm,
        )
        self.step = 0
        self.losses: dict[str, list[float]] = {name: [] for name in LOSSES}

    def one_step(self) -> None:
        """Look at the field once and change it as the teacher wishes."""
        if self.step % LOOK_EVERY == 0:
            self._look()
        drawn = self.draw(self.step)
        rays = pixel_rays(drawn.view.camera.to(self.device), self.settings.resolution)
        seen = self._march(rays, drawn)
        losses = self._losses(seen, rays, drawn)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        self._note(losses)
        self.optimizer.step()
        with torch.no_grad():
            old: list[Tensor] = list(self.average.parameters())
            new: list[Tensor] = list(self.field.parameters())
            torch._foreach_lerp_(old, new, 1 - self.settings.average)
        self.step += 1

    def draw(self, step: int) -> Drawn:
        """Return what chance decides at a step, drawn on the CPU."""
        settings, teacher = self.settings, self.teacher
        random = step_generator(settings.seed, step)
        view = draw_view(self.ranges, torch.rand(4, generator=random))
        kind, dim, own = torch.rand(3, generator=random).tolist()
        early = self.is_early(step)
        shading: Shading = "lambertian" if kind >= settings.textureless else "textureless"
        if early:
            shading = "normal" if self.in_latents else "albedo"
        least = settings.least_ambient
        side = max(1, teacher.image_size // teacher.factor)
        return Drawn(
            view=view,
            shading=shading,
            ambient=1.0 if early else least + (1 - least) * dim,
            light=torch.randn(3, generator=random),
            own_background=own < settings.own_background,
            colour=torch.rand(3, generator=random),
            jitter=torch.rand(settings.resolution**2, settings.samples, generator=random),
            time=draw_time(teacher, random),
            noise=torch.randn(1, teacher.latent_channels, side, side, generator=random),
        )

    def is_early(self, step: int) -> bool:
        """Return whether a step belongs to the first share of the iterations."""
        return step < self.settings.latent_share * self.settings.iterations

    @property
    def in_latents(self) -> bool:
        """Whether normals and opacity can be taken for latents, as early steps do."""
        return self.teacher.latent_channels == NORMAL_LATENTS

    def _look(self) -> None:
        random = step_generator(self.settings.seed, -2 - self.step)
        jitter = torch.rand(CELLS**3, 3, generator=random).to(self.device)
        self.occupancy.look(self.field, self.field.folded(), jitter)

    def _march(self, rays: Rays, drawn: Drawn) -> Marched:
        light = light_directions(rays.origins[0], drawn.light.to(self.device))
        look = Look(drawn.shading, drawn.ambient, light)
        filled, jitter = self.occupancy.filled(), drawn.jitter.to(self.device)
        planes = self.field.folded()
        return march(self.field, planes, filled, rays, self.settings.samples, look, jitter)

    def _losses(self, seen: Marched, rays: Rays, drawn: Drawn) -> dict[str, Tensor]:
        settings = self.settings
        latents = self._latents(seen, rays, drawn)
        gradient = sds_gradient(
            self.teacher,
            latents,
            drawn.noise.to(self.device),
            drawn.time,
            self.words.at(drawn.view.azimuth_deg),
            self.scale,
        )
        ramp = entropy_ramp(self.step, settings.iterations)
        faces = latents.new_zeros(())
        if seen.normal is not None:
            samples = settings.samples
            shown, along = seen.weights.flatten()[seen.shown], rays.directions[0]
            faces = orientation(shown, seen.normal, along[seen.shown // samples], len(along))
        return {
            "sds": sds_loss(latents, gradient),
            "entropy": settings.lambda_entropy * ramp * entropy(seen.weights),
            "orientation": settings.lambda_orientation * faces,
        }

    def _latents(self, seen: Marched, rays: Rays, drawn: Drawn) -> Tensor:
        """Return the latents [1,C,h,w] of what is seen, with a gradient."""
        side, teacher = self.settings.resolution, self.teacher
        behind = self._behind(rays, drawn)
        image = seen.colour + (1 - seen.alpha)[:, None] * behind
        if drawn.shading == "normal":
            maps = torch.cat([image, seen.alpha[:, None]], dim=1)
            maps = maps.t().reshape(1, NORMAL_LATENTS, side, side)
            size = teacher.image_size // teacher.factor
            return 2 * F.interpolate(maps, size=(size, size), mode="bilinear") - 1
        picture = image.t().reshape(1, 3, side, side)
        size = teacher.image_size
        picture = F.interpolate(picture, size=(size, size), mode="bilinear")
        return teacher.encode(picture)

    def _behind(self, rays: Rays, drawn: Drawn) -> Tensor:
        """Return the colours [M,3] or [3] of the background."""
        if self.teacher.suits.white:
            return torch.ones(3, device=self.device)
        if drawn.own_background:
            return self.field.background(rays.directions[0])
        return drawn.colour.to(self.device)

    def _note(self, losses: dict[str, Tensor]) -> None:
        for name, loss in losses.items():
            value = loss.item()
            if not abs(value) < float("inf"):
                raise FreeStyleError(
                    f"the distillation diverged at step {self.step + 1} ({name} is {value}); lower "
                    "the learning rate or the guidance"
                )
            self.losses[name].append(value)

    def _networks(self) -> dict[str, nn.Module]:
        return {"field": self.field, "average": self.average, "occupancy": self.occupancy}

    def task(self) -> str:
        """Return what a checkpoint must have in common with this run."""
        return f"{self.prompt!r}, {self.ranges}, {replace(self.settings, preview_every=0)}"

    def state(self) -> TrainingState:
        """Return a copy of all that changes from step to step."""
        return pack(self.step, self.task(), self._networks(), self.optimizer, self.losses)

    def load(self, state: TrainingState) -> None:
        """Go on from a checkpoint of the same task."""
        self.losses = unpack(
            state,
            self.task(),
            self._networks(),
            self.optimizer,
            losses=LOSSES,
            moments=Adan.moments,
        )
        self.step = state.step

    def history(self) -> dict[str, Any]:
        """Return how the field came about, as plain values."""
        return {
            "method": "dreamfusion",
            "prompt": self.prompt,
            "steps": self.step,
            "guidance": self.scale,
            "views": asdict(self.ranges),
            "image_left_out": self.teacher.is_editor,
            "settings": asdict(self.settings),
        }
