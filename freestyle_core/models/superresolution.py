"""Super-resolution: from the rendered feature image to the final picture.

All four of EG3D's kinds are two synthesis blocks driven by the last row of `ws`. 8XDC and 8X double
the size twice, 4X and 2X only in the second block (the names compare with older renderings).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import SR_UPSAMPLING, EG3DConfig
from .layers import SynthesisBlock, smoothing_filter


class SuperResolution(nn.Module):
    """Two synthesis blocks that continue the first three feature channels as an image."""

    def __init__(self, config: EG3DConfig) -> None:
        super().__init__()
        self.input_resolution = config.sr_input_resolution
        self.antialias = config.sr_antialias
        self.noise = config.sr_noise
        doubles_twice = SR_UPSAMPLING[config.superresolution] == 4
        middle = self.input_resolution * (2 if doubles_twice else 1)
        first, second = config.sr_channels
        self.block0 = SynthesisBlock(
            config.feature_channels,
            first,
            config.w_dim,
            middle,
            3,
            up=doubles_twice,
            clamp=config.sr_clamp,
        )
        self.block1 = SynthesisBlock(
            first, second, config.w_dim, middle * 2, 3, clamp=config.sr_clamp
        )
        if config.superresolution != "8XDC":  # official files of the other kinds carry it
            self.register_buffer("resample_filter", smoothing_filter())

    def forward(
        self,
        features: Tensor,  # [B,F,h,h]
        ws: Tensor,  # [B or 1,L,w]
        dtype: torch.dtype | None = None,  # of the activations; None: that of the features
    ) -> Tensor:
        """Return the image [B,3,H,W] in about [-1,1], in the type of the features."""
        if features.shape[-1] != self.input_resolution:
            features = F.interpolate(
                features,
                size=(self.input_resolution, self.input_resolution),
                mode="bilinear",
                align_corners=False,
                antialias=self.antialias,
            )
        rows = ws[:, -1:].expand(-1, 3, -1)
        x, image = self.block0(features, features[:, :3], rows, self.noise, dtype=dtype)
        return self.block1(x, image, rows, self.noise, dtype=dtype)[1]
