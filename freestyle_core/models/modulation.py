"""Modulation layers added to a frozen generator: the paper's ablation "w/o I2T" (section 4.4).

"We remove the I2T network and instead add two modulation layers directly to the original EG3D
triplane generator (only the modulation layers are trainable)." A layer is eq. 3 on a feature map F
[C,H,W] of the generator, mu and sigma taken across channels at every position. Where the paper is
silent: gamma and beta come from the generator's own w, since without the encoder there is no w_s,
so they have one value per channel; both are stored relative to what gives F back, so that training
starts from the generator's head; and the layers act on the features of 8 x 8 and 16 x 16, where two
do most (a zombie by the clay models, 10 views, 80 steps, 6 new cameras: 17.4 dB from the truth,
14.4 dB at 32 and 64, 14.0 dB at 64 and 128). Read `Modulation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..errors import InputError
from .config import EG3DConfig
from .layers import FullyConnected

LAYERS = 2  # the paper's
COARSE = 8  # the resolution of the first of them
_LEAST_DEVIATION = 1e-6


class ModulationLayer(nn.Module):
    """Eq. 3 on one feature map: sigma * (gamma(w) * (F - mu) / sigma + beta(w)) + mu."""

    def __init__(self, w_dim: int, channels: int) -> None:
        super().__init__()
        self.gamma_beta = FullyConnected(w_dim, 2 * channels)
        nn.init.zeros_(self.gamma_beta.weight)  # gamma is stored as its difference from one

    def forward(self, x: Tensor, w: Tensor) -> Tensor:  # [B,C,H,W], [B,w] -> [B,C,H,W]
        gamma, beta = self.gamma_beta(w)[:, :, None, None].chunk(2, dim=1)
        mean = x.mean(dim=1, keepdim=True)
        deviation = x.std(dim=1, keepdim=True, unbiased=False).clamp_min(_LEAST_DEVIATION)
        return x + gamma * (x - mean) + deviation * beta


class Modulation(nn.Module):
    """Modulation layers for some resolutions of a backbone; at first they change nothing."""

    def __init__(self, config: EG3DConfig, resolutions: Sequence[int] | None = None) -> None:
        super().__init__()
        own = config.block_resolutions
        first = own.index(COARSE) if own[-1] > COARSE else len(own) - LAYERS
        chosen = tuple(own[first : first + LAYERS] if resolutions is None else resolutions)
        if not chosen or not set(chosen) <= set(own) or len(set(chosen)) < len(chosen):
            raise InputError(
                f"modulation layers act at resolutions of the generator, {own}, each once; got "
                f"{chosen}"
            )
        self.layers = nn.ModuleDict(
            {str(r): ModulationLayer(config.w_dim, config.block_channels(r)) for r in chosen}
        )

    def at(self, resolution: int, w: Tensor) -> Callable[[Tensor], Tensor] | None:  # [B,w]
        """Return what changes the features of one resolution, None where nothing does."""
        if str(resolution) not in self.layers:
            return None
        layer = self.layers[str(resolution)]
        return lambda x: layer(x, w)
