"""StyleGAN2's layers with EG3D's parameter names: read `modulated_conv` first.

A style vector s scales the input channels of a convolution; demodulation divides every output
channel by the norm of its scaled weights. Shapes: B images, I input and O output channels.

Features may be float16 or bfloat16: convolutions then run in that type, while styles, weights and
the image that a block adds to stay float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Noise = Literal["const", "none", "random"]
LRELU_SLOPE = 0.2
LRELU_GAIN = math.sqrt(2)


class FullyConnected(nn.Module):
    """Linear layer with equalised learning rate, optionally followed by a scaled leaky ReLU."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: Literal["linear", "lrelu"] = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier

    def scaled(self) -> tuple[Tensor, Tensor]:
        """Return the weight [O,I] and bias [O] that are really applied."""
        bias = self.bias if self.bias_gain == 1 else self.bias * self.bias_gain
        return self.weight * self.weight_gain, bias

    def forward(self, x: Tensor) -> Tensor:  # x [..., I]
        weight, bias = self.scaled()
        x = F.linear(x, weight, bias)
        return scaled_lrelu(x) if self.activation == "lrelu" else x


def scaled_lrelu(x: Tensor) -> Tensor:
    """Return leaky ReLU times sqrt(2), which keeps the variance."""
    return F.leaky_relu(x, LRELU_SLOPE) * LRELU_GAIN


def normalize_2nd_moment(x: Tensor) -> Tensor:  # x [B,D]
    """Return x divided by its root mean square."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def smoothing_filter() -> Tensor:
    """Return the [4,4] low-pass filter of sum 1 that StyleGAN2 resamples with."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) / 64


def filter2d(
    x: Tensor,  # [B,C,H,W]
    taps: Tensor,  # [4,4], symmetric
    *,
    padding: int = 0,
    bias: Tensor | None = None,  # [C], added to the result
) -> Tensor:
    """Return every channel filtered with `taps`."""
    channels = x.shape[1]
    kernel = taps.to(x.dtype).expand(channels, 1, *taps.shape)
    return F.conv2d(x, kernel, bias, padding=padding, groups=channels)


def upsample2d(x: Tensor, taps: Tensor) -> Tensor:  # x [B,C,H,W] -> [B,C,2H,2W]
    """Return x at twice the size: zeros between the pixels, then the filter times 4.

    A stride-2 transposed convolution is exactly that; cropping one pixel per side centres it.
    """
    channels = x.shape[1]
    kernel = (taps * 4).to(x.dtype).expand(channels, 1, *taps.shape)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


def _conv(x: Tensor, weight: Tensor, taps: Tensor | None, bias: Tensor | None) -> Tensor:
    weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
    if taps is None:
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    return filter2d(spread_conv(x, weight), taps * 4, padding=1, bias=bias)


def spread_conv(x: Tensor, weight: Tensor) -> Tensor:  # [B,I,H,W], [O,I,3,3]
    """Return the stride-2 transposed convolution [B,O,2H+1,2W+1].

    On a CPU, pictures that nothing is learned from are made as four ordinary convolutions, one per
    parity of row and column: the same products, half as fast again.
    """
    if torch.is_grad_enabled() or x.device.type != "cpu":
        return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    batch, _, height, width = x.shape
    out = x.new_empty(batch, weight.shape[0], 2 * height + 1, 2 * width + 1)
    # y[2m] = x[m-1] w[2] + x[m] w[0] and y[2m+1] = x[m] w[1], along either axis
    for row, rows in enumerate(([2, 0], [1])):
        for column, columns in enumerate(([2, 0], [1])):
            taps = weight[:, :, rows][..., columns]
            padding = (len(rows) - 1, len(columns) - 1)
            out[..., row::2, column::2] = F.conv2d(x, taps, padding=padding)
    return out


def modulated_conv(
    x: Tensor,  # [B,I,H,W]
    weight: Tensor,  # [O,I,k,k]
    styles: Tensor,  # [B,I], or [1,I] shared by all images
    *,
    demodulate: bool = True,
    up_taps: Tensor | None = None,  # [4,4] smoothing filter: doubles the size
    gain: float = 1.0,  # multiplies the convolution
    bias: Tensor | None = None,  # [O], added after the gain
) -> Tensor:
    """Return the style-modulated convolution [B,O,H,W] (twice that size with `up_taps`).

    One style shared by the batch goes into the weights; different styles scale the input and
    the output, so that the convolution keeps one weight for all. Both are equal up to rounding.
    The result has the type of x.
    """
    if demodulate and x.dtype == torch.float16:
        # demodulation undoes any scale, so choose one that cannot overflow
        largest = partial(torch.linalg.vector_norm, ord=math.inf, keepdim=True)
        weight = weight / (largest(weight, dim=(1, 2, 3)) * math.sqrt(weight[0].numel()))
        styles = styles / largest(styles, dim=1)
    # d_o = 1 / sqrt(sum_ik (s_i w_oik)^2 + eps)
    scale = None
    if demodulate:
        energy = weight.square().sum(dim=(2, 3))  # [O,I]
        scale = (styles.square() @ energy.t() + 1e-8).rsqrt() * gain  # [B,O]
    elif gain != 1:
        scale = styles.new_full((len(styles), len(weight)), gain)
    if styles.shape[0] == 1:
        weight = weight * styles[0, None, :, None, None]
        if scale is not None:
            weight = weight * scale[0, :, None, None, None]
        return _conv(x, weight, up_taps, bias)
    x = x * styles[:, :, None, None].to(x.dtype)
    if scale is None:
        return _conv(x, weight, up_taps, bias)
    x = _conv(x, weight, up_taps, None)
    scale = scale[:, :, None, None].to(x.dtype)
    return x * scale if bias is None else torch.addcmul(bias[:, None, None].to(x.dtype), x, scale)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias and activation."""

    noise_const: Tensor
    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,  # of the output
        *,
        up: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.up, self.clamp = up, clamp
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.register_buffer("resample_filter", smoothing_filter())

    def forward(
        self, x: Tensor, w: Tensor, noise: Noise, generator: torch.Generator | None = None
    ) -> Tensor:  # x [B,I,h,h], w [B or 1, w_dim] -> [B,O,H,H]
        # lrelu(y) * sqrt(2) = lrelu(y * sqrt(2)): the gain costs nothing inside the weights
        x = modulated_conv(
            x,
            self.weight,
            self.affine(w),
            gain=LRELU_GAIN,
            bias=self.bias * LRELU_GAIN,
            up_taps=self.resample_filter if self.up else None,
        )
        if noise != "none":
            strength = self.noise_strength * LRELU_GAIN
            if noise == "const":
                x = x + (self.noise_const * strength).to(x.dtype)
            else:
                drawn = torch.randn((x.shape[0], 1, *x.shape[2:]), generator=generator)
                x = x + drawn.to(x) * strength.to(x.dtype)
        return _activated(x, self.clamp)


def _activated(x: Tensor, clamp: float | None) -> Tensor:
    """Return leaky ReLU of x, clamped, in the memory of x."""
    if clamp is None:
        return F.leaky_relu_(x, LRELU_SLOPE)
    return _ClampedLrelu.apply(x, clamp)


class _ClampedLrelu(torch.autograd.Function):
    """Leaky ReLU, then a clamp, whose gradient needs only the result, which the next layer keeps.

    Apart, each would keep a tensor of its own: 0.8 GB in the super-resolution of full size.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, clamp: float) -> Tensor:
        ctx.mark_dirty(x)
        x = F.leaky_relu_(x, LRELU_SLOPE).clamp_(-clamp, clamp)
        ctx.save_for_backward(x)
        ctx.clamp = clamp
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (result,) = ctx.saved_tensors
        grad = torch.ops.aten.hardtanh_backward(grad, result, -ctx.clamp, ctx.clamp)
        return torch.ops.aten.leaky_relu_backward(grad, result, LRELU_SLOPE, True), None


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to image channels, without demodulation or activation."""

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, *, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = FullyConnected(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.style_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w) * self.style_gain
        if x.dtype == torch.bfloat16:
            x = x.to(self.bias.dtype)  # its 8 bits are too few for the values of a picture
        x = modulated_conv(x, self.weight, styles, demodulate=False, bias=self.bias)
        x = x.to(self.bias.dtype)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class SynthesisBlock(nn.Module):
    """One resolution of a skip-architecture generator: two layers, then the image is added to."""

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,  # 0: starts from a learned constant
        out_channels: int,
        w_dim: int,
        resolution: int,  # of the output
        image_channels: int,
        *,
        up: bool = True,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.up = up and in_channels > 0
        self.rows = 2 if in_channels == 0 else 3  # rows of ws used, torgb's included
        self.register_buffer("resample_filter", smoothing_filter())
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(
                in_channels, out_channels, w_dim, resolution, up=up, clamp=clamp
            )
        self.conv1 = SynthesisLayer(out_channels, out_channels, w_dim, resolution, clamp=clamp)
        self.torgb = ToRGB(out_channels, image_channels, w_dim, clamp=clamp)

    def forward(
        self,
        x: Tensor | None,  # [B,I,h,h]
        image: Tensor | None,  # [B,C,h,h]
        ws: Tensor,  # [B or 1, rows, w_dim]
        noise: Noise,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,  # of the features; None: that of x
        change: Callable[[Tensor], Tensor] | None = None,  # of the features, before the image
    ) -> tuple[Tensor, Tensor]:  # [B,O,H,H], and [B,C,H,H] in the type of the weights
        rows = list(ws.unbind(dim=1))
        if x is None:
            x = self.const.expand(ws.shape[0], -1, -1, -1)
        x = x if dtype is None else x.to(dtype)
        if self.rows == 3:
            x = self.conv0(x, rows.pop(0), noise, generator)
        x = self.conv1(x, rows.pop(0), noise, generator)
        x = x if change is None else change(x)
        added = self.torgb(x, rows.pop(0))
        if image is None:
            return x, added
        if self.up:
            image = upsample2d(image, self.resample_filter)
        return x, image + added
