"""The steps of a fine-tuning: private copies of what it reads or changes, one step after another.

Nothing in a step waits for the device or copies to it: views, rays, targets and their features lie
there from the start, random numbers travel ahead (`training/drawn.py`), and losses are read back
every `read_every` steps. Read `Run.one_step`.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .. import seeds
from ..errors import FreeStyleError, is_out_of_memory
from ..geometry.cameras import turntable_cameras
from ..geometry.occupancy import filled_cells
from ..models.eg3d import EG3D
from ..models.i2t import I2T
from ..training.checkpoint import TrainingState, pack, unpack
from ..training.drawn import Ahead, normal, uniform, whole
from ..training.graphs import RecordedStep, recordable_adam, set_rate
from ..training.losses import Perceptual, density_loss, distance_name, total_loss
from ..training.targets import Targets
from ..types import CameraBatch, FewShotSet, Portrait, Triplane
from .audit import audit, doubted
from .finetune_settings import FinetuneSettings
from .ray_samples import FilledRays, SampledRays, filled_rays, placed, ray_spans, sample_spans
from .render import image_of, ray_features, render
from .sources import ModulatedPlanes, NetworkPlanes, OwnPlanes, PlaneSource, ResidualPlanes

LOSSES = ("total", "reconstruction", "density")
PREVIEW_TURN = 24  # previews for one sweep from the front to both sides and back
PREVIEW_YAW_DEG = 25.0
READ_EVERY = 10  # steps, on a device that has to be waited for
MOST_PIECES = 32
WAITS = ("cuda", "mps", "xpu")

T = TypeVar("T")
_log = logging.getLogger(__name__)
Chosen = list[tuple[int, int]]  # (set, view) of each picture of a step


class Run:
    """A fine-tuning on its way; `step` counts the finished steps."""

    def __init__(
        self,
        i2t: I2T | None,  # None where no network is trained
        parent: str,  # hash of its weights
        portraits: Sequence[Portrait],
        sets: Sequence[FewShotSet],
        perceptual: Perceptual,
        settings: FinetuneSettings,
        eg3d: EG3D | None = None,  # what modulation layers are added to
        source: PlaneSource | None = None,  # what learns, in place of what the settings say
    ) -> None:
        device = _device_of(i2t, portraits)
        self.settings, self.device = settings, device
        self.renderer = _private(portraits[0].renderer, device)
        is_module = isinstance(perceptual, nn.Module)
        self.perceptual = _private(perceptual, device) if is_module else perceptual
        self.w = torch.cat([_copied(p.w, device) for p in portraits])
        images = [_copied(s.images, device) for s in sets]
        if source is not None:
            self.source: PlaneSource = source
        elif settings.train == "modulation":
            frozen = _private(eg3d, device)
            assert frozen is not None  # `finetune_portraits` has seen to it
            self.source = ModulatedPlanes(frozen, self.w)
        else:
            self.source = self._source(i2t, parent, portraits, [s.front for s in sets], images)
        self.optimizer = recordable_adam(
            self.source.parameters(),
            device,
            learning_rate=settings.learning_rate,
            betas=settings.betas,
        )
        self.recorded = RecordedStep(self._lower, device)
        self.pieces = 1  # of the rays of a step
        self._prepare_views(sets, images)
        self.generator = seeds.generator(settings.seed)
        self.drawn = Ahead(self._draws(), self.generator, device)
        self.weights = self._weights(portraits, sets)
        self.plan = view_plan(self.views, settings, self.weights)
        self.step, self.total = 0, settings.iterations
        self.read_every = READ_EVERY if device.type in WAITS else 1
        self.losses: dict[str, list[float]] = {name: [] for name in LOSSES}
        self._unread: list[Tensor] = []  # [3] each, losses of the steps since the last reading

    def _source(
        self,
        i2t: I2T | None,
        parent: str,
        portraits: Sequence[Portrait],
        fronts: Sequence[int],
        images: Sequence[Tensor],
    ) -> PlaneSource:
        """Return what learns, see `sources.py`."""
        own = torch.cat([_copied(p.triplane.planes, self.device) for p in portraits])
        start: OwnPlanes | NetworkPlanes = OwnPlanes(own)
        if self.settings.train != "planes":
            shown = torch.stack([views[front] for views, front in zip(images, fronts, strict=True)])
            network = _private(i2t, self.device)
            assert network is not None  # `finetune_portraits` has seen to it
            start = NetworkPlanes(network.requires_grad_(True), shown, parent)
            if self.settings.train == "i2t":
                return start
        gains, smooth = self.settings.residual_gains, self.settings.residual_smooth
        return ResidualPlanes(start, own, gains, smooth)

    def _prepare_views(self, sets: Sequence[FewShotSet], images: Sequence[Tensor]) -> None:
        """Lay out all views of all sets one after another, with what is the same in every step."""
        config = self.renderer.config
        self.views = [len(views) for views in images]
        self.first = [sum(self.views[:index]) for index in range(len(self.views))]
        self.sizes = self.settings.sizes(config)
        self.cameras = CameraBatch.cat([s.cameras for s in sets]).clone().to(self.device)
        spans = ray_spans(config, self.cameras, self.sizes.neural_resolution)
        self.filled = FilledRays(spans, None, 1.0)
        if self.settings.skip_empty:
            self.filled = filled_rays(config, spans, self._filled_cells())
        self.density_points = max(1, math.ceil(self.settings.density_points * self.filled.share))
        self.targets = Targets(torch.cat(list(images)), self.perceptual)
        fine = self.sizes.importance_samples
        self.strata = torch.arange(fine, device=self.device)

    def _weights(
        self, portraits: Sequence[Portrait], sets: Sequence[FewShotSet]
    ) -> list[Tensor] | None:
        """Return how often each view of each set is taken, 1 for always; None: all alike."""
        if not self.settings.robust:
            return None
        found = []
        for portrait, few_shot in zip(portraits, sets, strict=True):
            found.append(audit(portrait, few_shot, settings=self.settings.render).weights)
            if doubted(found[-1]):
                _log.info("views that do not fit the others: %s", doubted(found[-1]))
        return found

    @torch.no_grad()
    def _filled_cells(self) -> Tensor:
        """Return where at least one of the heads is, as its planes are at the start."""
        rows = self._indices(range(len(self.views)))
        box = self.renderer.config.box_size
        cells = None
        for planes in self.source.planes(rows).split(1):
            folded = self.renderer.fold(planes)
            density = partial(self.renderer.decode_density, folded)
            own = filled_cells(density, box, self.device)
            cells = own if cells is None else cells | own
        assert cells is not None  # there is a set
        return cells

    def _draws(self) -> list:
        """Return the random numbers of a step, in the order in which they are drawn."""
        settings, sizes = self.settings, self.sizes
        views, rays = settings.batch_size, self.filled.spans.start.shape[1]
        points = (views, self.density_points)
        draws = [uniform((views, rays, sizes.depth_samples))]
        if sizes.importance_samples:
            draws.append(uniform((views, rays, sizes.importance_samples)))
        return [*draws, whole(rays * sizes.depth_samples, points), normal((*points, 3))]

    def one_step(self) -> None:
        """Lower eq. 7 on the views that the plan has for this step.

        When memory runs out, rays go in twice as many pieces from now on; the result is the same.
        """
        chosen = self.plan[self.step]
        used = sorted({index for index, _ in chosen})
        inputs = [
            self._indices([self.first[index] + view for index, view in chosen]),
            self._indices(used),
            self._indices([used.index(index) for index, _ in chosen]),
            *self.drawn.next(),
        ]
        set_rate(self.optimizer, self.settings.rate(self.step, self.total))
        losses = None
        while losses is None:
            try:
                losses = self.recorded(*inputs)
            except RuntimeError as error:
                if self.pieces >= MOST_PIECES or not is_out_of_memory(error):
                    raise
                self.pieces *= 2
                self.recorded.close()
                _log.warning("memory ran out: rays are learned from in %d pieces", self.pieces)
        self._unread.append(losses.clone())  # the next step may overwrite it
        self.step += 1
        if len(self._unread) >= self.read_every or self.step == self.total:
            self.read()

    def _lower(self, views: Tensor, used: Tensor, rows: Tensor, *drawn: Tensor) -> Tensor:
        """Make one step of the optimiser on some views [B] and return the losses [3].

        `used` [U] are the sets they belong to and `rows` [B] which of those each does.
        """
        settings = self.settings
        self.optimizer.zero_grad(set_to_none=True)
        planes = self.source.planes(used)
        w = self.w if len(self.w) == 1 else self.w.index_select(0, used)
        if len(used) > 1:
            planes, w = planes.index_select(0, rows), w.index_select(0, rows)
        parts = self._losses(planes, w, views, drawn)
        total = total_loss(*parts, lambda_rec=settings.lambda_rec, lambda_dr=settings.lambda_dr)
        penalty = self.source.penalty()
        (total if penalty is None else total + penalty).backward()
        self.optimizer.step()
        return torch.stack([total.detach(), *(x.detach() for x in parts)])

    def read(self) -> None:
        """Read the losses of the steps since the last reading; raise if they are not finite."""
        if not self._unread:
            return
        rows = torch.stack(self._unread).tolist()
        first = self.step - len(rows)
        self._unread = []
        for index, row in enumerate(rows):
            if not all(abs(value) < float("inf") for value in row):
                raise FreeStyleError(
                    f"fine-tuning diverged at step {first + index + 1} (loss {row[0]}); lower the "
                    "learning rate"
                )
            for name, value in zip(LOSSES, row, strict=True):
                self.losses[name].append(value)

    def _losses(
        self, planes: Tensor, w: Tensor, views: Tensor, numbers: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return eq. 5 and eq. 6 of some views [B], with random numbers as of `_draws`."""
        config, sizes, drawn = self.renderer.config, self.sizes, iter(numbers)
        spans, rows = self.filled.spans.of(views), self.filled.rows
        sampled = sample_spans(config, spans, sizes.depth_samples, next(drawn))
        count = sizes.importance_samples
        u_fine = (self.strata + next(drawn)) / count if count else None
        features = self._features(planes, sampled, u_fine)
        rows = None if rows is None else rows.index_select(0, views)
        empty = 1.0 if config.white_background else -1.0
        features = placed(features, rows, empty, sizes.neural_resolution**2)
        image = image_of(self.renderer, features, w, sizes)
        pick, delta = next(drawn), next(drawn) * self.settings.delta_std
        points = sampled.points().gather(1, pick[..., None].expand(-1, -1, 3))
        triplane = Triplane(planes, config.box_size)
        # points in the stretches that were left out would have had no density
        density = density_loss(self.renderer, triplane, points, delta) * self.filled.share
        return self.targets.loss(image, views), density

    def _features(self, planes: Tensor, sampled: SampledRays, u_fine: Tensor | None) -> Tensor:
        """Return the features [B,K,F] of all rays; in pieces, each is made again for its gradient,
        so that memory holds one at a time.
        """
        folded, count = self.renderer.fold(planes), self.sizes.importance_samples
        rays = sampled.depths.shape[1]
        step = math.ceil(rays / self.pieces)

        def piece(rows: slice) -> Tensor:
            fine = None if u_fine is None else u_fine[:, rows]
            return ray_features(self.renderer, folded, sampled.part(rows), count, fine)

        if self.pieces == 1:
            return piece(slice(rays))
        starts = range(0, rays, step)
        again = partial(checkpoint, piece, use_reentrant=False, preserve_rng_state=False)
        return torch.cat([again(slice(first, first + step)) for first in starts], dim=1)

    def _indices(self, values: Sequence[int]) -> Tensor:
        """Return whole numbers on the device, without waiting for it."""
        made = torch.tensor(values)
        if self.device.type != "cuda":
            return made.to(self.device)
        return made.pin_memory().to(self.device, non_blocking=True)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Return a view [3,H,W] of one of the sets as it looks now, turning from call to call."""
        config = self.renderer.config
        turn, index = divmod(self.step // max(1, self.settings.preview_every), len(self.views))
        sweep = turntable_cameras(PREVIEW_TURN, config.rig(), yaw_range_deg=PREVIEW_YAW_DEG)
        camera = sweep[turn % PREVIEW_TURN].to(self.device)
        triplane = Triplane(self.source.planes(self._indices([index])), config.box_size)
        w = self.w[index : index + 1]
        out = render(self.renderer, triplane, w, camera, settings=self.settings.render)
        return out.image[0].clamp(0, 1).cpu()

    @torch.no_grad()
    def portraits(
        self, portraits: Sequence[Portrait], sets: Sequence[FewShotSet]
    ) -> list[Portrait]:
        """Return the inputs with the trained planes, their code if they have one, and history."""
        self.read()
        frozen: Any = self.source
        frozen.requires_grad_(False).eval()
        made = []
        for index, (portrait, few_shot) in enumerate(zip(portraits, sets, strict=True)):
            style = self.source.style(index)
            planes = self.source.planes(self._indices([index])) if style is None else style.planes()
            history: dict[str, Any] = {
                "prompt": few_shot.prompt,
                "finetune": asdict(replace(self.settings, iterations=self.step)),
                "perceptual": distance_name(self.perceptual),
            }
            before = prompts_of(portrait)
            if before:
                history["prompts"] = [*before, few_shot.prompt]
            if style is not None:
                history["parent"] = style.parent
            if self.weights is not None:
                history["doubted_views"] = doubted(self.weights[index])
            triplane = Triplane(planes, portrait.triplane.box_size)
            kept = {k: v for k, v in portrait.provenance.items() if k != "parent"}
            provenance = {**kept, **history}
            made.append(replace(portrait, triplane=triplane, style=style, provenance=provenance))
        # all of a portrait lies in one place, even if it was trained in another
        return [m.to(p.triplane.planes.device) for m, p in zip(made, portraits, strict=True)]

    def state(self) -> TrainingState:
        """Return a copy of all that changes from step to step."""
        self.read()
        state: Any = self.source
        made = pack(self.step, self.task(), {"source": state}, self.optimizer, self.losses)
        return replace(made, tensors={**made.tensors, "random": self.drawn.state()})

    def load(self, state: TrainingState) -> None:
        """Go on from a checkpoint of the same task."""
        source: Any = self.source
        self.losses = unpack(
            state, self.task(), {"source": source}, self.optimizer, self.generator, losses=LOSSES
        )
        self.drawn.forget()
        self.step = state.step

    def task(self) -> str:
        """Return what a checkpoint must have in common with this run."""
        return f"{self.views} views, {replace(self.settings, preview_every=0)}"


def view_plan(
    views: Sequence[int],
    settings: FinetuneSettings,
    weights: Sequence[Tensor] | None = None,  # of each set [V] in [0,1]; None: all 1
) -> list[Chosen]:
    """Return the (set, view) pairs of every step: sets take turns, each shuffles its views.

    In each of its rounds a view is taken with the probability of its weight, so that on average
    it counts that much, and no step is spent on what hardly counts. Weights of 1 change nothing.
    """
    generator = seeds.generator(settings.seed)
    lots = seeds.generator(settings.seed ^ 1)  # apart, so that the order stays what it was
    queues: list[list[int]] = [[] for _ in views]
    plan, turn = [], 0
    for _ in range(settings.iterations):
        chosen = []
        for _ in range(settings.batch_size):
            index = turn % len(views)
            if not queues[index]:
                order = torch.randperm(views[index], generator=generator)
                if weights is not None:
                    taken = torch.rand(views[index], generator=lots) < weights[index]
                    order = order[taken[order]] if bool(taken.any()) else order
                queues[index] = order.tolist()
            chosen.append((index, queues[index].pop()))
            turn += 1
        plan.append(chosen)
    return plan


def prompts_of(portrait: Portrait) -> list[str]:
    """Return the words that a portrait was restyled with before, first to last."""
    known = portrait.provenance
    last = [known["prompt"]] if "prompt" in known else []
    return list(known.get("prompts", last))


def _device_of(i2t: I2T | None, portraits: Sequence[Portrait]) -> torch.device:
    return portraits[0].triplane.planes.device if i2t is None else next(i2t.parameters()).device


def _private(module: T, device: torch.device) -> T:
    """Return a frozen float32 copy of a module on `device`."""
    copied: Any = copy.deepcopy(module)
    return copied.to(device).float().requires_grad_(False)


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.detach().clone().to(device).float()
