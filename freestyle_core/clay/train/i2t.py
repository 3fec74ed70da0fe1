"""Pre-train the clay I2T on portraits of the clay EG3D (paper eq. 4).

The front views of a few thousand identities are rendered once and kept; their planes are computed
again whenever they are needed, which costs less than a third of a step and no memory.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...files.bundle import weights_hash
from ...files.networks import load_eg3d, save_i2t
from ...files.tensors import load_tensors, save_tensors
from ...geometry.cameras import orbit_cameras
from ...models.eg3d import EG3D
from ...models.i2t import I2T, I2TConfig
from ...pretrain.data import front_views, rendered_psnr, sample_ws
from ...pretrain.train import PretrainSettings, PretrainWatch, pretrain
from ...seeds import step_generator
from ...training.checkpoint import TrainingState

log = logging.getLogger(__name__)

CONFIG = I2TConfig(
    image_resolution=128,
    plane_resolution=128,
    plane_channels=16,
    code_channels=32,
    code_size=32,
    channel_base=2048,
    channel_max=128,
    encoder_channels=(24, 48, 96, 128),
    name="clay",
    licence="Apache-2.0",
)
SETTINGS = PretrainSettings(
    iterations=1650, batch_size=8, learning_rate=3e-3, betas=(0.9, 0.99), preview_every=0
)
IDENTITIES = 1000
HELD_OUT = 16  # identities at the end of the cache that are never trained on
CACHE_SHARD = 50  # identities rendered between two saves
VIEWS = (0.0, 0.0), (25.0, 0.0), (-25.0, 10.0), (0.0, -20.0)  # yaw and pitch of the test, degrees
CHECKPOINT_EVERY = 200  # steps, about a minute


@dataclass(frozen=True)
class FrontCache:
    """Identities with their rendered front views; called with a step it gives that batch."""

    eg3d: EG3D
    ws: Tensor  # [N,w]: clay identities use one w for all layers
    images: Tensor  # [N,3,H,W], uint8
    settings: PretrainSettings

    def rows(self, index: Tensor) -> Tensor:
        """Return ws [B,L,w] of identities."""
        return self.ws[index][:, None].repeat(1, self.eg3d.config.num_ws, 1)

    @torch.no_grad()
    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        generator = step_generator(self.settings.seed, step)
        count = len(self.ws) - HELD_OUT
        index = torch.randint(count, (self.settings.batch_size,), generator=generator)
        device = self.eg3d.backbone.mapping.w_avg.device
        planes = self.eg3d.planes(self.rows(index).to(device))
        return self.images[index].to(device).float() / 255, planes


def front_cache(path: Path, eg3d: EG3D, count: int, settings: PretrainSettings) -> FrontCache:
    """Return the cache at `path`, rendering what it lacks; another generator's is made anew."""
    owner = weights_hash(eg3d.state_dict())
    stored: dict[str, Any] = load_tensors(path) if path.exists() else {"eg3d": ""}
    ws, images = [], []
    if stored["eg3d"] == owner:
        ws, images = [stored["ws"]], [stored["images"]]
    done, saved = sum(map(len, ws)), time.monotonic()
    device = eg3d.backbone.mapping.w_avg.device
    while done < count:
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + 500_000 + done)
        rows = sample_ws(eg3d, CACHE_SHARD, generator, psi=settings.psi)
        views = [front_views(eg3d, row)[0] for row in rows.to(device).split(10)]
        ws.append(rows[:, 0].cpu())
        images.append((torch.cat(views).cpu() * 255 + 0.5).byte())
        done += CACHE_SHARD
        if done >= count or time.monotonic() - saved > 60:
            ws, images = [torch.cat(ws)], [torch.cat(images)]
            save_tensors(path, {"eg3d": owner, "ws": ws[0], "images": images[0]})
            saved = time.monotonic()
            log.info("%d of %d front views", done, count)
    return FrontCache(eg3d, torch.cat(ws)[:count], torch.cat(images)[:count], settings)


def held_out_psnr(cache: FrontCache, i2t: I2T, count: int = 8) -> float:
    """Return the PSNR in dB of rendered views of identities that were never trained on."""
    device = cache.eg3d.backbone.mapping.w_avg.device
    yaw, pitch = zip(*VIEWS, strict=True)
    cameras = orbit_cameras(yaw, pitch, cache.eg3d.config.rig()).to(device)
    rows = cache.rows(torch.arange(len(cache.ws) - HELD_OUT, len(cache.ws))[:count])
    return rendered_psnr(cache.eg3d, i2t, rows.to(device), cameras)


def train_i2t(
    data_dir: Path,  # where the cache of front views is kept
    out: Path,  # the finished safetensors file; the checkpoint lies beside it
    *,
    eg3d_path: Path,
    settings: PretrainSettings = SETTINGS,
    config: I2TConfig = CONFIG,
    identities: int = IDENTITIES,
    threads: int | None = None,
    device: str = "cpu",
    resume: bool = True,
) -> I2T:
    """Return the pre-trained network after writing it to `out`."""
    if threads is not None:
        torch.set_num_threads(threads)
    for folder in (data_dir, out.parent):
        folder.mkdir(parents=True, exist_ok=True)
    eg3d = load_eg3d(eg3d_path).to(device).requires_grad_(False)
    cache = front_cache(data_dir / "i2t_fronts.pt", eg3d, identities, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        i2t = I2T(config).to(device)
    checkpoint = out.with_suffix(".checkpoint.pt")
    state = None
    if resume and checkpoint.exists():
        state = TrainingState(**load_tensors(checkpoint))
        log.info("resumed at step %d", state.step)
    watch = PretrainWatch(
        on_checkpoint=_keeper(checkpoint, cache, i2t), checkpoint_every=CHECKPOINT_EVERY
    )
    result = pretrain(eg3d, i2t, settings=settings, batches=cache, resume=state, watch=watch)
    log.info("finished: held-out PSNR %.2f dB", held_out_psnr(cache, result.i2t))
    extra = {"iterations": settings.iterations, "seed": settings.seed}
    owner = weights_hash(eg3d.state_dict())
    save_i2t(out, result.i2t.cpu(), eg3d=owner, extra=extra, dtype=torch.float16)
    return result.i2t


def _keeper(path: Path, cache: FrontCache, like: I2T) -> Callable[[TrainingState], None]:
    """Return what writes a checkpoint and logs how good the averaged network is by then."""
    started = time.monotonic()
    steps = 0

    def keep(state: TrainingState) -> None:
        nonlocal steps
        save_tensors(path, {"step": state.step, "tensors": state.tensors, "task": state.task})
        average = I2T(like.config).to(next(like.parameters()).device).eval()
        average.load_state_dict(
            {
                name.removeprefix("average."): value
                for name, value in state.tensors.items()
                if name.startswith("average.")
            }
        )
        steps += CHECKPOINT_EVERY
        loss = state.tensors["losses.plane"][-CHECKPOINT_EVERY:].mean()
        log.info(
            "step %d: %.3f s/step, eq. 4 %.4f, held-out PSNR %.2f dB",
            state.step,
            (time.monotonic() - started) / steps,
            loss,
            held_out_psnr(cache, average),
        )

    return keep


def quick_settings(steps: int) -> PretrainSettings:
    """Return settings for a trial of `steps` steps."""
    return replace(SETTINGS, iterations=steps, warmup=max(1, steps // 10))
