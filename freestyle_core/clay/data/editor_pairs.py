"""The training pairs of the clay editor as latents, and the batches that are drawn from them."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import FileFormatError
from ...files.tensors import load_tensors, save_tensors
from ...method.stylize import StylizeSettings
from ..styles.attributes import ATTRIBUTES
from ..styles.captions import sample_caption
from ..styles.catalogue import STYLES
from .shards import SHARD

log = logging.getLogger(__name__)

NOTHING_SHARE = 0.04  # pairs whose target is the source
RENDER_SHARE = 0.9  # sources that are rendered by the clay EG3D, where there are any
DROP_TEXT_RULE = (0.45, 0.85)  # below: the default negative prompt; below: empty; else other words
NOTHING_CAPTIONS = ("do nothing", "keep it as it is", "no change", "the same head", "leave it")


@dataclass(frozen=True)
class LatentPairs:
    """All training pairs as VAE latents, half precision, unscaled."""

    source: Tensor  # [N,C,h,w], E(I)
    target: Tensor  # [N,C,h,w]
    render: Tensor | None  # [N,C,h,w], E of the source as the clay EG3D renders it
    style: Tensor  # [N], index into STYLES; -1: only attributes
    attributes: Tensor  # [N,2], indices into ATTRIBUTES; -1: none
    train: int  # the first `train` rows are for training, the rest is held out
    render_share: float = RENDER_SHARE  # of the sources, where there are renders

    def edit(self, row: int) -> tuple[str | None, list[str]]:
        """Return the names of the style and of the attributes of a row."""
        style, order = int(self.style[row]), list(ATTRIBUTES)
        names = [order[i] for i in self.attributes[row].tolist() if i >= 0]
        return (list(STYLES)[style] if style >= 0 else None), names

    def sources(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return image conditions [N,C,h,w] of rows, most as the clay EG3D renders them."""
        source = self.source[rows].float()
        if self.render is None:
            return source
        rendered = torch.rand(len(rows), generator=generator) < self.render_share
        return torch.where(rendered[:, None, None, None], self.render[rows].float(), source)


class LatentEncoder:
    """Encodes shards once with the VAE and keeps the latents in a folder."""

    def __init__(
        self,
        vae: Any,  # diffusers AutoencoderKL
        folder: Path,
        device: str,
    ) -> None:
        self.vae, self.folder, self.device = vae.to(device).eval(), folder, device
        total = hashlib.sha256()
        for _, weight in sorted(vae.state_dict().items()):
            total.update(weight.cpu().contiguous().numpy().tobytes())
        self.key = total.hexdigest()[:12]
        folder.mkdir(parents=True, exist_ok=True)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return unscaled latents [N,C,h,w], half precision, of bytes [N,3,H,W]."""
        batches = []
        for batch in images.split(32):
            scaled = batch.to(self.device).float() / 127.5 - 1
            scaled = scaled.to(memory_format=torch.channels_last)
            batches.append(self.vae.encode(scaled).latent_dist.mode().half().cpu().contiguous())
        return torch.cat(batches)

    def shard(self, path: Path, fields: tuple[str, ...]) -> dict[str, Tensor]:
        """Return the latents of some image fields of a shard."""
        cache = self.folder / f"{path.stem}_{path.stat().st_size}_{self.key}.pt"
        if cache.exists():
            return load_tensors(cache)
        images = torch.load(path, weights_only=True, mmap=True)
        latents = {}
        for field in fields:
            shape = images[field].shape
            flat = self.encode(images[field].reshape(-1, *shape[-3:]))
            latents[field] = flat.reshape(*shape[:-3], *flat.shape[1:])
        save_tensors(cache, latents)
        log.info("encoded %s", path.name)
        return latents


def load_pairs(data_dir: Path, encoder: LatentEncoder) -> LatentPairs:
    """Return the latents of every pair; the last shard is held out.

    renders_NNNN.pt has the heads and views of heads_NNNN.pt, rendered by the clay EG3D.
    """
    paths = sorted(data_dir.glob("pairs_*.pt"))
    if len(paths) < 2:
        raise FileFormatError(f"{data_dir} has fewer than two pairs_*.pt; make the data first")
    sources, targets, renders, styles, attributes = [], [], [], [], []
    for path in paths:
        pairs = torch.load(path, weights_only=True, mmap=True)
        latents = encoder.shard(path, ("source", "target"))
        sources.append(latents["source"])
        targets.append(latents["target"])
        styles.append(pairs["style"])
        attributes.append(pairs["attributes"])
        rendered = data_dir / path.name.replace("pairs", "renders")
        if rendered.exists():
            views = encoder.shard(rendered, ("image",))["image"]
            renders.append(views[pairs["identity"] % SHARD, pairs["view_index"]])
        else:
            renders.append(latents["source"])
    any_render = any(data_dir.glob("renders_*.pt"))
    return LatentPairs(
        source=torch.cat(sources),
        target=torch.cat(targets),
        render=torch.cat(renders) if any_render else None,
        style=torch.cat(styles),
        attributes=torch.cat(attributes),
        train=sum(len(style) for style in styles[:-1]),
    )


@dataclass(frozen=True)
class Batch:
    """One training batch."""

    source: Tensor  # [N,C,h,w], unscaled, the image condition
    target: Tensor  # [N,C,h,w], scaled
    captions: list[str]  # N, t
    negatives: list[str]  # N, what stands in place of no text


def draw_batch(pairs: LatentPairs, count: int, scale: float, generator: torch.Generator) -> Batch:
    """Return random training pairs with fresh captions."""
    rows = torch.randint(pairs.train, (count,), generator=generator)
    source, target = pairs.sources(rows, generator), pairs.target[rows].float()
    captions, negatives = [], []
    for i, row in enumerate(rows.tolist()):
        if torch.rand((), generator=generator) < NOTHING_SHARE:
            target[i] = pairs.source[row].float()
            captions.append(NOTHING_CAPTIONS[_randint(len(NOTHING_CAPTIONS), generator)])
        else:
            style, attributes = pairs.edit(row)
            captions.append(sample_caption(style, generator, attributes))
        negatives.append(_negative(generator))
    return Batch(source, target * scale, captions, negatives)


def _negative(generator: torch.Generator) -> str:
    u = float(torch.rand((), generator=generator))
    default = StylizeSettings().negative
    if u < DROP_TEXT_RULE[0]:
        return default
    if u < DROP_TEXT_RULE[1]:
        return ""
    words = default.split(", ")
    return words[_randint(len(words), generator)]


def _randint(high: int, generator: torch.Generator) -> int:
    return int(torch.randint(high, (), generator=generator))
