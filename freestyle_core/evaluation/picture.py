"""One picture of an evaluation: the views, one view moved to another's place, where they disagree.

Red is disagreement, wherever it is shown. Read `evaluation_picture`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from ..files.media.image import to_bytes
from ..geometry.warps import LEAST_DEG, pairs_at, view_angles, warped, warps_between
from ..metrics.disagreement import LIMIT, deviations
from ..types import CameraBatch, Rendering
from ..visualize.contact_sheet import INK, MARGIN, PAPER

TILE = 128  # pixels of a view
WORST = 0.3  # difference that is shown as plain red
RED, UNSEEN = (0.85, 0.05, 0.05), (0.82, 0.85, 0.90)
COLUMNS = 8  # two times: a view, another one, that one moved here, the difference
LABEL = 110  # pixels left of a row


@dataclass(frozen=True)
class Shown:
    """What the picture is made of."""

    portrait: Rendering  # V
    original: Rendering | None  # V, the same cameras
    edited: Tensor | None  # [V,3,H,W], the same cameras
    degrees: float  # between the views of a pair
    tolerance: float  # scene units, see `warps_between`
    count: int  # views in a row


def evaluation_picture(shown: Shown, disagreement: Sequence[float]) -> Tensor:
    """Return the picture [3,H,W]; with the disagreement of each edited view, these are framed."""
    views = across(shown.portrait.cameras, shown.count)
    canvas = _Canvas()
    if shown.original is not None:
        canvas.row("original", shown.original.image[views])
    if shown.edited is not None:
        canvas.row("edited", shown.edited[views])
    canvas.row("portrait", shown.portrait.image[views])
    pairs = _pairs(shown.portrait.cameras, shown.degrees)
    canvas.heads(["a view", "another", "moved here", "difference"] * (COLUMNS // 4))
    if shown.edited is not None and shown.original is not None:
        canvas.row("edited", _moved(shown.original, shown.edited, pairs, shown.tolerance))
    canvas.row("portrait", _moved(shown.portrait, shown.portrait.image, pairs, shown.tolerance))
    canvas.legend()
    if disagreement and shown.edited is not None:
        canvas.frames("edited views,\nred: do not\nfit the others", shown.edited, disagreement)
    return canvas.finished()


def across(cameras: CameraBatch, count: int) -> list[int]:
    """Return views that turn from one side to the other, near the level of the front."""
    towards = -cameras.cam_to_world[:, :3, 2].double().cpu()
    yaw = torch.rad2deg(torch.atan2(towards[:, 0], towards[:, 2]))
    pitch = torch.rad2deg(torch.asin(towards[:, 1].clamp(-1, 1)))
    doubles = view_angles(cameras).cpu() < LEAST_DEG  # the front of an odd grid comes twice
    chosen: list[int] = []
    for wanted in torch.linspace(float(yaw.min()), float(yaw.max()), count):
        off = (yaw - wanted).square() + pitch.square() / 4
        off[doubles[chosen].any(0)] = torch.inf
        if bool(off.isfinite().any()):
            chosen.append(int(off.argmin()))
    return sorted(chosen, key=lambda view: float(yaw[view]))


def heat(images: Tensor, error: Tensor, seen: Tensor) -> Tensor:
    """Return pale grey pictures [N,3,H,W], red by the error [N,1,H,W], flat where not seen."""
    grey = 0.55 + 0.45 * images.mean(1, keepdim=True)
    strength = (error / WORST).clamp(0, 1)
    red, unseen = (images.new_tensor(x).view(1, 3, 1, 1) for x in (RED, UNSEEN))
    return torch.where(seen, grey * (1 - strength) + red * strength, unseen)


def _pairs(cameras: CameraBatch, degrees: float) -> Tensor:
    """Return two pairs [2,2], near the level of the front, one for each side."""
    pairs = pairs_at(cameras, degrees).to(cameras.cam_to_world.device)
    height = cameras.cam_to_world[:, 1, 3]
    beside = (height[pairs] - height.mean()).abs().sum(1)
    first = int(beside.argmin())
    # the other one starts where the first one is seen least
    angles = view_angles(cameras)
    far = angles[pairs[:, 0], pairs[first, 0]] - 10 * beside / beside.max().clamp_min(1e-6)
    return pairs[[first, int(far.argmax())]]


def _moved(geometry: Rendering, images: Tensor, pairs: Tensor, tolerance: float) -> Tensor:
    """Return for each pair four pictures: a view, another, that one moved here, the difference."""
    cameras, size = geometry.cameras, images.shape[-1]
    warps = warps_between(geometry.depth, geometry.alpha, cameras, pairs, size, tolerance=tolerance)
    here, there = images[pairs[:, 0]], images[pairs[:, 1]]
    moved = warped(images, warps).clamp(0, 1)
    unseen = images.new_tensor(UNSEEN).view(1, 3, 1, 1)
    error = (here - moved).abs().mean(1, keepdim=True)
    parts = [here, there, torch.where(warps.seen, moved, unseen), heat(here, error, warps.seen)]
    return torch.stack(parts, dim=1).flatten(0, 1)


class _Canvas:
    """Rows below each other, each with a label at its left."""

    def __init__(self) -> None:
        self.width = LABEL + COLUMNS * (TILE + MARGIN) + MARGIN
        self.font = ImageFont.load_default(size=16)
        self.strips: list[Image.Image] = []

    def row(self, label: str, images: Tensor) -> None:
        """Add pictures [N,3,H,W] side by side."""
        strip, draw = self._strip(TILE + MARGIN)
        draw.text((MARGIN, TILE / 2), label, fill=INK, font=self.font, anchor="lm")
        for column, picture in enumerate(_tiles(images, TILE)[:COLUMNS]):
            strip.paste(picture, (LABEL + column * (TILE + MARGIN), 0))

    def heads(self, names: Sequence[str]) -> None:
        """Add a line of names over the columns."""
        _, draw = self._strip(40)
        for column, name in enumerate(names):
            middle = LABEL + column * (TILE + MARGIN) + TILE / 2
            draw.text((middle, 34), name, fill=INK, font=self.font, anchor="ms")

    def legend(self) -> None:
        """Add the scale of the differences."""
        strip, draw = self._strip(44)
        ramp = torch.linspace(0, WORST, 2 * TILE).expand(1, 1, 14, -1)
        bar = heat(torch.full((1, 3, 14, 2 * TILE), 0.9), ramp, torch.ones_like(ramp).bool())
        left = LABEL + TILE + MARGIN
        strip.paste(Image.fromarray(to_bytes(bar)[0]), (left, 8))
        draw.text((left - MARGIN, 15), "agrees", fill=INK, font=self.font, anchor="rm")
        right = left + 2 * TILE + MARGIN
        draw.text((right, 15), "differs", fill=INK, font=self.font, anchor="lm")
        unseen = tuple(round(255 * x) for x in UNSEEN)
        draw.rectangle((right + 2 * TILE, 8, right + 2 * TILE + 20, 22), fill=unseen)
        words = "hidden from the other view, or no head"
        draw.text((right + 2 * TILE + 28, 15), words, fill=INK, font=self.font, anchor="lm")

    def frames(self, label: str, images: Tensor, disagreement: Sequence[float]) -> None:
        """Add all pictures small, in frames that are redder the less a view fits the others."""
        step = (COLUMNS * (TILE + MARGIN)) // (2 * COLUMNS)
        side = step - MARGIN
        rows = -(-len(images) // (2 * COLUMNS))
        strip, draw = self._strip(rows * step + MARGIN)
        draw.text((MARGIN, MARGIN), label, fill=INK, font=self.font)
        off = deviations(torch.tensor(list(disagreement))) / (1.5 * LIMIT)
        for index, (picture, bad) in enumerate(
            zip(_tiles(images, side), off.clamp(0, 1).tolist(), strict=True)
        ):
            row, column = divmod(index, 2 * COLUMNS)
            x, y = LABEL + column * step, row * step + 3
            paper = np.array(PAPER) / 255
            frame = tuple(
                round(255 * (p * (1 - bad) + r * bad)) for p, r in zip(paper, RED, strict=True)
            )
            draw.rectangle((x - 4, y - 4, x + side + 3, y + side + 3), fill=frame)
            strip.paste(picture, (x, y))

    def finished(self) -> Tensor:
        """Return the whole picture [3,H,W]."""
        height = sum(strip.height for strip in self.strips) + MARGIN
        page, y = Image.new("RGB", (self.width, height), PAPER), MARGIN
        for strip in self.strips:
            page.paste(strip, (0, y))
            y += strip.height
        return torch.from_numpy(np.array(page)).permute(2, 0, 1).float() / 255

    def _strip(self, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        strip = Image.new("RGB", (self.width, height), PAPER)
        self.strips.append(strip)
        return strip, ImageDraw.Draw(strip)


def _tiles(images: Tensor, size: int) -> list[Image.Image]:
    small = functional.interpolate(
        images.detach().float().cpu(), size=(size, size), mode="bicubic", antialias=True
    )
    return [Image.fromarray(picture) for picture in to_bytes(small.clamp(0, 1))]
