"""The Image-to-Triplane network (paper section 3.2): a front view in, a code, three planes out.

Notation: c code channels and k code size (w_s is [c,k,k]), C channels of one plane, R its
resolution. Read `I2T` first. The decoder has one `SML` (style modulation layer, eq. 3) per
resolution 4..R; the planes are the sum of a 1x1 output of every layer, as in EG3D's generator.

Where the paper is silent, three choices make a few hundred Adam steps at learning rate 0.002
enough: weights are stored larger than they act (`STORED_STD`), so that one step changes them by
about one per cent; gamma starts at one and beta at zero; the planes are a mean head (`plane_mean`,
measured on the generator before pre-training) plus `plane_scale` times what the layers add.
Feature maps are channels-last throughout: the normalisation and every 1x1 convolution need no copy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..errors import InputError, MismatchError, ShapeError
from .config import EG3DConfig, config_from_dict

SLOPE = 0.2  # of every leaky ReLU, as in StyleGAN2
# Both are part of what saved weights mean; a change needs new training.
STORED_STD = 0.2  # of a weight in memory; its gain restores He scale. 1.0 would be StyleGAN's
POSITION_GAIN = 8.0  # learned position maps act this much larger than they are stored
FRESH = "fresh"  # in place of a file: a network that was never trained
MIXED_RESOLUTION = 16  # the encoder mixes all positions with each other from here down


@dataclass(frozen=True)
class I2TConfig:
    """Sizes of an I2T network. The defaults are the paper's: 512 px in, 256 planes, k = 32.

    The paper says nothing of widths. Counted for all widths times a factor (parameters, GFLOP to
    learn from one head; the generator's own work for that head is 304 GFLOP; size of a portrait):
    0.5: 12.4 M, 41, 50 MB; 1: 40.9 M, 160, 164 MB; 1.5: 85.6 M, 357, 342 MB; 2: 147 M, 630, 586 MB.
    Half the width would save a quarter of the time of pre-training, since the generator's share
    stays; twice the width would double it and make portraits 3.6 times as large.
    The same factors of the clay network, 4 minutes of one core each on 400 heads (parameters,
    GFLOP for a step of 8 heads, steps, PSNR of held-out heads; `benchmarks/i2t_widths.py`):
    0.5: 0.8 M, 7.8, 398, 19.4 dB; 1: 2.2 M, 29.5, 373, 20.1 dB; 2: 7.3 M, 114, 137, 16.6 dB.
    """

    image_resolution: int = 512
    plane_resolution: int = 256
    plane_channels: int = 32
    code_channels: int = 64
    code_size: int = 32  # 1 is the ablation "w/o spatial dimension"
    channel_base: int = 16384  # layer at resolution r has min(base / r, max) channels
    channel_max: int = 512
    encoder_channels: tuple[int, ...] = (32, 64, 128, 256, 512, 512)  # at image / 2, / 4, ...
    name: str = "i2t"
    licence: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "encoder_channels", tuple(self.encoder_channels))
        for name in ("image_resolution", "plane_resolution", "code_size"):
            value = getattr(self, name)
            if value < 1 or value & (value - 1):
                raise InputError(f"I2T {name} must be a power of two, got {value}")
        if self.plane_resolution < 4:
            raise InputError(f"I2T planes must be at least 4 wide, got {self.plane_resolution}")
        sizes = self.encoder_resolutions
        if not sizes or sizes[-1] < 2 or self.code_size > sizes[0]:
            raise InputError(
                f"I2T encoder with {len(self.encoder_channels)} stages cannot turn "
                f"{self.image_resolution} pixels into a code of size {self.code_size}; every stage "
                "halves the image, the last must keep 2 pixels and the first at least code_size"
            )
        if min(self.plane_channels, self.code_channels, *self.encoder_channels) < 1:
            raise InputError("I2T channel counts must be positive")

    @property
    def encoder_resolutions(self) -> tuple[int, ...]:
        """Return the resolution after each encoder stage."""
        return tuple(self.image_resolution >> i + 1 for i in range(len(self.encoder_channels)))

    @property
    def layer_resolutions(self) -> tuple[int, ...]:
        """Return 4, 8, ..., plane_resolution: one modulation layer each."""
        return tuple(2**i for i in range(2, int(math.log2(self.plane_resolution)) + 1))

    def layer_channels(self, resolution: int) -> int:
        """Return the channels of the modulation layer at `resolution`."""
        return max(1, min(self.channel_base // resolution, self.channel_max))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "encoder_channels": list(self.encoder_channels)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> I2TConfig:
        """Return the config that `to_dict` described; unknown names are errors."""
        return config_from_dict(cls, values)


def check_i2t_fits(i2t: I2TConfig, eg3d: EG3DConfig, *, name: str = "the I2T") -> None:
    """Raise MismatchError unless the network reads this generator's images and makes its planes."""
    for size in ("image_resolution", "plane_resolution", "plane_channels"):
        ours, theirs = getattr(i2t, size), getattr(eg3d, size)
        if ours != theirs:
            raise MismatchError(
                f"{name} has {size} {ours}, but EG3D {eg3d.name} has {theirs}; load the I2T that "
                "belongs to it, or pre-train an I2T on this EG3D (the pretrain command)"
            )


def i2t_config_for(
    config: EG3DConfig,
    code_size: int | None = None,  # 1: "w/o spatial dimension"; None: 32, or what fits
) -> I2TConfig:
    """Return sizes for a new I2T of a generator: the paper's, or small ones for small pictures."""
    size = config.image_resolution
    is_large = size >= 256
    first, widest = (32, 512) if is_large else (24, 128)
    stages = max(1, size.bit_length() - 4)  # every stage halves the picture, down to 8 pixels
    return I2TConfig(
        image_resolution=size,
        plane_resolution=config.plane_resolution,
        plane_channels=config.plane_channels,
        code_channels=64 if is_large else 32,
        code_size=min(32, max(1, size // 4)) if code_size is None else code_size,
        channel_base=16384 if is_large else 2048,
        channel_max=widest,
        encoder_channels=tuple(min(first << index, widest) for index in range(stages)),
        name=config.name,
        licence=config.licence,
    )


def fresh_i2t(config: EG3DConfig, *, seed: int = 0) -> I2T:
    """Return an I2T of a generator as it is before any training: "w/o I2T pre-training".

    Its mean head is zero too: that is measured on the generator when pre-training begins.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return I2T(i2t_config_for(config)).eval()


class ScaledConv(nn.Module):
    """A convolution whose weights are stored at `STORED_STD` and act at `scale` times He scale."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) * STORED_STD)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain = scale * math.sqrt(2 / (inputs * kernel * kernel)) / STORED_STD
        self.stride = stride

    def forward(
        self,
        x: Tensor,  # [B,inputs,H,W]
        scale: Tensor | None = None,  # [outputs], multiplies the result
    ) -> Tensor:
        weight: Tensor = self.weight * self.gain
        bias: Tensor = self.bias
        if scale is not None:
            weight, bias = weight * scale[:, None, None, None], bias * scale
        if weight.shape[-1] == 1:  # a matrix product; several times faster on a CPU
            x = F.linear(x.permute(0, 2, 3, 1), weight[:, :, 0, 0], bias)
            return x.permute(0, 3, 1, 2)
        return F.conv2d(x, weight, bias, self.stride, weight.shape[-1] // 2)


def normalise_channels(x: Tensor) -> Tensor:
    """Return x [B,C,H,W] with mean 0 and deviation 1 over C at every position (eq. 3)."""
    return F.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],)).permute(0, 3, 1, 2)


def resize_code(w_s: Tensor, resolution: int) -> Tensor:
    """Return the code [B,c,k,k] at another resolution: area average down, bilinear up."""
    size = w_s.shape[-1]
    if resolution == size:
        return w_s
    if resolution < size:
        return F.adaptive_avg_pool2d(w_s, resolution)
    return F.interpolate(w_s, size=resolution, mode="bilinear", align_corners=False)


class SML(nn.Module):
    """Style modulation layer, eq. 3: gamma(w_s) * (F - mu) / sigma + beta(w_s), then leaky ReLU.

    mu and sigma are taken across channels at every position. gamma and beta have one value per
    channel and position. Above the code's own size the resized code is smooth, so 1x1 suffices.
    """

    def __init__(self, code: int, code_size: int, inputs: int, channels: int, resolution: int):
        super().__init__()
        self.resolution = resolution
        self.conv = ScaledConv(inputs, channels)
        self.position = nn.Parameter(torch.randn(channels, resolution, resolution) * 0.01)
        self.hidden = ScaledConv(code, code, 3 if resolution <= code_size else 1)
        self.gamma_beta = ScaledConv(code, 2 * channels, 1)
        nn.init.zeros_(self.gamma_beta.weight)

    def forward(self, x: Tensor, w_s: Tensor) -> Tensor:
        x = self.conv(x) + self.position * POSITION_GAIN
        hidden = F.leaky_relu(self.hidden(resize_code(w_s, self.resolution)), SLOPE)
        gamma, beta = self.gamma_beta(hidden).chunk(2, dim=1)
        # F = gamma * (F - mu) / sigma + beta, gamma stored as its difference from one
        return F.leaky_relu(torch.addcmul(beta, normalise_channels(x), gamma + 1), SLOPE)


class Residual(nn.Module):
    """x plus two convolutions of the normalised x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ScaledConv(channels, channels)
        self.second = ScaledConv(channels, channels, scale=0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.leaky_relu(self.first(normalise_channels(x)), SLOPE))


class PositionMixer(nn.Module):
    """x plus a two-layer network over its positions, the same for every channel.

    Portraits are aligned, so what the front view shows at one place belongs at known other
    places of the side planes; convolutions alone would need many layers to carry it there.
    """

    def __init__(self, resolution: int) -> None:
        super().__init__()
        count = resolution * resolution
        self.first = ScaledConv(count, count, 1)
        self.second = ScaledConv(count, count, 1, scale=0.2)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-1]
        tokens = rearrange(normalise_channels(x), "b c h w -> b (h w) c 1")
        tokens = self.second(F.leaky_relu(self.first(tokens), SLOPE))
        tokens = rearrange(tokens, "b (h w) c 1 -> b c h w", h=size)
        return x + tokens.contiguous(memory_format=torch.channels_last)


def _stage(channels: int, resolution: int, code_size: int) -> nn.Sequential:
    """Return what follows a stride: nothing above the code's size, mixing at the bottom."""
    layers: list[nn.Module] = []
    if resolution <= MIXED_RESOLUTION:
        layers.append(PositionMixer(resolution))
    if resolution <= max(code_size, MIXED_RESOLUTION):
        layers.append(Residual(channels))
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """The style encoder E: front view [B,3,H,W] in [0,1] to code [B,c,k,k], a small U-Net."""

    def __init__(self, config: I2TConfig) -> None:
        super().__init__()
        widths, sizes = config.encoder_channels, config.encoder_resolutions
        self.code_size = config.code_size
        self.strides = nn.ModuleList(ScaledConv(i, o, stride=2) for i, o in pairwise((3, *widths)))
        self.stages = nn.ModuleList(
            _stage(o, size, config.code_size) for o, size in zip(widths, sizes, strict=True)
        )
        # back up to the code's size, bottom first, adding what the way down saw there
        ups = [i for i, size in enumerate(sizes[:-1]) if size <= config.code_size][::-1]
        self.skips = tuple(ups)
        self.lifts = nn.ModuleList(ScaledConv(widths[i + 1], widths[i], 1) for i in ups)
        self.merges = nn.ModuleList(Residual(widths[i]) for i in ups)
        self.output = ScaledConv(widths[ups[-1] if ups else -1], config.code_channels)

    def forward(self, image: Tensor) -> Tensor:
        x = (image * 2 - 1).contiguous(memory_format=torch.channels_last)
        seen = []
        for stride, stage in zip(self.strides, self.stages, strict=True):
            x = stage(F.leaky_relu(stride(x), SLOPE))
            seen.append(x)
        for index, lift, merge in zip(self.skips, self.lifts, self.merges, strict=True):
            x = merge(seen[index] + _double(lift(x)))
        return resize_code(self.output(normalise_channels(x)), self.code_size)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class I2T(nn.Module):
    """Image-to-Triplane: `encode` a front view, `decode` its code to planes, or call for both."""

    plane_mean: Tensor  # [3,C,R,R]
    plane_scale: Tensor  # [3,C]

    def __init__(self, config: I2TConfig) -> None:
        super().__init__()
        self.config = config
        planes, size = config.plane_channels, config.plane_resolution
        self.encoder = Encoder(config)
        self.start = nn.Parameter(torch.randn(config.layer_channels(4), 4, 4) * STORED_STD)
        self.layers, self.outputs = nn.ModuleList(), nn.ModuleList()
        inputs = config.layer_channels(4)
        for resolution in config.layer_resolutions:
            channels = config.layer_channels(resolution)
            code = config.code_channels, config.code_size
            self.layers.append(SML(*code, inputs, channels, resolution))
            self.outputs.append(ScaledConv(channels, 3 * planes, 1, scale=0.1))
            inputs = channels
        self.register_buffer("plane_mean", torch.zeros(3, planes, size, size))
        self.register_buffer("plane_scale", torch.ones(3, planes))

    def encode(self, image: Tensor) -> Tensor:
        """Return the code w_s [B,c,k,k] of front views [B,3,H,W] in [0,1]."""
        size = self.config.image_resolution
        if image.ndim != 4 or image.shape[1:] != (3, size, size):
            raise ShapeError(
                f"this I2T encodes images [B,3,{size},{size}], got {tuple(image.shape)}; resize "
                "the front view or load the I2T that belongs to this EG3D"
            )
        return self.encoder(image)

    def decode(self, w_s: Tensor) -> Tensor:
        """Return the planes [B,3,C,R,R] of codes [B,c,k,k]."""
        code = self.config.code_channels, self.config.code_size, self.config.code_size
        if w_s.ndim != 4 or w_s.shape[1:] != code:
            raise ShapeError(
                f"this I2T decodes codes [B,{code[0]},{code[1]},{code[2]}], got "
                f"{tuple(w_s.shape)}; use the network that encoded it"
            )
        x = (self.start / STORED_STD).expand(w_s.shape[0], -1, -1, -1)
        scale = self.plane_scale.flatten()
        total: Tensor | None = None
        for layer, output in zip(self.layers, self.outputs, strict=True):
            x = layer(x if total is None else _double(x), w_s)
            added = output(x, scale)
            total = added if total is None else _double(total) + added
        assert total is not None  # there are layers
        return self.plane_mean + rearrange(total, "b (p c) h w -> b p c h w", p=3)

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(self.encode(image))

    @torch.no_grad()
    def set_plane_statistics(
        self,
        mean: Tensor,  # [3,C,R,R], the generator's average planes
        scale: Tensor,  # [3,C], deviation of its planes from that average
    ) -> None:
        """Fix the average head that the layers add to; call once, before pre-training."""
        if mean.shape != self.plane_mean.shape or scale.shape != self.plane_scale.shape:
            raise ShapeError(
                f"plane statistics must be {tuple(self.plane_mean.shape)} and "
                f"{tuple(self.plane_scale.shape)}, got {tuple(mean.shape)} and "
                f"{tuple(scale.shape)}; this I2T and that EG3D have different planes"
            )
        self.plane_mean.copy_(mean)
        self.plane_scale.copy_(scale.clamp_min(1e-6))
