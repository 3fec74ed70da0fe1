"""Procedural heads for tests."""

import torch

from freestyle_core.clay.heads.head import LATENT


def identity_code(seed):
    """Return the identity code [64] of a seed."""
    return torch.randn(LATENT, generator=torch.Generator().manual_seed(seed))
