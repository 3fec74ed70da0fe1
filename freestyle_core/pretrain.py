"""Pre-training (paper eq. 4): an I2T network learns the planes of an EG3D's own portraits.

Every step draws identities, asks the generator for their planes p and front views I_f, and lowers
|H(I_f) - p|. The result is the running average of the weights. Read `pretrain`, then
`_Run.one_step`; `rendered_psnr` says how good a network is in pictures.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .checkpoint import TrainingState, pack, unpack
from .errors import FreeStyleError, InputError, MismatchError
from .geometry.cameras import front_camera
from .losses import plane_loss
from .models.eg3d import EG3D
from .models.i2t import I2T
from .progress import Progress, no_progress
from .render import render
from .types import CameraBatch, Triplane

AVERAGE_DECAY = 0.998

# step number -> front views [B,3,H,W] in [0,1] and planes [B,3,C,R,R], the same for the same step
Batches = Callable[[int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class PretrainSettings:
    """How to pre-train. Optimiser and iterations are the paper's (section 4.1)."""

    iterations: int = 100_000
    batch_size: int = 4
    learning_rate: float = 0.002  # after the warm-up it falls to zero along half a cosine
    betas: tuple[float, float] = (0.0, 0.99)
    warmup: int = 100  # steps
    psi: tuple[float, float] = (0.6, 1.0)  # truncation, drawn uniformly for every identity
    statistics: int = 256  # identities whose planes give the mean head
    seed: int = 0
    preview_every: int = 100  # steps; 0 for no preview

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "statistics"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < 1:
            raise InputError(f"learning_rate must lie between 0 and 1, got {self.learning_rate}")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        done = min(1.0, step / self.iterations)
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class PretrainResult:
    """The pre-trained network (averaged weights) and the loss of every step."""

    i2t: I2T
    losses: list[float]


def pretrain(
    eg3d: EG3D,
    i2t: I2T,  # its weights are where training starts
    *,
    settings: PretrainSettings | None = None,
    progress: Progress = no_progress,
    resume: TrainingState | None = None,
    on_checkpoint: Callable[[TrainingState], None] | None = None,
    checkpoint_every: int = 0,  # steps; 0 for never
    batches: Batches | None = None,  # None: drawn from the generator as training goes on
) -> PretrainResult:
    """Return an I2T that gives this generator's planes for its front views."""
    settings = settings or PretrainSettings()
    check_i2t_fits(i2t, eg3d)
    with torch.inference_mode(False), torch.enable_grad():
        run = _Run(eg3d, i2t, settings, batches)
        if resume is None:
            run.set_statistics()
        else:
            run.load(resume)
        progress(run.step, settings.iterations)
        while run.step < settings.iterations:
            run.one_step()
            if on_checkpoint and checkpoint_every and run.step % checkpoint_every == 0:
                on_checkpoint(run.state())
            show = settings.preview_every and run.step % settings.preview_every == 0
            progress(run.step, settings.iterations, run.preview() if show else None)
    return PretrainResult(run.average, list(run.losses))


class _Run:
    """Private copies of the networks, and Adam over one of them."""

    def __init__(
        self, eg3d: EG3D, i2t: I2T, settings: PretrainSettings, batches: Batches | None
    ) -> None:
        self.settings = settings
        self.device = next(i2t.parameters()).device
        self.eg3d = copy.deepcopy(eg3d).to(self.device).float().eval().requires_grad_(False)
        self.average = copy.deepcopy(i2t).float().eval().requires_grad_(False)
        self.network = copy.deepcopy(self.average).requires_grad_(True)
        self.batches = batches or GeneratorBatches(self.eg3d, settings)
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=settings.learning_rate, betas=settings.betas
        )
        self.step = 0
        self.losses: list[float] = []

    def set_statistics(self) -> None:
        """Give a new network the generator's mean head; one that has a head already keeps it."""
        if bool(self.network.plane_mean.any()):
            return
        mean, scale = plane_statistics(self.eg3d, self.settings)
        for network in (self.network, self.average):
            network.set_plane_statistics(mean, scale)

    def one_step(self) -> None:
        """Lower eq. 4 on one batch and move the average along."""
        images, planes = self.batches(self.step)
        loss = plane_loss(self.network(images.to(self.device)), planes.to(self.device))
        self.losses.append(loss.item())
        if not torch.isfinite(loss):
            raise FreeStyleError(
                f"pre-training diverged at step {self.step + 1}; lower the learning rate"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        decay = min(AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            mean, new = list(self.average.parameters()), list(self.network.parameters())
            torch._foreach_lerp_(mean, new, 1 - decay)

    @torch.no_grad()
    def preview(self) -> Tensor:
        """Return a generated front view beside what the network makes of it, [3,H,2W]."""
        z = torch.randn(1, self.eg3d.config.z_dim, generator=_generator(self.settings.seed, 0))
        ws = self.eg3d.map(z.to(self.device), _front_label(self.eg3d, 1), psi=0.7)
        camera = front_camera(self.eg3d.config.rig()).to(self.device)
        truth, image = rendered_pair(self.eg3d, self.average, ws, camera)
        return torch.cat([truth[0], image[0]], dim=-1).cpu()

    def state(self) -> TrainingState:
        """Return a copy of all that changes from step to step."""
        networks = {"network": self.network, "average": self.average}
        return pack(self.step, self._task(), networks, self.optimizer, {"plane": self.losses})

    def load(self, state: TrainingState) -> None:
        """Go on from a checkpoint of the same task."""
        networks = {"network": self.network, "average": self.average}
        self.losses = unpack(state, self._task(), networks, self.optimizer)["plane"]
        self.step = state.step

    def _task(self) -> str:
        settings = replace(self.settings, preview_every=0)
        return f"{self.network.config.name} on {self.eg3d.config.name}, {settings}"


class GeneratorBatches:
    """Front views and planes of new identities, computed when asked for."""

    def __init__(self, eg3d: EG3D, settings: PretrainSettings) -> None:
        self.eg3d, self.settings = eg3d, settings

    @torch.no_grad()
    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        generator = _generator(self.settings.seed, step + 1)
        ws = sample_ws(self.eg3d, self.settings.batch_size, generator, psi=self.settings.psi)
        return front_views(self.eg3d, ws)


@torch.no_grad()
def sample_ws(
    eg3d: EG3D, count: int, generator: torch.Generator, *, psi: tuple[float, float]
) -> Tensor:
    """Return ws [B,L,w] of new identities, each truncated by its own psi."""
    z = torch.randn(count, eg3d.config.z_dim, generator=generator)
    share = psi[0] + (psi[1] - psi[0]) * torch.rand(count, 1, 1, generator=generator)
    average = eg3d.backbone.mapping.w_avg
    ws = eg3d.map(z.to(average), _front_label(eg3d, count))
    return average.lerp(ws, share.to(ws))


@torch.no_grad()
def front_views(eg3d: EG3D, ws: Tensor) -> tuple[Tensor, Tensor]:
    """Return front views [B,3,H,W] in [0,1] and planes [B,3,C,R,R] of ws [B,L,w]."""
    planes = eg3d.planes(ws)
    camera = front_camera(eg3d.config.rig()).to(ws.device)[[0] * len(ws)]
    triplane = Triplane(planes, eg3d.config.box_size)
    return render(eg3d.renderer(), triplane, ws, camera).image.clamp(0, 1), planes


@torch.no_grad()
def plane_statistics(eg3d: EG3D, settings: PretrainSettings) -> tuple[Tensor, Tensor]:
    """Return the mean planes [3,C,R,R] and, per channel [3,C], the deviation from them."""
    generator = _generator(settings.seed, 0)
    total = squares = 0
    for _ in range(settings.statistics):
        planes = eg3d.planes(sample_ws(eg3d, 1, generator, psi=settings.psi)).double()[0]
        total, squares = total + planes, squares + planes.square()
    mean = total / settings.statistics
    variance = (squares / settings.statistics - mean.square()).clamp_min(0)
    return mean.float(), variance.mean((2, 3)).sqrt().float()


@torch.no_grad()
def rendered_pair(
    eg3d: EG3D, i2t: I2T, ws: Tensor, cameras: CameraBatch
) -> tuple[Tensor, Tensor]:
    """Return views [V,3,H,W] of one identity's own planes, and of the I2T's planes for it."""
    front, planes = front_views(eg3d, ws)
    renderer, box = eg3d.renderer(), eg3d.config.box_size
    pair = [
        render(renderer, Triplane(p, box), ws, cameras).image.clamp(0, 1)
        for p in (planes, i2t(front))
    ]
    return pair[0], pair[1]


@torch.no_grad()
def rendered_psnr(eg3d: EG3D, i2t: I2T, ws: Tensor, cameras: CameraBatch) -> float:
    """Return the mean PSNR in dB of rendered views against the generator's own, over ws [B,L,w]."""
    errors = []
    for row in ws.split(1):
        truth, image = rendered_pair(eg3d, i2t, row, cameras)
        errors.append((truth - image).square().mean((1, 2, 3)))
    return float((-10 * torch.cat(errors).clamp_min(1e-12).log10()).mean())


def check_i2t_fits(i2t: I2T, eg3d: EG3D) -> None:
    """Raise unless the network reads this generator's images and makes its kind of planes."""
    for name in ("image_resolution", "plane_resolution", "plane_channels"):
        ours, theirs = getattr(i2t.config, name), getattr(eg3d.config, name)
        if ours != theirs:
            raise MismatchError(
                f"the I2T has {name} {ours}, but EG3D {eg3d.config.name} has {theirs}; make the "
                "I2T with this generator's sizes"
            )


def _front_label(eg3d: EG3D, count: int) -> Tensor:
    label = front_camera(eg3d.config.rig()).label().to(eg3d.backbone.mapping.w_avg)
    return label.expand(count, -1)


def _generator(seed: int, index: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + index)
