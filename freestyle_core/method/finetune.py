"""Fine-tuning (paper Alg. 2): an I2T network learns the edited views of one or several portraits.

Each step takes a few views I_v, makes planes from the front view I_f of their set, renders them
through the frozen decoder and super-resolution, and lowers eq. 7. Everything works on copies, so a
cancel leaves all inputs as they were. Read `finetune_portraits`, then `_Run.one_step`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .. import seeds
from ..checks import check_numbers
from ..errors import FreeStyleError, InputError, MismatchError, ShapeError
from ..geometry.cameras import turntable_cameras
from ..models.i2t import I2T, check_i2t_fits
from ..progress import OnLoss, Progress, no_progress
from ..training.checkpoint import TrainingState, pack, unpack
from ..training.losses import (
    Perceptual,
    density_loss,
    distance_name,
    reconstruction_loss,
    total_loss,
)
from ..types import CameraBatch, FewShotSet, Portrait, StyleCode, Triplane
from .fewshot import check_few_shot
from .mix import same_weights
from .render import RenderSettings, render, sample_rays

LOSSES = ("total", "reconstruction", "density")
PREVIEW_TURN = 24  # previews for one sweep from the front to both sides and back
PREVIEW_YAW_DEG = 25.0


@dataclass(frozen=True)
class FinetuneSettings:
    """How to fine-tune. Optimiser and loss weights are the paper's (section 4.1).

    Batch size 1, measured on the clay EG3D (17 views of another identity, from the mean head, a
    quarter of the rays): 60 steps of one view took held-out views from 14.6 to 33.3 dB in 16 s of
    one core, 30 steps of two views to 27.3 dB in 12 s. A step of full size is 0.7 s of one core.

    `seed` decides every random number. On a CPU the same inputs and settings give the same portrait
    bit by bit where the number of threads, the kind of processor and the version of PyTorch are the
    same. Another number of threads adds in another order, which the large first steps turn into
    another way to as good a portrait, as far off as another seed's (17 views, 80 steps: 29.0 dB
    between 1 and 2 threads, 29.3 dB between two seeds, each 22.0 to 22.2 dB from its views; with an
    eps of 1e-6 or 1e-4 or a warm-up of 10 steps 30.3 to 31.4 and 28.4 to 30.3 dB, no real gain). On
    a GPU some sums have no fixed order at all.
    """

    iterations: int = 450
    batch_size: int = 1  # views per step; several sets take turns
    learning_rate: float = 0.002
    betas: tuple[float, float] = (0.0, 0.99)
    lambda_rec: float = 10.0
    lambda_dr: float = 0.2
    delta_std: float = 0.004  # of delta in eq. 6, relative to the distance from the box centre
    density_points: int = 8192  # per view, drawn from the sample points of the rendering
    fade: float = 0.4  # share of the iterations at the end in which the learning rate falls
    seed: int = 0
    preview_every: int = 10  # steps; 0 for no preview
    render: RenderSettings = field(default_factory=RenderSettings)

    def __post_init__(self) -> None:
        check_numbers(self)
        seeds.check_seed(self.seed)
        for name in ("iterations", "batch_size", "density_points"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("lambda_rec", "lambda_dr", "delta_std", "preview_every"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} cannot be negative, got {getattr(self, name)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas must be two numbers from 0 to below 1, got {self.betas}")
        if not 0 < self.learning_rate < 1 or not 0 <= self.fade <= 1:
            raise InputError(
                f"learning_rate must lie between 0 and 1 and fade from 0 to 1, got "
                f"{self.learning_rate} and {self.fade}"
            )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: constant, then falling linearly to a tenth."""
        start = self.iterations * (1 - self.fade)
        if step < start:
            return self.learning_rate
        return self.learning_rate * (1 - 0.9 * (step - start) / (self.iterations - start))


FinetuneState = TrainingState


@dataclass(frozen=True)
class FinetuneResult:
    """The stylised portraits, in the order of the sets, and the losses of every step."""

    portraits: list[Portrait]  # all with one and the same network
    losses: dict[str, list[float]]  # see LOSSES


def finetune_portraits(
    i2t: I2T,
    parent: str,  # hash of the pre-trained weights of i2t
    portraits: Sequence[Portrait],
    sets: Sequence[FewShotSet],  # one per portrait
    perceptual: Perceptual,
    *,
    settings: FinetuneSettings | None = None,
    progress: Progress = no_progress,
    on_loss: OnLoss | None = None,  # called before the `progress` of the same step
    resume: FinetuneState | None = None,
    on_checkpoint: Callable[[FinetuneState], None] | None = None,
    checkpoint_every: int = 0,  # steps; 0 for only when it is stopped
) -> FinetuneResult:
    """Return the portraits restyled as their few-shot sets show, by one fine-tuned network.

    `on_checkpoint` is also called when `progress` stops the run, so that it can go on from there.
    The previews turn: each shows the head from a little further round, several sets in turn.
    """
    settings = settings or FinetuneSettings()
    _check_fit(i2t, portraits, sets)
    # ComfyUI runs nodes in inference mode, whose tensors can never be trained
    with torch.inference_mode(False), torch.enable_grad():
        run = _Run(i2t, portraits, sets, perceptual, settings)
        if resume is not None:
            run.load(resume)
        progress(run.step, settings.iterations)
        while run.step < settings.iterations:
            run.one_step()
            if on_loss:
                on_loss({name: values[-1] for name, values in run.losses.items()})
            if on_checkpoint and checkpoint_every and run.step % checkpoint_every == 0:
                on_checkpoint(run.state())
            show = settings.preview_every and run.step % settings.preview_every == 0
            picture = run.preview() if show else None
            try:
                progress(run.step, settings.iterations, picture)
            except BaseException:
                if on_checkpoint:
                    on_checkpoint(run.state())
                raise
        stylised = run.portraits(parent, portraits, sets)
    return FinetuneResult(stylised, {name: list(run.losses[name]) for name in LOSSES})


T = TypeVar("T")


class _Run:
    """Private copies of everything that fine-tuning reads or changes."""

    def __init__(
        self,
        i2t: I2T,
        portraits: Sequence[Portrait],
        sets: Sequence[FewShotSet],
        perceptual: Perceptual,
        settings: FinetuneSettings,
    ) -> None:
        device = next(i2t.parameters()).device
        self.settings = settings
        self.network = _private(i2t, device).requires_grad_(True)
        self.renderer = _private(portraits[0].renderer, device)
        is_module = isinstance(perceptual, nn.Module)
        self.perceptual = _private(perceptual, device) if is_module else perceptual
        self.w = torch.cat([p.w.detach().clone() for p in portraits]).to(device).float()
        self.images = [s.images.detach().clone().to(device).float() for s in sets]
        self.fronts = torch.stack([self.images[i][s.front] for i, s in enumerate(sets)])
        self.cameras = [s.cameras.clone().to(device) for s in sets]
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=settings.learning_rate, betas=settings.betas
        )
        self.generator = seeds.generator(settings.seed)
        self.plan = _view_plan([len(s.cameras) for s in sets], settings)
        self.step = 0
        self.losses: dict[str, list[float]] = {name: [] for name in LOSSES}

    def one_step(self) -> None:
        """Lower eq. 7 on the views that the plan has for this step."""
        settings = self.settings
        chosen = self.plan[self.step]
        used = sorted({index for index, _ in chosen})
        rows = [used.index(index) for index, _ in chosen]
        planes = self.network(self.fronts[used])
        w = self.w[used]
        if len(used) > 1:
            planes, w = planes[rows], w[rows]
        triplane = Triplane(planes, self.renderer.config.box_size)
        reconstruction, density = self._losses(triplane, w, chosen)
        total = total_loss(
            reconstruction,
            density,
            lambda_rec=settings.lambda_rec,
            lambda_dr=settings.lambda_dr,
        )
        for name, value in zip(LOSSES, (total, reconstruction, density), strict=True):
            self.losses[name].append(value.item())
        if not torch.isfinite(total):
            raise FreeStyleError(
                f"fine-tuning diverged at step {self.step + 1} (loss {total.item()}); lower the "
                "learning rate"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        self.step += 1

    def _losses(
        self, triplane: Triplane, w: Tensor, chosen: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        """Return eq. 5 and eq. 6 of the chosen (set, view) pairs."""
        settings, config = self.settings, self.renderer.config
        sizes = settings.render.resolved(config)
        views = [self.cameras[index][view] for index, view in chosen]
        cameras = CameraBatch.cat(views)
        target = torch.stack([self.images[index][view] for index, view in chosen])
        rays = len(chosen), sizes.neural_resolution**2
        u_coarse = self._uniform(*rays, sizes.depth_samples)
        u_fine = None
        if sizes.importance_samples:
            count = sizes.importance_samples
            strata = torch.arange(count, device=target.device)
            u_fine = (strata + self._uniform(*rays, count)) / count
        out = render(
            self.renderer,
            triplane,
            w,
            cameras,
            settings=sizes,
            u_coarse=u_coarse,
            u_fine=u_fine,
        )
        sampled = sample_rays(config, cameras, settings=sizes, u_coarse=u_coarse).points()
        points = self._some(sampled, settings.density_points)
        delta = torch.randn(points.shape, generator=self.generator) * settings.delta_std
        density = density_loss(self.renderer, triplane, points, delta.to(points))
        return reconstruction_loss(out.image, target, self.perceptual), density

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator).to(self.w.device)

    def _some(self, points: Tensor, count: int) -> Tensor:  # [V,N,3] -> [V,count,3]
        pick = torch.randint(points.shape[1], (len(points), count), generator=self.generator)
        return points.gather(1, pick[..., None].expand(-1, -1, 3).to(points.device))

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Return a view [3,H,W] of one of the sets as it looks now, turning from call to call."""
        config = self.renderer.config
        turn, index = divmod(self.step // max(1, self.settings.preview_every), len(self.images))
        sweep = turntable_cameras(PREVIEW_TURN, config.rig(), yaw_range_deg=PREVIEW_YAW_DEG)
        camera = sweep[turn % PREVIEW_TURN].to(self.w.device)
        planes = self.network(self.fronts[index : index + 1])
        triplane = Triplane(planes, config.box_size)
        out = render(
            self.renderer,
            triplane,
            self.w[index : index + 1],
            camera,
            settings=self.settings.render,
        )
        return out.image[0].clamp(0, 1).cpu()

    @torch.no_grad()
    def portraits(
        self, parent: str, portraits: Sequence[Portrait], sets: Sequence[FewShotSet]
    ) -> list[Portrait]:
        """Return the inputs with the network's planes, code and history."""
        network = self.network.requires_grad_(False).eval()
        made = []
        for index, (portrait, few_shot) in enumerate(zip(portraits, sets, strict=True)):
            w_s = network.encode(self.fronts[index : index + 1])
            triplane = Triplane(network.decode(w_s), portrait.triplane.box_size)
            provenance = {
                **portrait.provenance,
                "prompt": few_shot.prompt,
                "parent": parent,
                "finetune": asdict(self.settings),
                "perceptual": distance_name(self.perceptual),
            }
            style = StyleCode(w_s, network, parent)
            made.append(replace(portrait, triplane=triplane, style=style, provenance=provenance))
        return made

    def state(self) -> FinetuneState:
        """Return a copy of all that changes from step to step."""
        networks = {"network": self.network}
        return pack(self.step, self._task(), networks, self.optimizer, self.losses, self.generator)

    def load(self, state: FinetuneState) -> None:
        """Go on from a checkpoint of the same task."""
        networks = {"network": self.network}
        self.losses = unpack(
            state, self._task(), networks, self.optimizer, self.generator, losses=LOSSES
        )
        self.step = state.step

    def _task(self) -> str:
        views = [len(images) for images in self.images]
        return f"{views} views, {replace(self.settings, preview_every=0)}"


def _view_plan(views: Sequence[int], settings: FinetuneSettings) -> list[list[tuple[int, int]]]:
    """Return the (set, view) pairs of every step: sets take turns, each shuffles its views."""
    generator = seeds.generator(settings.seed)
    queues: list[list[int]] = [[] for _ in views]
    plan, turn = [], 0
    for _ in range(settings.iterations):
        chosen = []
        for _ in range(settings.batch_size):
            index = turn % len(views)
            if not queues[index]:
                queues[index] = torch.randperm(views[index], generator=generator).tolist()
            chosen.append((index, queues[index].pop()))
            turn += 1
        plan.append(chosen)
    return plan


def _private(module: T, device: torch.device) -> T:
    """Return a frozen float32 copy of a module on `device`."""
    copied: Any = copy.deepcopy(module)
    return copied.to(device).float().requires_grad_(False)


def _check_fit(i2t: I2T, portraits: Sequence[Portrait], sets: Sequence[FewShotSet]) -> None:
    check_few_shot(sets, portraits, i2t.config.image_resolution)
    for portrait in portraits:
        if portrait.w.shape[0] != 1:
            raise ShapeError(
                f"fine-tuning takes portraits one by one, got a batch of {portrait.w.shape[0]}"
            )
        check_i2t_fits(i2t.config, portrait.renderer.config)
        if not same_weights(portrait.renderer, portraits[0].renderer):
            raise MismatchError(
                "the portraits come from different EG3D generators; make all with the same one"
            )
