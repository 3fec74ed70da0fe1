"""Train the clay VAE: 128x128 images to 16x16 latents of 16 channels, and back.

L1 on pixels and on their differences between neighbours (edges keep eyes and brows sharp), and a
trace of KL. Afterwards the latent statistics are folded into the 1x1 convolutions either side of
the latent, so every channel has mean 0 and standard deviation 1, but for the three that carry the
local colour. Those get `COLOR_DEVIATION`: noise in them spoils the picture forty times as much
as in the others, so the editor has to decide them first and best. The `scaling_factor` is 1.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import FileFormatError
from ...files.media.image import save_image
from ...files.tensors import CheckpointFile
from ...metrics.image import psnr
from ...seeds import step_generator
from ...training.loop import Trainer, TrainSettings
from ...training.losses import edge_loss
from ...visualize.contact_sheet import plain_sheet

log = logging.getLogger(__name__)

RESOLUTION = 128
LATENT_CHANNELS = 16
COLOR_DEVIATION = 3.0
CROP = 96  # training crops cost half of full images; the last FULL_SHARE sees full images
FULL_SHARE = 0.12
EDGE_WEIGHT, KL_WEIGHT = 0.5, 3e-5
# One core (AVX-512, 1 thread): 0.48 s a step of 8 crops, 0.92 s a step of 8 full images.
SETTINGS = TrainSettings(steps=2000, batch_size=8, learning_rate=2e-3, warmup_steps=60)


def build_vae() -> Any:
    """Return an untrained clay VAE, a diffusers AutoencoderKL (1.7 million weights).

    The posterior starts narrow: at diffusers' standard deviation of 1 the noise drowns the latents.
    Normalisation has one group, since several would remove the colour of a picture, and colours
    have a straight way through (`_pass_colors`).
    """
    from diffusers import AutoencoderKL

    vae: Any = AutoencoderKL(  # its layers have no types
        block_out_channels=(16, 32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=RESOLUTION,
        scaling_factor=1.0,
    )
    with torch.no_grad():
        vae.quant_conv.weight[LATENT_CHANNELS:].mul_(0.1)
        vae.quant_conv.bias[LATENT_CHANNELS:].fill_(-7.0)  # log variance
        _pass_colors(vae)
    return vae


def _pass_colors(vae: Any) -> None:
    """Make channels 0 to 2 carry the local mean colour from end to end, before any training.

    Found by chance colours take a thousand steps to appear. Residual branches start at zero; the
    way past them is linear but for the last normalisation, where an offset of 3 keeps SiLU so.
    """
    for name, module in vae.named_modules():
        if name.endswith((".conv2", "quant_conv")):
            nn.init.zeros_(module.weight)
            if name.endswith("conv2"):
                nn.init.zeros_(module.bias)
        straight = (".conv_shortcut", ".conv_in", "samplers.0.conv", ".conv_out", "quant_conv")
        if not name.endswith(straight):
            continue
        weight, size = module.weight, module.kernel_size[0]
        weight[:3] = 0
        for color in range(3):
            if name.endswith("downsamplers.0.conv"):
                weight[color, color, :2, :2] = 0.25
            else:
                weight[color, color, size // 2, size // 2] = 1
    for part in (vae.encoder, vae.decoder):
        part.conv_norm_out.bias[:3] = 3.0
        part.conv_out.bias[:3] = -3.0
    for conv in (vae.quant_conv, vae.post_quant_conv):
        for channel in range(LATENT_CHANNELS):
            conv.weight[channel, channel] = 1


@torch.no_grad()
def calibrate_colors(vae: Any, images: Tensor) -> None:  # images [N,3,H,W], in [-1,1]
    """Scale the decoder's output in place so that the colours of `images` come back best."""
    restored = vae.decode(vae.encode(images).latent_dist.mode()).sample
    out = vae.decoder.conv_out
    for color in range(3):
        x, y = restored[:, color].flatten(), images[:, color].flatten()
        # least squares y = slope * x + offset
        slope = ((x - x.mean()) * (y - y.mean())).mean() / x.var(correction=0)
        out.weight[color].mul_(slope)
        out.bias[color] = slope * (out.bias[color] - x.mean()) + y.mean()


class ImagePool:
    """All images of the shards in a folder, read from the files as they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.sources: list[Tensor] = []  # uint8 [N,3,128,128]
        self.targets: list[Tensor] = []
        for path in sorted(folder.glob("pairs_*.pt")):
            shard = torch.load(path, weights_only=True, mmap=True)
            self.sources.append(shard["source"])
            self.targets.append(shard["target"])
        for path in sorted(folder.glob("renders_*.pt")):
            shard = torch.load(path, weights_only=True, mmap=True)
            self.sources.append(shard["image"].flatten(0, 1))
        if not self.targets:
            raise FileFormatError(f"no pairs_*.pt in {folder}; make the training data first")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return `count` random images [N,3,128,128] in [-1,1]; two of three are restyled heads."""
        images = []
        for _ in range(count):
            restyled = torch.rand((), generator=generator) < 2 / 3
            shards = self.targets if restyled else self.sources
            shard = shards[_randint(len(shards), generator)]
            image = shard[_randint(len(shard), generator)]
            images.append(image.flip(2) if _randint(2, generator) else image)
        return torch.stack(images).float() / 127.5 - 1

    def held_out(self, count: int) -> Tensor:
        """Return images [N,3,128,128] in [-1,1] of the last shard, spread over it."""
        shard = self.targets[-1]
        return shard[torch.linspace(0, len(shard) - 1, count).long()].float() / 127.5 - 1


def _randint(high: int, generator: torch.Generator) -> int:
    return int(torch.randint(high, (), generator=generator))


def vae_losses(
    vae: Any,
    images: Tensor,  # [N,3,H,W], in [-1,1]
    generator: torch.Generator,  # of the latents' noise
) -> dict[str, Tensor]:
    """Return the weighted losses of one batch."""
    posterior = vae.encode(images).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator).to(images.device)
    restored = vae.decode(posterior.mean + posterior.std * noise).sample
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    return {
        "l1": (restored - images).abs().mean(),
        "edge": EDGE_WEIGHT * edge_loss(restored, images),
        "kl": KL_WEIGHT * kl,
    }


@torch.no_grad()
def normalise_latents(vae: Any, images: Tensor) -> None:
    """Change the weights in place: latents of mean 0, deviation 1 or, colours, COLOR_DEVIATION."""
    batches = [vae.encode(batch).latent_dist.mean for batch in images.split(16)]
    latents = torch.cat(batches).transpose(0, 1).flatten(1)  # [C, N*h*w]
    mean, std = latents.mean(1), latents.std(1)
    std = std.clamp_min(0.05 * std.mean().item())
    std[:3] /= COLOR_DEVIATION
    before, after = vae.quant_conv, vae.post_quant_conv
    moments = before.weight[: len(mean)], before.bias[: len(mean)]
    moments[0].div_(std[:, None, None, None])
    moments[1].sub_(mean).div_(std)
    before.bias[len(mean) :].sub_(2 * std.log())  # log variance
    # after(z) = W z + b with the old z = std * z' + mean
    after.bias.add_(after.weight[:, :, 0, 0] @ mean)
    after.weight.mul_(std[None, :, None, None])


@torch.no_grad()
def _psnr(vae: Any, images: Tensor) -> tuple[float, Tensor]:
    """Return the mean PSNR in dB and the restored images in [-1,1]."""
    batches = [vae.decode(vae.encode(part).latent_dist.mode()).sample for part in images.split(16)]
    restored = torch.cat(batches).clamp(-1, 1)
    return float(psnr(restored / 2, images / 2).mean()), restored


def train_vae(
    data_dir: Path,
    out_dir: Path,
    *,
    settings: TrainSettings = SETTINGS,
    device: str = "cpu",
    threads: int | None = None,
    resume: bool = True,
    statistics: int = 256,  # images that latents are made normal for
) -> Path:
    """Train on the shards in `data_dir` and return the folder of the finished VAE."""
    if threads is not None:
        torch.set_num_threads(threads)
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(settings.seed)
    pool = ImagePool(data_dir)
    held_out = pool.held_out(24).to(device)
    vae = build_vae()
    calibrate_colors(vae, pool.draw(32, step_generator(settings.seed, -2)))
    vae = vae.to(device, memory_format=torch.channels_last)
    trainer = Trainer(vae, CheckpointFile(out_dir / "vae.checkpoint.pt"), settings)
    if resume:
        trainer.resume()

    def losses_at(step: int) -> dict[str, Tensor]:
        generator = step_generator(settings.seed, step)
        images = pool.draw(settings.batch_size, generator)
        if step < (1 - FULL_SHARE) * settings.steps:
            top, left = (_randint(RESOLUTION - CROP + 1, generator) for _ in range(2))
            images = images[:, :, top : top + CROP, left : left + CROP]
        images = images.to(device, memory_format=torch.channels_last)
        return vae_losses(vae, images, generator)

    def on_checkpoint() -> None:
        decibels, restored = _psnr(trainer.average, held_out)
        log.info("held-out PSNR %.2f dB", decibels)
        rows = [held_out[:12], restored[:12], held_out[12:], restored[12:]]
        save_image(out_dir / "vae.png", plain_sheet([row / 2 + 0.5 for row in rows]))

    trainer.fit(losses_at, on_checkpoint)
    images = pool.draw(statistics, step_generator(settings.seed, -1)).to(device)
    normalise_latents(trainer.average, images)
    log.info("finished: held-out PSNR %.2f dB", _psnr(trainer.average, held_out)[0])
    folder = out_dir / "vae"
    trainer.average.to("cpu", memory_format=torch.contiguous_format).half().save_pretrained(folder)
    return folder
