"""HFGI3D: one picture becomes a head by way of pseudo-views of it from all around.

Written from the description of "High-fidelity 3D GAN Inversion by Pseudo-multi-view Optimization"
(CVPR 2023), with no code of it. Four stages: 500 steps of `latent.find_latent` on one w for each
layer (w+); up to 501 steps on the whole generator, until the perceptual distance falls to 0.06; by
the depth of that head the picture is warped to 30 poses around the front and completed by the head
(`pseudo_views.py`); then the original generator again, tuned with the w+ of the first stage for
1001 steps, each on the picture and on one pseudo-view.

`FAITHFUL` is what was released: in the warp, distances along the rays are taken for z, and the
symmetry of the density is computed but not lowered. `CORRECTED` does both right.

What is otherwise than published:
- The pose is known: the camera is that of the reference.
- One perceptual distance, that of the method (VGG-LPIPS where its weights are, else the embedded
  features), serves for VGG and AlexNet; `stop` was chosen for AlexNet's.
- Points and splats are drawn by this project's own code, with the published numbers; pixel sizes
  are scaled to pictures of other than 512 pixels. Rays that meet nothing give no points, which
  concerns generators with an empty background.
- Noise maps: `LatentSettings.noise`. Tuning keeps the generator's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .. import seeds
from ..checks import check_numbers
from ..errors import InputError
from ..geometry.cameras import eg3d_look_at, intrinsics_matrix
from ..method.render import RenderSettings, render_views
from ..progress import Portion, Progress, enter_phase, no_progress
from ..types import CameraBatch, CameraRig, Portrait
from .gan_inversion import LITE_RENDER, named_losses, notes_of, record, search
from .latent import Latent, LatentSettings
from .protocol import BaselineModels, Fitted, checked_reference, fitted_portrait, timed
from .pseudo_views import PseudoViewSettings, pseudo_view, visible_points
from .tuning import TunedGenerator
from .view import View, likeness

NAME = "HFGI3D"


@dataclass(frozen=True)
class HFGI3DSettings:
    """All four stages; the defaults are the published ones, as released."""

    latent: LatentSettings = field(
        default_factory=lambda: LatentSettings(
            space="w+", steps=500, idle_steps=0, samples=600, psi=1.0, lambda_symmetry=-1.0
        )
    )
    first_steps: int = 501  # at most, of tuning to the picture alone
    stop: float = 0.06  # of the perceptual distance, before a step
    warp: PseudoViewSettings = field(default_factory=PseudoViewSettings)
    poses: int = 30
    yaw_rad: float = 0.35  # of the circle of poses, in EG3D's terms
    pitch_rad: float = 0.25
    pitch_offset_rad: float = -0.05
    last_steps: int = 1001  # of tuning to picture and pseudo-views
    learning_rate: float = 3e-4  # of both tunings
    lambda_pixel: float = 1.0
    lambda_perceptual: float = 1.0
    render: RenderSettings = field(default_factory=RenderSettings)  # of every step
    seed: int = 0
    preview_every: int = 10  # steps; 0 for no preview

    def __post_init__(self) -> None:
        check_numbers(self)
        seeds.check_seed(self.seed)
        counts = (self.first_steps, self.last_steps, self.preview_every)
        if min(counts) < 0 or self.poses < 1:
            raise InputError(
                "first_steps, last_steps and preview_every cannot be negative and poses must be "
                f"at least 1, got {counts} and {self.poses}"
            )
        if not 0 < self.learning_rate < 1:
            raise InputError(f"learning_rate must lie between 0 and 1, got {self.learning_rate}")
        if min(self.stop, self.lambda_pixel, self.lambda_perceptual) < 0:
            raise InputError("stop and the weights of the losses cannot be negative")

    def lite(self) -> HFGI3DSettings:
        """Return the same for two CPU cores and the clay generator, in some minutes.

        A quarter of the steps to w, fewer of the tuning, half the samples per ray.
        """
        return replace(
            self,
            latent=replace(self.latent, steps=120),
            first_steps=60,
            last_steps=150,
            render=LITE_RENDER,
        )

    def cameras(self, rig: CameraRig) -> CameraBatch:
        """Return the poses of the pseudo-views."""
        turn = 2 * math.pi * torch.arange(self.poses, dtype=torch.float64) / self.poses
        matrix = eg3d_look_at(
            math.pi / 2 + self.yaw_rad * torch.sin(turn),
            math.pi / 2 + self.pitch_offset_rad + self.pitch_rad * torch.cos(turn),
            radius=rig.radius,
            pivot=rig.pivot,
        )
        return CameraBatch(matrix, intrinsics_matrix(rig.focal, views=self.poses))


FAITHFUL = HFGI3DSettings()
CORRECTED = replace(
    FAITHFUL,
    latent=replace(FAITHFUL.latent, lambda_symmetry=1.0),
    warp=replace(FAITHFUL.warp, z_is_distance=False),
)


def fit(
    reference: Tensor,  # [3,H,H] in [0,1], seen by the front camera
    prompt: str,  # kept in the record, nothing else
    models: BaselineModels,
    settings: HFGI3DSettings = FAITHFUL,
    progress: Progress = no_progress,
    *,
    camera: CameraBatch | None = None,  # one, if it is not the front camera
) -> Fitted:
    """Return the head that looks like the reference.

    Raises ShapeError for a reference that is not one square picture in [0,1].
    """
    picture = checked_reference(reference, models.eg3d)
    seconds: dict[str, float] = {}
    with torch.inference_mode(False), torch.enable_grad():
        searching = Portion(progress, 0.0, 0.2)
        view, found = search(picture, camera, models, settings, seconds, searching)
        with timed(seconds, "tune to the picture"):
            first = _tuned_to_picture(found, view, models, settings, Portion(progress, 0.2, 0.4))
        with timed(seconds, "pseudo-views"):
            guide = first.portrait({})
            views = pseudo_views(guide, view, settings, Portion(progress, 0.4, 0.45))
        with timed(seconds, "tune to all views"):
            last = _tuned_to_all(found, view, views, models, settings, Portion(progress, 0.45, 1.0))
        portrait = last.portrait(record(NAME, prompt, models, settings))
    losses = {"w": found.losses, "first": first.losses, "last": last.losses}
    faithful = settings.warp.z_is_distance
    return fitted_portrait(
        portrait,
        reference=picture[0].detach(),
        losses=named_losses(losses),
        seconds=seconds,
        notes=(*notes_of(models, found), "as released" if faithful else "corrected"),
    )


def pseudo_views(
    guide: Portrait, view: View, settings: HFGI3DSettings, progress: Progress = no_progress
) -> list[View]:
    """Return the picture seen from all poses, as far as the guide's depth says what that is."""
    seen = render_views(guide, view.camera, settings=settings.render)
    random = seeds.step_generator(settings.seed, 6)
    points = visible_points(
        view.picture, seen.depth, seen.alpha, view.camera, settings.warp, random
    )
    cameras = settings.cameras(guide.renderer.config.rig()).to(view.picture.device)
    made = []
    for index in range(len(cameras)):
        enter_phase(progress, "pseudo-view", index, len(cameras))
        camera = cameras[index]
        rendered = render_views(guide, camera, settings=settings.render).image[0]
        picture = pseudo_view(points, camera, rendered, settings.warp)
        made.append(replace(view, picture=picture[None], camera=camera))
        progress(index + 1, len(cameras), picture.cpu())
    return made


def _tuned_to_picture(
    found: Latent,
    view: View,
    models: BaselineModels,
    settings: HFGI3DSettings,
    progress: Progress,
) -> TunedGenerator:
    tuned = TunedGenerator(models.eg3d, found.ws, learning_rate=settings.learning_rate)
    for step in range(settings.first_steps):
        enter_phase(progress, "tuning to the picture, step", step, settings.first_steps)
        out = tuned.look(view)
        pixel, perceptual = likeness(out.image, view.picture, models.perceptual)
        if float(perceptual.detach()) <= settings.stop:
            break
        tuned.lower(_weighted(pixel, perceptual, settings))
        progress(step + 1, settings.first_steps, _shown(out.image, step, settings))
    progress(1, 1)
    return tuned


def _tuned_to_all(
    found: Latent,
    view: View,
    others: list[View],
    models: BaselineModels,
    settings: HFGI3DSettings,
    progress: Progress,
) -> TunedGenerator:
    """Return the original generator tuned to the picture and, in turns of chance, the others."""
    tuned = TunedGenerator(models.eg3d, found.ws, learning_rate=settings.learning_rate)
    random = seeds.step_generator(settings.seed, 7)
    picks = torch.randint(len(others), (settings.last_steps,), generator=random).tolist()
    for step, pick in enumerate(picks):
        enter_phase(progress, "tuning to all views, step", step, settings.last_steps)
        planes = tuned.planes()
        terms: dict[str, Tensor] = {}
        for name, one in (("picture", view), ("pseudo", others[pick])):
            out = tuned.look(one, planes)
            weighted = _weighted(*likeness(out.image, one.picture, models.perceptual), settings)
            terms.update({f"{name} {kind}": value for kind, value in weighted.items()})
        tuned.lower(terms)
        progress(step + 1, settings.last_steps, _shown(out.image, step, settings))
    return tuned


def _weighted(pixel: Tensor, perceptual: Tensor, settings: HFGI3DSettings) -> dict[str, Tensor]:
    return {
        "pixel": settings.lambda_pixel * pixel,
        "perceptual": settings.lambda_perceptual * perceptual,
    }


def _shown(image: Tensor, step: int, settings: HFGI3DSettings) -> Tensor | None:
    show = settings.preview_every and (step + 1) % settings.preview_every == 0
    return image[0].detach().clamp(0, 1).cpu() if show else None
