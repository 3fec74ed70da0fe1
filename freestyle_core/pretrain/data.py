"""A generator's own portraits as training data: identities, front views, planes, held-out views.

`GeneratorBatches` makes the batch of a step whenever it is asked for, the same for the same step.
`HeldOut` keeps identities that are never trained on, with their true views.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import is_out_of_memory
from ..geometry.cameras import front_camera, orbit_cameras
from ..method.render import RenderSettings, render_views
from ..metrics.image import psnr
from ..models.eg3d import EG3D
from ..models.i2t import I2T
from ..seeds import step_generator
from ..training.distributed import SOLO, Workers
from ..types import CameraBatch, Portrait, Triplane
from ..visualize.contact_sheet import plain_sheet

HELD_OUT = 987_654_321  # the "step" whose identities are kept for validation
VIEWS_DEG = (25.0, 0.0), (-25.0, 10.0), (0.0, 0.0), (0.0, -20.0)  # yaw, pitch of validation views
SHEET_ROWS = 4
HEADS_TOGETHER = 4  # made at once on a graphics card: 2.6 GB at full size

Beat = Callable[[], None]  # called now and then; may raise to cancel


def no_beat() -> None:
    """Do nothing between two portraits."""


class GeneratorBatches:
    """Front views and planes of new identities, computed when asked for."""

    def __init__(
        self,
        eg3d: EG3D,
        *,
        batch_size: int,  # of all processes together
        psi: tuple[float, float],
        seed: int,
        workers: Workers = SOLO,
        beat: Beat = no_beat,
        dtype: torch.dtype | None = None,  # in which planes are computed; None: the weights'
    ) -> None:
        self.eg3d, self.batch_size, self.psi, self.seed = eg3d, batch_size, psi, seed
        self.workers, self.beat, self.dtype = workers, beat, dtype
        self.camera = front_camera(eg3d.config.rig()).to(eg3d.backbone.mapping.w_avg.device)

    @torch.no_grad()
    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return this process's front views [b,3,H,W] in [0,1] and planes [b,3,C,R,R]."""
        generator = step_generator(self.seed, step + 1)
        camera = self.camera
        ws = sample_ws(self.eg3d, self.batch_size, generator, psi=self.psi, camera=camera)
        mine = self.workers.share(ws)
        return front_views(self.eg3d, mine, beat=self.beat, camera=camera, dtype=self.dtype)


class HeldOut:
    """Identities that are never trained on, each with its front view and true views [V,3,H,W]."""

    def __init__(
        self,
        eg3d: EG3D,
        *,
        count: int,
        psi: tuple[float, float],
        seed: int,
        beat: Beat = no_beat,
    ) -> None:
        self.eg3d, self.beat = eg3d, beat
        yaw, pitch = zip(*VIEWS_DEG, strict=True)
        self.cameras = orbit_cameras(yaw, pitch, eg3d.config.rig())
        self.ws = sample_ws(eg3d, count, step_generator(seed, HELD_OUT), psi=psi)
        self.fronts, self.truth = [], []
        for row in self.ws.split(1):
            front, planes = front_views(eg3d, row, beat=beat)
            self.fronts.append(front.cpu())
            self.truth.append(self._render(row, planes).cpu())

    def psnr(self, i2t: I2T) -> float:
        """Return the mean PSNR in dB of the views of the planes that `i2t` makes."""
        scores = []
        for index, truth in enumerate(self.truth):
            views = self._predicted(i2t, index, self.cameras)
            scores.append(psnr(views, truth))
        return float(torch.cat(scores).mean())

    def sheet(self, i2t: I2T) -> Tensor:
        """Return rows of input front view | view of the predicted planes | true view, [3,h,3W]."""
        rows = []
        for index in range(min(SHEET_ROWS, len(self.fronts))):
            view = index % len(self.cameras)
            predicted = self._predicted(i2t, index, self.cameras[view])[0]
            rows.append(torch.stack([self.fronts[index][0], predicted, self.truth[index][view]]))
        return plain_sheet(rows)

    @torch.no_grad()
    def _predicted(self, i2t: I2T, index: int, cameras: CameraBatch) -> Tensor:
        ws = self.ws[index : index + 1]
        return self._render(ws, i2t(self.fronts[index].to(ws.device)), cameras).cpu()

    def _render(self, ws: Tensor, planes: Tensor, cameras: CameraBatch | None = None) -> Tensor:
        return views_of(self.eg3d, ws, planes, cameras or self.cameras, beat=self.beat)


@torch.no_grad()
def sample_ws(
    eg3d: EG3D,
    count: int,
    generator: torch.Generator,  # CPU
    *,
    psi: tuple[float, float],
    camera: CameraBatch | None = None,  # the front camera, where the generator lies
) -> Tensor:
    """Return ws [B,L,w] of new identities, each truncated by its own psi."""
    average = eg3d.backbone.mapping.w_avg
    z = torch.randn(count, eg3d.config.z_dim, generator=generator)
    share = psi[0] + (psi[1] - psi[0]) * torch.rand(count, 1, generator=generator)
    drawn = torch.cat([z, share], dim=1)
    if average.device.type == "cuda":
        drawn = drawn.pin_memory()  # copied without waiting
    drawn = drawn.to(average, non_blocking=True)
    camera = camera or front_camera(eg3d.config.rig())
    label = camera.label().to(average).expand(count, -1)
    return average.lerp(eg3d.map(drawn[:, :-1], label), drawn[:, -1:, None])


@torch.no_grad()
def front_views(
    eg3d: EG3D,
    ws: Tensor,  # [B,L,w]
    *,
    beat: Beat = no_beat,
    camera: CameraBatch | None = None,  # the front camera, where the generator lies
    dtype: torch.dtype | None = None,  # in which planes are computed; None: the weights'
) -> tuple[Tensor, Tensor]:
    """Return front views [B,3,H,W] in [0,1] and planes [B,3,C,R,R] of ws [B,L,w].

    A graphics card makes a few heads together, and fewer where memory runs out; on a CPU that
    would gain nothing.
    """
    camera = camera or front_camera(eg3d.config.rig()).to(ws.device)
    together = _heads_together(ws.device)
    images: list[Tensor] = []
    stacks: list[Tensor] = []
    while (done := sum(map(len, stacks))) < len(ws):
        rows = ws[done : done + together]
        beat()
        try:
            planes = eg3d.planes(rows, dtype=dtype)
            image = views_of(eg3d, rows, planes, camera.repeated(len(rows)), beat=beat)
        except RuntimeError as error:
            if together == 1 or not is_out_of_memory(error):
                raise
            together //= 2
            continue
        stacks.append(planes)
        images.append(image)
    if len(stacks) == 1:
        return images[0], stacks[0]
    return torch.cat(images), torch.cat(stacks)


def _heads_together(device: torch.device) -> int:
    return 1 if device.type == "cpu" else HEADS_TOGETHER


def views_of(
    eg3d: EG3D, ws: Tensor, planes: Tensor, cameras: CameraBatch, *, beat: Beat = no_beat
) -> Tensor:
    """Return views [V,3,H,W] in [0,1] from ws [1 or V,L,w] and planes [1 or V,3,C,R,R]."""
    portrait = Portrait(eg3d.renderer(), Triplane(planes, eg3d.config.box_size), ws)
    memory = RenderSettings().memory_mb * len(planes)  # a view of each head at once
    settings = RenderSettings(memory_mb=memory)
    return render_views(portrait, cameras, settings=settings, progress=lambda *_: beat()).image


@torch.no_grad()
def plane_statistics(
    eg3d: EG3D, *, count: int, psi: tuple[float, float], seed: int, beat: Beat = no_beat
) -> tuple[Tensor, Tensor]:
    """Return the mean planes [3,C,R,R] and, per channel [3,C], the deviation from them."""
    generator = step_generator(seed, 0)
    total = squares = torch.zeros((), dtype=torch.float64)
    for _ in range(count):
        beat()
        planes = eg3d.planes(sample_ws(eg3d, 1, generator, psi=psi))[0].cpu().double()
        total, squares = total + planes, squares + planes.square()
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0)
    return mean.float(), variance.mean((2, 3)).sqrt().float()


@torch.no_grad()
def rendered_psnr(eg3d: EG3D, i2t: I2T, ws: Tensor, cameras: CameraBatch) -> float:
    """Return the mean PSNR in dB of rendered views against the generator's own, over ws [B,L,w]."""
    scores = []
    for row in ws.split(1):
        front, planes = front_views(eg3d, row)
        truth, image = (views_of(eg3d, row, p, cameras) for p in (planes, i2t(front)))
        scores.append(psnr(image, truth))
    return float(torch.cat(scores).mean())
