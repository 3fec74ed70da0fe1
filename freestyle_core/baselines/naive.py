"""The naive way: every step of the method as it would be written down first, with equal results.

`naive_edits` is diffusers' own InstructPix2Pix pipeline, one picture at a time. `naive_views` makes
the planes anew for every frame, reads the three of them one after another without folding, takes
all rays of a frame at once and sorts the colours of a ray with its depths. `naive_finetune` makes
the planes of the front for every view and all of eq. 5 for every view, the target's features too.
Equal inputs and seeds give what `method/` gives, up to rounding; `tests/baselines` holds that.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import seeds
from ..geometry.rays import Rays
from ..geometry.triplane import outside_box
from ..geometry.volume import activate_density, importance_depths, interval_weights
from ..method.finetune import FinetuneSettings
from ..method.finetune_steps import view_plan
from ..method.ray_samples import SampledRays
from ..method.render import DEFAULT_SETTINGS, RenderSettings, sample_rays
from ..method.stylize import StylizeSettings
from ..models.editor import Editor
from ..models.eg3d import EMPTY_DENSITY
from ..models.i2t import I2T
from ..progress import Progress, no_progress
from ..training.losses import Perceptual, reconstruction_loss, total_loss
from ..types import CameraBatch, FewShotSet, Portrait, Renderer

_AXIS = {"x": 0, "y": 1, "z": 2}


def naive_edits(
    editor: Editor,
    images: Tensor,  # [V,3,H,W], in [0,1]
    style: str,
    *,
    settings: StylizeSettings,
    progress: Progress = no_progress,
) -> Tensor:
    """Return the restyled views [V,3,H,W] in [0,1], by diffusers' pipeline.

    The pipeline starts from noise alone. To do what tau asks of it, it gets a scheduler that keeps
    the last round(tau * steps) of the time steps, and the noised picture as its latents; that takes
    a second encoding of the picture, for the pipeline makes its own.
    """
    pipeline = _pipeline(editor, settings)
    own_image, own_text = editor.guidance
    image_guidance, text_guidance = settings.image_guidance, settings.text_guidance
    height, width = (side // editor.factor for side in images.shape[2:])
    noise = torch.randn(
        1, editor.latent_channels, height, width, generator=seeds.generator(settings.seed)
    ).to(editor.device)
    edited = []
    for index in range(len(images)):
        progress(index, len(images))
        image = images[index : index + 1].to(editor.device, editor.dtype)
        made = pipeline(
            prompt=settings.prompt(style),
            negative_prompt=settings.negative,
            image=image,
            latents=_start(editor, pipeline.scheduler, image, noise, settings),
            num_inference_steps=settings.suited(editor).count(),
            guidance_scale=own_text if text_guidance is None else text_guidance,
            image_guidance_scale=own_image if image_guidance is None else image_guidance,
            output_type="pt",
        )
        edited.append(made.images.to(images))
    progress(len(images), len(images))
    return torch.cat(edited)


def _pipeline(editor: Editor, settings: StylizeSettings) -> Any:
    import diffusers

    scheduler: Any = diffusers.DDIMScheduler  # diffusers has few types of its own
    make_pipeline: Any = diffusers.StableDiffusionInstructPix2PixPipeline

    class LastSteps(scheduler):
        """The last of the time steps only, as if the first were done."""

        def set_timesteps(self, count: int, device: Any = None) -> None:
            super().set_timesteps(count, device=device)
            whole: Any = self.timesteps
            self.timesteps: Any = whole[-max(1, round(settings.tau * count)) :]

    pipeline = make_pipeline(
        vae=editor.vae,
        text_encoder=editor.text_encoder,
        tokenizer=editor.tokenizer,
        unet=editor.unet,
        scheduler=LastSteps.from_config(editor.scheduler.config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def _start(
    editor: Editor, scheduler: Any, image: Tensor, noise: Tensor, settings: StylizeSettings
) -> Tensor:
    """Return what the denoising of one picture starts from."""
    if settings.tau == 1:
        return noise.to(editor.dtype)
    scheduler.set_timesteps(settings.suited(editor).count(), device=editor.device)
    start = editor.encode(image) * editor.latent_scale
    return scheduler.add_noise(start, noise, scheduler.timesteps[:1]).to(editor.dtype)


@torch.no_grad()
def naive_views(
    renderer: Renderer,
    make_planes: Callable[[], Tensor],  # -> [1,3,C,R,R], called for every frame
    w: Tensor,  # [1,L,w_dim]
    cameras: CameraBatch,  # V
    *,
    settings: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> Tensor:
    """Return V views [V,3,H,W] in [0,1], each from its own planes."""
    views = []
    for index in range(len(cameras)):
        progress(index, len(cameras))
        sampled = sample_rays(renderer.config, cameras[index], settings=settings)
        views.append(naive_frame(renderer, make_planes(), w, sampled, settings).clamp(0, 1))
    progress(len(cameras), len(cameras))
    return torch.cat(views)


def naive_frame(
    renderer: Renderer,
    planes: Tensor,  # [1,3,C,R,R]
    w: Tensor,  # [1,L,w_dim]
    sampled: SampledRays,  # of one view, M rays
    settings: RenderSettings,
    u_fine: Tensor | None = None,  # [1,M,K] in [0,1); None: evenly spread
) -> Tensor:
    """Return one view [1,3,H,W], with gradients and not clamped."""
    config, sizes = renderer.config, settings.resolved(renderer.config)
    depths, count = sampled.depths, sizes.importance_samples
    raw, colour = _decoded(renderer, planes, sampled.rays, depths)
    if count:
        weights = interval_weights(depths.detach(), raw.detach())
        if u_fine is None:
            u_fine = (torch.arange(count).to(depths) + 0.5) / count
        fine = importance_depths(depths, weights, u_fine)
        more_raw, more_colour = _decoded(renderer, planes, sampled.rays, fine)
        depths, order = torch.cat([depths, fine], dim=-1).sort(dim=-1)
        raw = torch.cat([raw, more_raw], dim=-1).gather(-1, order)
        colour = torch.cat([colour, more_colour], dim=-2)
        colour = colour.gather(-2, order[..., None].expand_as(colour))
    weights = interval_weights(depths, raw)
    between = (colour[..., :-1, :] + colour[..., 1:, :]) / 2
    features = (weights[..., None] * between).sum(dim=-2)  # [1,M,F]
    if config.white_background:
        features = features + 1 - weights.sum(dim=-1, keepdim=True)
    side = sizes.neural_resolution
    maps = (features * 2 - 1).transpose(1, 2).unflatten(2, (side, side))
    dtype = settings.dtype(config, maps.device)
    return (renderer.superresolve(maps, w, dtype=dtype) + 1) / 2


def _decoded(
    renderer: Renderer, planes: Tensor, rays: Rays, depths: Tensor
) -> tuple[Tensor, Tensor]:  # raw density [1,M,D], colour [1,M,D,F]
    points = rays.at(depths)
    raw, colour = renderer.decoder(_features(renderer.config, planes, points))
    raw = _emptied(renderer.config, raw, points)
    return raw.reshape(depths.shape), colour.transpose(1, 2).unflatten(1, depths.shape[1:])


def _features(config: Any, planes: Tensor, points: Tensor) -> Tensor:  # [1,N,3] -> [1,C,N]
    """Return the mean of what the three planes show at each point."""
    scaled = points * (2 / config.box_size)
    sampled = []
    for index, (across, down) in enumerate(config.plane_axes):
        grid = torch.stack([scaled[..., _AXIS[across]], scaled[..., _AXIS[down]]], dim=-1)
        plane = planes[:, index]
        sampled.append(F.grid_sample(plane, grid[:, None], align_corners=False)[:, :, 0])
    return torch.stack(sampled).mean(dim=0)


def _emptied(config: Any, raw: Tensor, points: Tensor) -> Tensor:  # [1,1,N]
    if not config.empty_outside_box:
        return raw
    return raw.masked_fill(outside_box(points, config.box_size)[:, None], EMPTY_DENSITY)


@dataclass(frozen=True)
class NaiveResult:
    """A network that has learned one style, and the total loss of every step."""

    network: I2T
    losses: list[float]


def naive_finetune(
    i2t: I2T,
    portrait: Portrait,
    few_shot: FewShotSet,
    perceptual: Perceptual,
    *,
    settings: FinetuneSettings,
    progress: Progress = no_progress,
) -> NaiveResult:
    """Return a copy of the I2T that has learned the views, as the paper trains it (eq. 5 to 7)."""
    network = copy.deepcopy(i2t).requires_grad_(True)
    renderer = copy.deepcopy(portrait.renderer)
    frozen: Any = renderer
    frozen.requires_grad_(False)
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate, settings.betas)
    generator = seeds.generator(settings.seed)
    sizes = settings.render.resolved(renderer.config)
    plan = view_plan([len(few_shot.cameras)], settings)
    front = few_shot.images[few_shot.front][None]
    cameras = few_shot.cameras.to(front.device)
    losses: list[float] = []
    progress(0, settings.iterations)
    for step, chosen in enumerate(plan):
        draws = step_draws(sizes, settings, generator, front.device)
        optimizer.param_groups[0]["lr"] = settings.rate(step)
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for row, (_, view) in enumerate(chosen):
            own: list[Any] = [x if x is None else x[row : row + 1] for x in draws]
            u_coarse, u_fine, pick, delta = own
            planes = network(front)
            sampled = sample_rays(renderer.config, cameras[view], settings=sizes, u_coarse=u_coarse)
            image = naive_frame(renderer, planes, portrait.w, sampled, sizes, u_fine)
            target = few_shot.images[view : view + 1]
            points = sampled.points().gather(1, pick[..., None].expand(-1, -1, 3))
            loss = total_loss(
                reconstruction_loss(image, target, perceptual),
                _density_loss(renderer, planes, points, delta),
                lambda_rec=settings.lambda_rec,
                lambda_dr=settings.lambda_dr,
            ) / len(chosen)
            loss.backward()
            total += loss.item()
        optimizer.step()
        losses.append(total)
        progress(step + 1, settings.iterations)
    return NaiveResult(network.requires_grad_(False), losses)


def step_draws(
    sizes: RenderSettings, settings: FinetuneSettings, generator: torch.Generator, device: Any
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """Return the random numbers of a step, the same as `method/finetune_steps.py` draws.

    They are u_coarse [B,M,D], u_fine [B,M,K], pick [B,P] and delta [B,P,3] of B views.
    """
    assert sizes.neural_resolution and sizes.depth_samples  # resolved
    views, rays = settings.batch_size, sizes.neural_resolution**2
    u_coarse = torch.rand(views, rays, sizes.depth_samples, generator=generator)
    u_fine, count = None, sizes.importance_samples
    if count:
        u_fine = torch.rand(views, rays, count, generator=generator)
        u_fine = ((torch.arange(count) + u_fine) / count).to(device)
    shape = (views, settings.density_points)
    pick = torch.randint(rays * sizes.depth_samples, shape, generator=generator)
    delta = torch.randn(*shape, 3, generator=generator) * settings.delta_std
    return u_coarse.to(device), u_fine, pick.to(device), delta.to(device)


def _density_loss(renderer: Renderer, planes: Tensor, points: Tensor, delta: Tensor) -> Tensor:
    """Return eq. 6."""
    here, there = (_density(renderer, planes, p) for p in (points, points + delta * points))
    return (here - there).abs().mean()


def _density(renderer: Renderer, planes: Tensor, points: Tensor) -> Tensor:
    raw, _ = renderer.decoder(_features(renderer.config, planes, points))
    return activate_density(_emptied(renderer.config, raw, points))
