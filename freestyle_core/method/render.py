"""Rendering: planes and cameras become pictures. `render` is the whole story for a few views.

Two passes per ray: a coarse one finds where the density is, a second one samples there, and both
are composited. `render` is differentiable; `render_views` renders any number of views of a
portrait without gradients, in chunks that stay within a memory setting. Everything is computed
per view, so neither the number of views nor the size of a chunk changes a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ..checks import check_numbers
from ..errors import InputError, MismatchError, ShapeError, is_out_of_memory
from ..geometry.rays import Rays
from ..geometry.triplane import FoldedPlanes
from ..geometry.volume import expected_depth, importance_depths, interval_weights, merged_weights
from ..models.config import EG3DConfig
from ..progress import Progress, enter_phase, no_progress
from ..types import CameraBatch, Portrait, Renderer, Rendering, Triplane
from .ray_samples import SampledRays, ray_spans, sample_spans

# on a CPU: smaller chunks stay in the processor cache, and more views together gain nothing
CPU_CHUNK_MB, CPU_VIEWS_MB = 10, 64
_DTYPES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
MARCHING = 0.9  # of the time of a view, the rest enlarges it
LEAST_MB = 8  # with less working memory than this, rendering gives up


@dataclass(frozen=True)
class RenderSettings:
    """How finely to render; None keeps the generator's own number."""

    neural_resolution: int | None = None  # pixels per side before super-resolution
    depth_samples: int | None = None  # first-pass samples per ray, at least 4
    importance_samples: int | None = None  # second-pass samples per ray, 0 for none
    memory_mb: int = 768  # working memory of `render_views`, about
    # of super-resolution; auto is EG3D's rule: float16 on a GPU where the generator clamps, but
    # only for pictures that nothing is learned from
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"

    def __post_init__(self) -> None:
        check_numbers(self)
        least = {"neural_resolution": 1, "depth_samples": 4, "importance_samples": 0}
        for key, minimum in least.items():
            value = getattr(self, key)
            if value is not None and value < minimum:
                raise InputError(f"{key} must be at least {minimum}, got {value}")
        if self.memory_mb < 1:
            raise InputError(f"memory_mb must be at least 1, got {self.memory_mb}")
        if self.precision not in ("auto", *_DTYPES):
            raise InputError(
                f"precision must be auto, {', '.join(_DTYPES)}, got {self.precision!r}"
            )

    def resolved(self, config: EG3DConfig) -> ResolvedSettings:
        """Return the same settings with the generator's numbers in place of None."""

        def pick(mine: int | None, default: int) -> int:
            return default if mine is None else mine

        return ResolvedSettings(
            pick(self.neural_resolution, config.neural_resolution),
            pick(self.depth_samples, config.depth_samples),
            pick(self.importance_samples, config.importance_samples),
            self.memory_mb,
            self.precision,
        )

    def dtype(self, config: EG3DConfig, device: torch.device) -> torch.dtype | None:
        """Return the type in which super-resolution computes; None for that of its weights."""
        if self.precision != "auto":
            return _DTYPES[self.precision]
        is_safe = config.sr_clamp is not None and not torch.is_grad_enabled()
        return torch.float16 if is_safe and device.type == "cuda" else None


@dataclass(frozen=True)
class ResolvedSettings(RenderSettings):
    """The same with all numbers known."""

    neural_resolution: int
    depth_samples: int
    importance_samples: int


DEFAULT_SETTINGS = RenderSettings()


def sample_rays(
    config: EG3DConfig,
    cameras: CameraBatch,
    *,
    settings: RenderSettings = DEFAULT_SETTINGS,
    u_coarse: Tensor | None = None,  # [V,M,D] in [0,1); None: the middle of each stratum
) -> SampledRays:
    """Return every pixel's ray and its first-pass sample depths."""
    sizes = settings.resolved(config)
    spans = ray_spans(config, cameras, sizes.neural_resolution)
    return sample_spans(config, spans, sizes.depth_samples, u_coarse)


def march(
    renderer: Renderer,
    planes: Tensor | FoldedPlanes,  # [1 or V,3,C,R,R]
    sampled: SampledRays,
    importance_samples: int,
    u_fine: Tensor | None = None,  # [V,M,K] in [0,1); None: evenly spread
) -> tuple[Tensor, Tensor, Tensor]:
    """Return features [V,M,F] in about [-1,1], depth [V,M] and alpha [V,M] of every ray."""
    out = _gathered(renderer, planes, sampled, importance_samples, u_fine)
    features, alpha, weights, depths = out
    return features, expected_depth(weights, depths, alpha, sampled.limits), alpha


def ray_features(
    renderer: Renderer,
    planes: Tensor | FoldedPlanes,  # [1 or V,3,C,R,R]
    sampled: SampledRays,
    importance_samples: int,
    u_fine: Tensor | None = None,  # [V,M,K]
) -> Tensor:
    """Return the features of `march` alone."""
    return _gathered(renderer, planes, sampled, importance_samples, u_fine)[0]


def _gathered(
    renderer: Renderer,
    planes: Tensor | FoldedPlanes,
    sampled: SampledRays,
    importance_samples: int,
    u_fine: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return features, alpha, and weights and depths [V,M,S] of all samples of every ray."""
    folded = planes if isinstance(planes, FoldedPlanes) else renderer.fold(planes)
    depths = sampled.depths
    raw, colour = _decode(renderer, folded, sampled.rays, depths)
    passes = [(depths, raw, colour)]
    if importance_samples:
        weights = interval_weights(depths.detach(), raw.detach())
        if u_fine is None:
            strata = torch.arange(importance_samples, dtype=depths.dtype, device=depths.device)
            u_fine = (strata + 0.5) / importance_samples
        fine = importance_depths(depths, weights, u_fine)
        passes.append((fine, *_decode(renderer, folded, sampled.rays, fine)))
    depths = torch.cat([p[0] for p in passes], dim=-1)
    weights, alpha = merged_weights(depths, torch.cat([p[1] for p in passes], dim=-1))
    shares = weights.split([p[0].shape[-1] for p in passes], dim=-1)
    features = sum(
        (share[..., None, :] @ p[2])[..., 0, :] for share, p in zip(shares, passes, strict=True)
    )
    if renderer.config.white_background:
        features = features + (1 - alpha)[..., None]
    return features * 2 - 1, alpha, weights, depths


def render(
    renderer: Renderer,
    triplane: Triplane,  # B = 1 (all views show it) or V
    w: Tensor,  # [1 or V,L,w_dim]
    cameras: CameraBatch,  # V
    *,
    settings: RenderSettings = DEFAULT_SETTINGS,
    u_coarse: Tensor | None = None,  # [V,M,D] jitter in [0,1); None: deterministic
    u_fine: Tensor | None = None,  # [V,M,K]
) -> Rendering:
    """Return V views with gradients; values are not clamped to [0,1]."""
    cameras = cameras.to(triplane.planes.device)
    _check_batch(renderer, triplane, w, cameras)
    sizes = settings.resolved(renderer.config)
    sampled = sample_rays(renderer.config, cameras, settings=sizes, u_coarse=u_coarse)
    folded = renderer.fold(triplane.planes, triplane.regions)
    return render_sampled(renderer, folded, w, sampled, sizes, u_fine, cameras=cameras)


def render_sampled(
    renderer: Renderer,
    planes: Tensor | FoldedPlanes,  # [1 or V,3,C,R,R]
    w: Tensor,  # [1 or V,L,w_dim]
    sampled: SampledRays,  # V
    settings: ResolvedSettings,
    u_fine: Tensor | None = None,  # [V,M,K]
    *,
    cameras: CameraBatch,  # V, those of the rays
) -> Rendering:
    """Return what `render` does, of rays whose first-pass depths are known."""
    out = march(renderer, planes, sampled, settings.importance_samples, u_fine)
    maps = [_as_image(x, settings.neural_resolution) for x in out]
    return _finish(renderer, w, maps, cameras, settings)


def image_of(
    renderer: Renderer,
    features: Tensor,  # [V,M,F], of every ray
    w: Tensor,  # [1 or V,L,w_dim]
    settings: ResolvedSettings,
) -> Tensor:
    """Return the pictures [V,3,H,W] that features become, not clamped to [0,1]."""
    maps = _as_image(features, settings.neural_resolution)
    dtype = settings.dtype(renderer.config, features.device)
    return (renderer.superresolve(maps, w, dtype=dtype) + 1) / 2


@torch.no_grad()
def render_views(
    portrait: Portrait,
    cameras: CameraBatch,
    *,
    settings: RenderSettings = DEFAULT_SETTINGS,
    progress: Progress = no_progress,
) -> Rendering:
    """Return any number of views of a portrait, clamped to [0,1], within the memory setting.

    When memory runs out, the setting is halved and rendering goes on; the pictures stay the same.
    """
    renderer, planes = portrait.renderer, portrait.triplane.planes
    cameras = cameras.to(planes.device)
    _check_batch(renderer, portrait.triplane, portrait.w, cameras)
    sizes = settings.resolved(renderer.config)
    folded = renderer.fold(planes, portrait.triplane.regions)
    done: list[Rendering] = []
    count = 0

    def report(views: float, preview: Tensor | None = None) -> None:
        enter_phase(progress, "rendering, view", int(views), len(cameras))
        progress(views, len(cameras), preview)

    report(0)
    while count < len(cameras):
        one = planes.shape[0] == 1  # else every view has planes of its own
        group = _views_at_once(renderer.config, sizes, planes.device) if one else len(cameras)
        chosen = cameras[count : count + group]
        heartbeat = partial(_within, report, count, len(chosen))
        try:
            maps = _march_in_chunks(renderer, folded, chosen, sizes, heartbeat)
            done.append(_clamped(_finish(renderer, portrait.w, maps, chosen, sizes)))
        except RuntimeError as error:
            if sizes.memory_mb < 2 * LEAST_MB or not is_out_of_memory(error):
                raise
            sizes = replace(sizes, memory_mb=sizes.memory_mb // 2)
            continue
        count += len(chosen)
        report(count, done[-1].image[-1])
    image, raw, depth, alpha = (
        _joined([getattr(r, k) for r in done], 0) for k in ("image", "raw", "depth", "alpha")
    )
    return Rendering(image, raw, depth, alpha, cameras)


def _within(report: Callable[[float], None], before: int, views: int, share: float) -> None:
    """Report a share of the rays of some views; the enlarging comes after the rays."""
    report(before + MARCHING * share * views)


def _decode(
    renderer: Renderer, planes: FoldedPlanes, rays: Rays, depths: Tensor
) -> tuple[Tensor, Tensor]:  # raw density [V,M,D], colour [V,M,D,F]
    raw, colour = renderer.decode(planes, rays.at(depths))
    return raw.reshape(depths.shape), colour.unflatten(1, depths.shape[1:])


def _as_image(values: Tensor, resolution: int) -> Tensor:  # [V,M] or [V,M,F] -> [V,F,h,h]
    values = values[..., None] if values.ndim == 2 else values
    return values.transpose(1, 2).unflatten(2, (resolution, resolution))


def _finish(
    renderer: Renderer,
    w: Tensor,
    maps: list[Tensor],
    cameras: CameraBatch,
    settings: RenderSettings,
) -> Rendering:
    features, depth, alpha = maps
    dtype = settings.dtype(renderer.config, features.device)
    image = (renderer.superresolve(features, w, dtype=dtype) + 1) / 2
    return Rendering(image, (features[:, :3] + 1) / 2, depth, alpha, cameras)


def _clamped(r: Rendering) -> Rendering:
    image, raw, alpha = (x.clamp(0, 1) for x in (r.image, r.raw, r.alpha))
    return Rendering(image, raw, r.depth, alpha, r.cameras)


def _march_in_chunks(
    renderer: Renderer,
    folded: FoldedPlanes,
    cameras: CameraBatch,
    settings: ResolvedSettings,
    heartbeat: Callable[[float], None],  # takes the share that is done, before every chunk
) -> list[Tensor]:
    """Return feature, depth and alpha images of some views, a bounded number of rays at a time."""
    sampled = sample_rays(renderer.config, cameras, settings=settings)
    rays = sampled.depths.shape[1]
    cost = _bytes_per_ray(renderer.config, settings) * len(cameras)
    on_cpu = sampled.depths.device.type == "cpu"
    memory = min(settings.memory_mb, CPU_CHUNK_MB) if on_cpu else settings.memory_mb
    step = max(1, min(rays, memory * 2**20 // cost))
    parts = []
    for first in range(0, rays, step):
        heartbeat(first / rays)
        part = sampled.part(slice(first, first + step))
        parts.append(march(renderer, folded, part, settings.importance_samples))
    joined = [_joined(list(x), 1) for x in zip(*parts, strict=True)]
    return [_as_image(x, settings.neural_resolution) for x in joined]


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)


def _bytes_per_ray(config: EG3DConfig, settings: ResolvedSettings) -> int:
    """Return about what marching one ray needs without gradients.

    A pass needs, per sample, the point, its feature and the hidden layer before and after its
    activation; during the second pass, the depth, density and colour of the first are kept.
    """
    now = 3 + config.plane_channels + 2 * config.decoder_hidden
    kept = 3 + config.feature_channels
    samples = max(settings.depth_samples, settings.importance_samples)
    return 4 * (
        now * samples + kept * (settings.depth_samples if settings.importance_samples else 0)
    )


def _views_at_once(config: EG3DConfig, settings: ResolvedSettings, device: torch.device) -> int:
    """Return how many views fit into the memory setting together."""
    on_cpu = device.type == "cpu"
    memory = min(settings.memory_mb, CPU_VIEWS_MB) if on_cpu else settings.memory_mb
    rays = settings.neural_resolution**2 * _bytes_per_ray(config, settings)
    enlarged = 4 * 4 * config.image_resolution**2 * max(config.sr_channels[1], 3)
    return max(1, memory * 2**20 // max(rays, enlarged))


def _check_batch(renderer: Renderer, triplane: Triplane, w: Tensor, cameras: CameraBatch) -> None:
    config, views = renderer.config, len(cameras)
    for what, count in (("triplane", triplane.planes.shape[0]), ("w", w.shape[0])):
        if count not in (1, views):
            raise ShapeError(f"{what} has a batch of {count}; give 1, or one per view ({views})")
    if triplane.planes.shape[2] != config.plane_channels or triplane.box_size != config.box_size:
        raise MismatchError(
            f"the triplane has {triplane.planes.shape[2]} channels in a box of "
            f"{triplane.box_size}, but {config.name} reads {config.plane_channels} channels in a "
            f"box of {config.box_size}; use the generator that the planes were made for"
        )
