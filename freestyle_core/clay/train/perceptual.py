"""Train the clay perceptual features: name the style of a portrait and read its identity.

Every pair gives two images, the plain head and the restyled one. Both say which style they are in
(plain counts as one) and which head parameters they show, so the features must see colour,
material and shape alike. Only the convolutions are used afterwards.

Most pictures are blurred first, each quarter of a batch by its own width. Without that the features
live on single pixels: a blur of one pixel counted three quarters as much as a hue turned by 30
degrees, so a portrait fitted with them (eq. 5) took a wrong colour to get the right grain.
"""

import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import FileFormatError
from ...files.networks import save_perceptual
from ...files.tensors import CheckpointFile
from ...models.perceptual import PerceptualConfig, PerceptualNet
from ...seeds import step_generator
from ...training.loop import Trainer, TrainSettings
from ..data.shards import SHARD
from ..heads.head import PARAMETERS

log = logging.getLogger(__name__)

CROP = 112  # of 128 pixels: cheaper, and features must not count on exact places
IDENTITY_WEIGHT = 2.0
BLURRED = 0.7  # share of the quarters of a batch
SMALLEST = 28  # pixels of a picture shrunk and enlarged again: the strongest blur
SETTINGS = TrainSettings(steps=600, batch_size=12, learning_rate=1.5e-3, warmup_steps=50)


class PairPool:
    """The pairs of a folder with their style and head parameters; the last shard is held out."""

    def __init__(self, folder: Path) -> None:
        self.pairs, self.codes = [], []
        for path in sorted(folder.glob("pairs_*.pt")):
            heads = folder / path.name.replace("pairs", "heads")
            if not heads.exists():
                raise FileFormatError(f"{path} has no {heads.name} beside it; make the heads first")
            shard = torch.load(path, weights_only=True, mmap=True)
            z = torch.load(heads, weights_only=True, mmap=True)["z"]
            self.pairs.append(shard)
            self.codes.append(identity_values(z)[shard["identity"] % SHARD])
        if len(self.pairs) < 2:
            raise FileFormatError(f"{folder} has fewer than two pairs_*.pt; make the data first")
        self.styles = 1 + max(int(shard["style"].max()) for shard in self.pairs)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return images [2N,3,crop,crop] in [0,1], styles [2N] and identities [2N,P]."""
        rows = []
        for _ in range(count):
            shard = int(torch.randint(len(self.pairs) - 1, (), generator=generator))
            row = int(torch.randint(len(self.codes[shard]), (), generator=generator))
            rows.append((shard, row))
        images, styles, codes = self._gather(rows)
        top, left = torch.randint(images.shape[-1] - CROP + 1, (2,), generator=generator).tolist()
        return images[:, :, top : top + CROP, left : left + CROP], styles, codes

    def held_out(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return whole images of the last shard, as `draw` does."""
        last = len(self.pairs) - 1
        rows = torch.linspace(0, len(self.codes[last]) - 1, count).long().tolist()
        return self._gather([(last, row) for row in rows])

    def _gather(self, rows: list[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
        plain = [self.pairs[shard]["source"][row] for shard, row in rows]
        restyled = [self.pairs[shard]["target"][row] for shard, row in rows]
        styles = torch.stack([self.pairs[shard]["style"][row] for shard, row in rows])
        styles = torch.where(styles < 0, self.styles, styles)  # only attributes: still plain
        codes = torch.stack([self.codes[shard][row] for shard, row in rows])
        images = torch.stack(plain + restyled).float() / 255
        return images, torch.cat([torch.full_like(styles, self.styles), styles]), codes.repeat(2, 1)


def identity_values(z: Tensor) -> Tensor:
    """Return [N,P] uniform numbers in [-1,1], one per head parameter, from codes [N,64]."""
    z = z * z.square().mean(1, keepdim=True).rsqrt()  # only the direction of a code counts
    return torch.erf(z[:, : len(PARAMETERS)] / 2**0.5)


def blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images [N,3,S,S], most quarters of them shrunk by a random factor and enlarged."""
    parts = []
    for part in images.chunk(4):
        if torch.rand((), generator=generator) < BLURRED:
            size = images.shape[-1]
            smaller = int(torch.randint(SMALLEST, size, (), generator=generator))
            part = F.interpolate(part, smaller, mode="area")
            part = F.interpolate(part, size, mode="bilinear")
        parts.append(part)
    return torch.cat(parts)


def perceptual_losses(
    net: PerceptualNet, images: Tensor, styles: Tensor, codes: Tensor
) -> dict[str, Tensor]:
    """Return the weighted losses of one batch."""
    logits, values = net(images)
    identity = (values - codes).square().mean()
    return {"style": F.cross_entropy(logits, styles), "identity": IDENTITY_WEIGHT * identity}


@torch.no_grad()
def held_out_scores(net: PerceptualNet, pool: PairPool, count: int = 100) -> dict[str, float]:
    """Return the style accuracy of restyled heads and the identity variance explained."""
    images, styles, codes = pool.held_out(count)
    outputs = [net(part) for part in images.split(20)]
    logits, values = (torch.cat(part) for part in zip(*outputs, strict=True))
    right = (logits[count:].argmax(1) == styles[count:]).float().mean()
    explained = 1 - (values - codes).square().mean() / codes.square().mean()
    return {"style accuracy": float(right), "identity explained": float(explained)}


def train_perceptual(
    data_dir: Path,
    out: Path,  # the finished safetensors file; the checkpoint lies beside it
    *,
    settings: TrainSettings = SETTINGS,
    threads: int | None = None,
    device: str = "cpu",
    resume: bool = True,
) -> PerceptualNet:
    """Return the trained network after writing it to `out`."""
    if threads is not None:
        torch.set_num_threads(threads)
    out.parent.mkdir(parents=True, exist_ok=True)
    pool = PairPool(data_dir)
    config = PerceptualConfig(
        styles=pool.styles + 1, identity=len(PARAMETERS), name="clay", licence="Apache-2.0"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = PerceptualNet(config).to(device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer = Trainer(net, CheckpointFile(out.with_suffix(".checkpoint.pt")), settings)
    if resume:
        trainer.resume()

    def losses_at(step: int) -> dict[str, Tensor]:
        images, styles, codes = pool.draw(settings.batch_size, step_generator(settings.seed, step))
        images = blurred(images, step_generator(settings.seed + 1, step))
        images = images.to(device, memory_format=torch.channels_last)
        return perceptual_losses(net, images, styles.to(device), codes.to(device))

    trainer.fit(losses_at)
    finished = trainer.average.to("cpu")
    finished.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    log.info("held-out %s", held_out_scores(finished, pool))
    save_perceptual(out, finished, dtype=torch.float16)
    return finished
