"""Tiny portraits with a code and a network, for the tests of mixing."""

from dataclasses import replace

import torch

from freestyle_core.types import StyleCode, Triplane
from tests.tiny import tiny_i2t, tiny_portrait


@torch.no_grad()
def styled(eg3d, network, *, seed, parent="p"):
    """Return a portrait whose code comes from a made-up front view."""
    generator = torch.Generator().manual_seed(seed)
    w_s = network.encode(torch.rand(1, 3, 16, 16, generator=generator))
    portrait = tiny_portrait(eg3d, seed)
    return replace(
        portrait,
        triplane=Triplane(network.decode(w_s), 1.0),
        style=StyleCode(w_s, network, parent),
    )


def modulated(seed):
    """Return a network whose planes depend on its code (a new one starts at gamma 1, beta 0)."""
    network = tiny_i2t(seed).requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for layer in network.layers:
        weight = layer.gamma_beta.weight
        weight.copy_(torch.randn(weight.shape, generator=generator))
    return network
