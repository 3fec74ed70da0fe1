"""Tune a whole generator to a few pictures: the second stage of both inversions.

`TunedGenerator` is a private copy whose every weight but the mapping network's learns, by Adam,
with w held still (Roich et al. 2021, "pivotal tuning"). What comes out is a portrait with planes
baked and a renderer of its own.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import FreeStyleError
from ..files.bundle import weights_hash
from ..models.eg3d import EG3D
from ..models.layers import Noise
from ..types import Portrait, Rendering, Triplane
from .view import View

BETAS = (0.9, 0.999)  # torch's own, as published


class TunedGenerator:
    """A generator that learns; the one it was copied from stays as it is."""

    def __init__(
        self,
        eg3d: EG3D,
        ws: Tensor,  # [1,L,w], held still
        *,
        learning_rate: float,
        betas: tuple[float, float] = BETAS,
        noise: Noise = "const",
        generator: torch.Generator | None = None,  # CPU, of the noise
    ) -> None:
        self.parent = weights_hash(eg3d.renderer().state_dict())
        self.eg3d = copy.deepcopy(eg3d).float().requires_grad_(True)
        self.eg3d.backbone.mapping.requires_grad_(False)
        self.ws, self.noise, self.generator = ws.detach().clone(), noise, generator
        learning = [p for p in self.eg3d.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(learning, lr=learning_rate, betas=betas)
        self.losses: dict[str, list[float]] = {}

    def planes(self) -> Tensor:
        """Return the planes [1,3,C,R,R] as they are now, with gradients."""
        return self.eg3d.planes(self.ws, noise=self.noise, generator=self.generator)

    def look(self, view: View, planes: Tensor | None = None) -> Rendering:
        """Return the view as it is now, with gradients."""
        return view.of(self.eg3d, self.planes() if planes is None else planes, self.ws)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def lower(self, terms: Mapping[str, Tensor]) -> None:
        """Make a step of the optimiser on the sum of some losses, [] each."""
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.stack(list(terms.values())).sum()
        if not bool(torch.isfinite(total)):
            raise FreeStyleError(
                f"tuning the generator diverged (loss {float(total)}); lower the learning rate"
            )
        total.backward()
        self.optimizer.step()
        for name, value in terms.items():
            self.losses.setdefault(name, []).append(float(value.detach()))

    @torch.no_grad()
    def portrait(self, provenance: Mapping[str, Any]) -> Portrait:
        """Return what has been learned; its planes are those of the generator's own noise maps."""
        self.eg3d.requires_grad_(False).eval()
        triplane = Triplane(self.eg3d.planes(self.ws), self.eg3d.config.box_size)
        renderer = self.eg3d.renderer(parent=self.parent)
        return Portrait(renderer, triplane, self.ws, provenance=dict(provenance))
