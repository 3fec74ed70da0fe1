"""Which rays of a view are sampled, and at which depths, before anything is known of the head.

From cameras to `RaySpans`, the same in every rendering; to `FilledRays` where it is known what is
empty; to the `SampledRays` of one rendering. Shapes: V views, M rays per view, D samples per ray.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.occupancy import tightened
from ..geometry.rays import Rays, auto_limits, pixel_rays, stratified_depths
from ..models.config import EG3DConfig
from ..types import CameraBatch


@dataclass(frozen=True)
class SampledRays:
    """The rays of V views with their first-pass depths."""

    rays: Rays  # [V,M]
    depths: Tensor  # [V,M,D]
    limits: tuple[Tensor, Tensor]  # [V,1] each: smallest and largest depth of a view's samples

    def part(self, rows: slice) -> SampledRays:
        """Return some of every view's rays; the limits stay those of the whole view."""
        return SampledRays(self.rays.part(rows), self.depths[:, rows], self.limits)

    def points(self) -> Tensor:
        """Return the sample points [V,M*D,3], scene units."""
        return self.rays.at(self.depths)


@dataclass(frozen=True)
class RaySpans:
    """The rays of V views and where each is sampled; the same for every rendering of a camera."""

    rays: Rays  # [V,M]
    start: Tensor  # [V,M], depth of the first sample
    end: Tensor  # [V,M], depth of the last

    def of(self, views: Tensor) -> RaySpans:  # [B], which views
        """Return some of the views."""
        picked = (
            x.index_select(0, views)
            for x in (self.rays.origins, self.rays.directions, self.start, self.end)
        )
        origins, directions, start, end = picked
        return RaySpans(Rays(origins, directions), start, end)


@dataclass(frozen=True)
class FilledRays:
    """Those rays of V views that meet something, K of each, and the pictures they are part of."""

    spans: RaySpans  # [V,K]
    rows: Tensor | None  # [V,K], which rays they are; None: all of them, in order
    share: float  # of the length of all rays that is left


def placed(
    features: Tensor,  # [B,K,F]
    rows: Tensor | None,  # [B,K], which rays they are of; None: all, in order
    empty: float,  # feature of a ray that sees nothing
    rays: int,
) -> Tensor:
    """Return the features [B,rays,F] of all rays, where the others see nothing."""
    if rows is None:
        return features
    whole = features.new_full((features.shape[0], rays, features.shape[2]), empty)
    return whole.scatter(1, rows[..., None].expand_as(features), features)


def filled_rays(config: EG3DConfig, spans: RaySpans, filled: Tensor) -> FilledRays:
    """Return the rays that meet filled cells [N,N,N], each no longer than its filled stretch.

    All views keep as many rays as the fullest one needs, so that shapes do not change.
    """
    outside, box = not config.empty_outside_box, config.box_size
    start, end, hit = tightened(spans.rays, spans.start, spans.end, filled, box, outside=outside)
    count = max(1, int(hit.sum(dim=1).max()))
    whole = float((spans.end - spans.start).sum())
    share = float(((end - start) * hit).sum()) / max(whole, 1e-12)
    if count == hit.shape[1]:
        return FilledRays(RaySpans(spans.rays, start, end), None, share)
    rows = hit.float().argsort(dim=1, descending=True, stable=True)[:, :count].sort(dim=1)[0]
    wide = rows[..., None].expand(-1, -1, 3)
    rays = Rays(spans.rays.origins.gather(1, wide), spans.rays.directions.gather(1, wide))
    return FilledRays(RaySpans(rays, start.gather(1, rows), end.gather(1, rows)), rows, share)


def ray_spans(config: EG3DConfig, cameras: CameraBatch, resolution: int) -> RaySpans:
    """Return every pixel's ray and the depths between which the generator samples it."""
    rays = pixel_rays(cameras, resolution)
    if isinstance(config.ray_start, str) or isinstance(config.ray_end, str):  # "auto"
        return RaySpans(rays, *auto_limits(rays, config.box_size))
    start = torch.full_like(rays.origins[..., 0], config.ray_start)
    return RaySpans(rays, start, torch.full_like(start, config.ray_end))


def sample_spans(
    config: EG3DConfig,
    spans: RaySpans,
    count: int,  # D, samples per ray
    u_coarse: Tensor | None = None,  # [V,M,D] in [0,1); None: the middle of each stratum
) -> SampledRays:
    """Return the rays with their first-pass sample depths."""
    start, end = spans.start, spans.end
    if u_coarse is None:
        u_coarse = start.new_full((count,), 0.5)
    depths = stratified_depths(start, end, u_coarse, disparity=config.disparity_sampling)
    spread = depths.flatten(1)
    limits = (spread.amin(dim=1, keepdim=True), spread.amax(dim=1, keepdim=True))
    return SampledRays(spans.rays, depths, limits)
