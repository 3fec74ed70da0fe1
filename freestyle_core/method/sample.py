"""Sampling: a seed becomes a portrait that can be rendered."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..geometry.cameras import front_camera
from ..models.eg3d import EG3D
from ..seeds import MAX_SEED as MAX_SEED
from ..seeds import check_seed
from ..types import Portrait, Triplane

_WORD = 2**32  # numpy's generator is seeded by one such word, or by several


def latent(seed: int, size: int) -> Tensor:
    """Return z [1,size] of a seed: the same numbers as in EG3D's scripts, on every device.

    Those scripts take seeds below 2^32; larger ones, up to 2^64 - 1, give heads of their own.
    """
    check_seed(seed)
    words = seed if seed < _WORD else [seed % _WORD, seed // _WORD]
    return torch.from_numpy(np.random.RandomState(words).randn(1, size)).float()


@torch.no_grad()
def sample_portrait(
    eg3d: EG3D,
    seed: int,
    *,
    psi: float | None = None,  # 1: as varied as the training data, 0: the average head
    cutoff: int | None = None,  # truncate only the rows before this one
    label: Tensor | None = None,  # [1,25], conditioning camera; None: the front camera
) -> Portrait:
    """Return the head that the generator makes of a seed; psi None is the generator's own."""
    if psi is None:
        psi = eg3d.config.truncation_psi
    if not math.isfinite(psi):
        raise InputError(f"psi must be a finite number, got {psi}; 0.7 is usual")
    parameter = next(eg3d.parameters())
    if label is None:
        label = front_camera(eg3d.config.rig()).label()
    z = latent(seed, eg3d.config.z_dim)
    w = eg3d.map(z.to(parameter), label.to(parameter), psi=psi, cutoff=cutoff)
    planes = eg3d.planes(w)
    provenance = {
        "seed": seed,
        "psi": psi,
        "cutoff": cutoff,
        "eg3d": eg3d.config.name,
        "licence": eg3d.config.licence,
    }
    triplane = Triplane(planes, eg3d.config.box_size)
    return Portrait(eg3d.renderer(), triplane, w, provenance=provenance)
