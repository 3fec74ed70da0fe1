"""What fine-tuning trains: a source of planes, one set of planes for each portrait.

Four kinds, chosen by `FinetuneSettings.train`:
- "i2t", the paper (eq. 3 to 7): the weights of an I2T network, which makes planes of a front view.
- "planes": the planes themselves learn, as the portrait's own planes plus a pyramid of residuals.
- "both": the network's planes plus the pyramid, so that the codes w_s can still be mixed.
- "modulation", the paper's ablation "w/o I2T": two layers added to the frozen generator.

`PlaneSource` is all that the training loop knows of them. Shapes: N portraits, planes [3,C,R,R].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.eg3d import EG3D
from ..models.i2t import I2T
from ..models.modulation import Modulation
from ..types import StyleCode


class PlaneSource(Protocol):
    """Trainable planes of N portraits; an `nn.Module`."""

    def planes(self, rows: Tensor) -> Tensor:  # [U], which portraits
        """Return the planes [U,3,C,R,R] of some of the portraits, with gradients."""

    def style(self, row: int) -> StyleCode | None:
        """Return the code that the planes of a portrait come from, where they come from one."""

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss for the planes' own sake; None for nothing."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return what learns."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that a checkpoint needs."""


class OwnPlanes(nn.Module):
    """The planes that the portraits have; nothing in them learns."""

    own: Tensor

    def __init__(self, planes: Tensor) -> None:  # [N,3,C,R,R]
        super().__init__()
        self.register_buffer("own", planes, persistent=False)  # a checkpoint need not hold inputs

    def planes(self, rows: Tensor) -> Tensor:
        return self.own if len(self.own) == 1 else self.own[rows]

    def style(self, row: int) -> StyleCode | None:
        return None

    def penalty(self) -> Tensor | None:
        return None


class NetworkPlanes(nn.Module):
    """The planes that an I2T network makes of the front views."""

    fronts: Tensor

    def __init__(
        self,
        network: I2T,  # learns
        fronts: Tensor,  # [N,3,H,W], in [0,1]
        parent: str,  # hash of the weights it starts from
    ) -> None:
        super().__init__()
        self.network, self.parent = network, parent
        self.register_buffer("fronts", fronts, persistent=False)

    def planes(self, rows: Tensor) -> Tensor:
        return self.network(self.fronts if len(self.fronts) == 1 else self.fronts[rows])

    @torch.no_grad()
    def style(self, row: int) -> StyleCode | None:
        return StyleCode(self.network.encode(self.fronts[row : row + 1]), self.network, self.parent)

    def penalty(self) -> Tensor | None:
        return None


class ModulatedPlanes(nn.Module):
    """The planes that a frozen generator makes with modulation layers in it; those learn."""

    ws: Tensor

    def __init__(
        self,
        generator: EG3D,  # frozen; not a part of this module, so that no checkpoint holds it
        ws: Tensor,  # [N,L,w] of the portraits
    ) -> None:
        super().__init__()
        self.modulation = Modulation(generator.config).to(ws.device)
        self.register_buffer("ws", ws, persistent=False)
        self._made = partial(generator.planes, modulation=self.modulation)

    def planes(self, rows: Tensor) -> Tensor:
        return self._made(self.ws if len(self.ws) == 1 else self.ws[rows])

    def style(self, row: int) -> StyleCode | None:
        return None

    def penalty(self) -> Tensor | None:
        return None


class ResidualPlanes(nn.Module):
    """Planes of another source plus a pyramid of residuals, all zero at the start.

    The residual is the sum of levels of R, R/2, R/4, ... texels, each enlarged bilinearly. The
    coarse levels move whole features with few numbers, so that few steps are enough. Stored numbers
    act `gain` times the deviation of the channel they belong to, which makes one learning rate fit
    all generators.
    """

    scale: Tensor

    def __init__(
        self,
        start: OwnPlanes | NetworkPlanes,
        own: Tensor,  # [N,3,C,R,R], the portraits' planes, whose spread sets the scale
        gains: Sequence[float],  # of each level, the finest first
        smooth: float = 0.0,  # weight of the penalty on steps between neighbours, finest level
    ) -> None:
        super().__init__()
        count, planes, channels, size, _ = own.shape
        sizes = [size >> level for level in range(len(gains)) if size >> level]
        self.start, self.gains, self.smooth = start, tuple(gains), smooth
        self.levels = nn.ParameterList(
            torch.zeros(count, planes * channels, side, side) for side in sizes
        ).to(own.device)
        spread = own.flatten(3).std(dim=(0, 3))  # [3,C]
        self.register_buffer("scale", spread.reshape(-1, 1, 1), persistent=False)

    def planes(self, rows: Tensor) -> Tensor:
        return self.start.planes(rows) + self.residual(rows)

    def residual(self, rows: Tensor) -> Tensor:  # [U] -> [U,3,C,R,R]
        """Return what is added to the planes of the start."""
        total: Tensor | None = None
        for gain, level in reversed(list(zip(self.gains, self.levels, strict=False))):
            own = level if len(level) == 1 else level[rows]
            own = own * (gain * self.scale)
            if total is not None:
                own = own + F.interpolate(
                    total, scale_factor=2, mode="bilinear", align_corners=False
                )
            total = own
        assert total is not None  # there is a level
        return total.unflatten(1, (3, -1))

    def style(self, row: int) -> StyleCode | None:
        style = self.start.style(row)
        if style is None:
            return None
        index = torch.tensor([row], device=self.scale.device)
        with torch.no_grad():
            residual = self.residual(index)
        return replace(style, residual=residual)

    def penalty(self) -> Tensor | None:
        if not self.smooth:
            return None
        finest = self.levels[0]
        steps = finest.diff(dim=-1).square().mean() + finest.diff(dim=-2).square().mean()
        return self.smooth * steps
