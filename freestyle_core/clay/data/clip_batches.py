"""Batches for the clay CLIP: augmented pictures, captions, and which of them are true together.

A caption speaks of a style (or of the plain head) and of some attributes; it is true of every
picture of that style that shows them all, whichever head it is. So a batch has a matrix of truth in
place of a diagonal. Read `ClipPool.batch` first.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import FileFormatError
from ..styles.attributes import ATTRIBUTES, draw_attributes
from ..styles.captions import PLAIN_WORDINGS, TEMPLATES, describe, wordings
from ..styles.catalogue import STYLES
from ..styles.style import PLAIN
from .shards import attribute_indices

HELD_OUT_HEADS = 5
PLAIN_SHARE = 0.12  # of the pictures of a batch; the styles share the rest equally
SAY = 0.8  # share of the asked attributes that a caption mentions
SAY_NATURAL = 0.3  # share of plain heads whose caption mentions something they have by nature
WRONG = 0.4  # captions with a wrong attribute, as a share of the pictures
EDITOR_TEMPLATES = 0.2  # share of captions in the sentences of the editor
CLIP_TEMPLATES = (
    *("{x}",) * 5,
    *("a photo of {x}",) * 6,
    "a picture of {x}",
    "a portrait of {x}",
    "a 3d render of {x}",
    "the head of {x}",
    "a rendering of {x}",
    "{x}, a portrait",
)
SHRUNK, SHRUNK_SHARE = 28, 0.6  # pixels of the strongest blur, and how many pictures are blurred
GRAY_SHARE, CROP_SHARE = 0.2, 0.2  # on another ground than white; cut out small
NEAR_WHITE = 245  # of 255: ground, where it reaches the border
AS_STYLE = {"old person": "old"}  # a plain head with the attribute is also of the style


@dataclass(frozen=True)
class ClipBatch:
    """What one step learns from."""

    images: Tensor  # [N,3,H,W] in [0,1]
    captions: list[str]  # M, all different
    truth: Tensor  # [N,M], whether a caption is true of a picture


@dataclass(frozen=True)
class Caption:
    """A text and what it says."""

    text: str
    style: int  # index into STYLES; -1: the plain head
    attributes: tuple[int, ...]  # indices into ATTRIBUTES


class ClipPool:
    """The pictures of a folder, all in memory; the last HELD_OUT_HEADS heads are held out."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("clip_*.pt"))
        if len(paths) < 2:
            raise FileFormatError(f"{folder} has fewer than two clip_*.pt; make the data first")
        shards = [torch.load(path, weights_only=True) for path in paths]
        rows = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
        kept = rows["head"] > rows["head"].max() - HELD_OUT_HEADS
        self.held_out = _with_truths({name: value[kept] for name, value in rows.items()})
        self.rows = _with_truths({name: value[~kept] for name, value in rows.items()})
        self.ground = ground_of(self.rows["image"])
        self.of_style = [
            (self.rows["style"] == style).nonzero()[:, 0] for style in range(-1, len(STYLES))
        ]

    def batch(self, count: int, generator: torch.Generator) -> ClipBatch:
        """Return `count` pictures, styles equally often, with a caption each and some besides.

        Every style has a caption in every batch, and some captions name an attribute that the
        picture they were made for does not show.
        """
        rows = self._draw(count, generator)
        styles, shows = self.rows["style"][rows], self.rows["shows"][rows]
        captions = []
        for i in range(count):
            style = int(styles[i])
            asked = [a for a in self.rows["asked"][rows[i]].tolist() if a >= 0]
            said = [a for a in asked if _chance(SAY, generator)]
            if style < 0 and not said and _chance(SAY_NATURAL, generator):
                said = _pick(shows[i].nonzero()[:, 0].tolist(), generator)
            captions.append(caption(style, said, generator))
            if _chance(WRONG, generator):
                captions += _wrong(style, shows[i], generator)
        captions += [caption(style, [], generator) for style in range(-1, len(STYLES))]
        images = augmented(self.rows["image"][rows].float() / 255, self.ground[rows], generator)
        truth = truth_of(styles, shows, captions)
        once = list({said.text: m for m, said in enumerate(captions)}.values())
        return ClipBatch(images, [captions[m].text for m in once], truth[:, once])

    def _draw(self, count: int, generator: torch.Generator) -> Tensor:
        some = [s for s in range(len(STYLES)) if len(self.of_style[s + 1])]
        drawn = []
        for k in torch.randint(len(some), (count,), generator=generator).tolist():
            rows = self.of_style[0 if _chance(PLAIN_SHARE, generator) else some[k] + 1]
            drawn.append(rows[torch.randint(len(rows), (), generator=generator)])
        return torch.stack(drawn)


def caption(style: int, attributes: list[int], generator: torch.Generator) -> Caption:
    """Return a random wording of a style with attributes, in a random template."""
    order = list(ATTRIBUTES)
    choices = PLAIN_WORDINGS if style < 0 else wordings(list(STYLES)[style])
    first = _chance(0.25, generator)  # the canonical words, so that they are learned best
    wording = choices[0] if first else choices[_randint(len(choices), generator)]
    text = describe(wording, [order[a] for a in attributes], generator)
    if _chance(EDITOR_TEMPLATES, generator):
        templates = list(TEMPLATES)
    else:
        templates = list(CLIP_TEMPLATES)
    text = templates[_randint(len(templates), generator)].format(x=text)
    if _chance(0.3, generator):
        text = text.lower()
    return Caption(text, style, tuple(attributes))


def truth_of(styles: Tensor, shows: Tensor, captions: list[Caption]) -> Tensor:
    """Return [N,M]: whether picture n, of style [N] and with shows [N,A], is what caption m says.

    Two captions of the same words are true of the same pictures.
    """
    rows = []
    for said in captions:
        right = styles == said.style
        if said.style >= 0 and (also := AS_STYLE.get(list(STYLES)[said.style])):
            right = right | ((styles < 0) & shows[:, list(ATTRIBUTES).index(also)])
        rows.append(right & shows[:, list(said.attributes)].all(1))
    of_text: dict[str, Tensor] = {}
    for said, row in zip(captions, rows, strict=True):
        text = said.text.lower()
        of_text[text] = of_text[text] | row if text in of_text else row
    return torch.stack([of_text[said.text.lower()] for said in captions], 1)


def ground_of(images: Tensor) -> Tensor:
    """Return where bytes [N,3,H,W] show the white ground: near white, joined to the border."""
    from scipy import ndimage

    white = (images.amin(1) >= NEAR_WHITE).numpy()
    grounds = []
    for picture in white:
        parts, _ = ndimage.label(picture)
        border = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
        grounds.append(np.isin(parts, border[border > 0]))
    return torch.from_numpy(np.stack(grounds))


def augmented(images: Tensor, ground: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures [N,3,H,W] in [0,1] moved, cut, blurred, tinted, some on another ground."""
    count = len(images)

    def random(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    gray = torch.where(random(1, 1, 1) < GRAY_SHARE, 0.3 + 0.7 * random(1, 1, 1), torch.ones(()))
    images = torch.where(ground[:, None], gray.expand_as(images), images)
    images = _moved(images, random(5), random(1)[:, 0] < CROP_SHARE)
    images = _softened(images, generator)
    luma = images.mean(1, keepdim=True)
    level = luma.mean((2, 3), keepdim=True)
    contrast, saturation = 0.85 + 0.3 * random(1, 1, 1), 0.85 + 0.3 * random(1, 1, 1)
    brightness, shift = 0.9 + 0.15 * random(1, 1, 1), 0.03 * (random(1, 1, 1) - 0.5)
    grain = torch.randn(luma.shape, generator=generator) * 0.02 * random(1, 1, 1)
    # one pass over the colours: about their own grey, and that about the picture's mean
    grey = ((luma - level) * contrast + level) * brightness + shift + grain
    factor = contrast * saturation * brightness
    return torch.addcmul(grey - luma * factor, images, factor).clamp_(0, 1)


def _moved(images: Tensor, u: Tensor, cut: Tensor) -> Tensor:
    """Return pictures mirrored, turned a little, scaled and shifted; `cut` ones much larger."""
    turn = (u[:, 0] - 0.5) * 0.3
    zoom = torch.where(cut, 0.55 + 0.3 * u[:, 1], 0.85 + 0.25 * u[:, 1])
    mirror = torch.where(u[:, 2] < 0.5, -1.0, 1.0)
    room = torch.where(cut, (1 - zoom).clamp_min(0), torch.full_like(zoom, 0.08))
    shift = (u[:, 3:] * 2 - 1) * room[:, None]
    matrix = torch.stack(
        [
            torch.stack([mirror * turn.cos() * zoom, -turn.sin() * zoom, shift[:, 0]], 1),
            torch.stack([mirror * turn.sin() * zoom, turn.cos() * zoom, shift[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _softened(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures of which eighths are shrunk by a random factor and enlarged again."""
    parts = []
    for part in images.chunk(8):
        size = images.shape[-1]
        if torch.rand((), generator=generator) < SHRUNK_SHARE:
            smaller = int(torch.randint(SHRUNK, size, (), generator=generator))
            part = F.interpolate(part, smaller, mode="area")
            part = F.interpolate(part, size, mode="bilinear")
        parts.append(part)
    return torch.cat(parts)


def _wrong(style: int, shows: Tensor, generator: torch.Generator) -> list[Caption]:
    """Return a caption of the style with an attribute that it could show and does not, if any."""
    known = PLAIN if style < 0 else list(STYLES.values())[style]
    index = int(attribute_indices(draw_attributes(known, 1, generator))[0])
    return [] if index < 0 or shows[index] else [caption(style, [index], generator)]


def _with_truths(shard: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a shard in which a devil has horns, with or without being asked for them."""
    shows = shard["shows"].clone()
    shows[shard["style"] == list(STYLES).index("devil"), list(ATTRIBUTES).index("horns")] = True
    return {**shard, "shows": shows}


def _pick(values: list[int], generator: torch.Generator) -> list[int]:
    return [values[_randint(len(values), generator)]] if values else []


def _chance(share: float, generator: torch.Generator) -> bool:
    return bool(torch.rand((), generator=generator) < share)


def _randint(high: int, generator: torch.Generator) -> int:
    return int(torch.randint(high, (), generator=generator))
