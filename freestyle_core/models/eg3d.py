"""The EG3D generator: a random vector and a camera label become planes that can be rendered.

`EG3D` maps and makes planes once per identity; `EG3DRenderer` is the part that every view needs
(decoder and super-resolution), and what a portrait keeps. Parameter names are the official ones, so
an official state dict loads without renaming. Rendering itself is in `method/render.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ShapeError
from ..geometry.triplane import FoldedPlanes, fold_planes, outside_box, sample_folded
from ..types import Region
from .config import EG3DConfig
from .layers import FullyConnected, Noise, SynthesisBlock, normalize_2nd_moment
from .modulation import Modulation
from .superresolution import SuperResolution

EMPTY_DENSITY = -1000.0  # raw density whose softplus is zero
RGB_WIDENING = 0.001  # the decoder's sigmoid reaches slightly past 0 and 1 (as in MipNeRF)
_IGNORED_BUFFERS = ("dataset_label_std",)  # in official snapshots, used by no network


class MappingNetwork(nn.Module):
    """z and camera label -> w, with the running average that truncation pulls towards."""

    w_avg: Tensor

    def __init__(self, config: EG3DConfig) -> None:
        super().__init__()
        self.layers = config.mapping_layers
        width = config.z_dim
        if config.c_dim:
            self.embed = FullyConnected(config.c_dim, config.w_dim)
            width += config.w_dim
        for index in range(self.layers):
            layer = FullyConnected(width, config.w_dim, activation="lrelu", lr_multiplier=0.01)
            setattr(self, f"fc{index}", layer)
            width = config.w_dim
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:  # [B,z], [B,c] -> [B,w]
        x = normalize_2nd_moment(z)
        if hasattr(self, "embed"):
            x = torch.cat([x, normalize_2nd_moment(self.embed(label))], dim=1)
        for index in range(self.layers):
            x = getattr(self, f"fc{index}")(x)
        return x


class Synthesis(nn.Module):
    """w -> plane stack: synthesis blocks b4, b8, ... up to the plane resolution."""

    def __init__(self, config: EG3DConfig) -> None:
        super().__init__()
        self.resolutions = config.block_resolutions
        channels = 0
        for resolution in self.resolutions:
            width = config.block_channels(resolution)
            block = SynthesisBlock(
                channels, width, config.w_dim, resolution, 3 * config.plane_channels
            )
            setattr(self, f"b{resolution}", block)
            channels = width

    def forward(
        self,
        ws: Tensor,  # [B,L,w]
        noise: Noise,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        modulation: Modulation | None = None,
    ) -> Tensor:  # [B,3C,R,R]
        x: Tensor | None = None
        image: Tensor | None = None
        first = 0
        for resolution in self.resolutions:
            block = getattr(self, f"b{resolution}")
            rows = ws[:, first : first + block.rows]
            change = None if modulation is None else modulation.at(resolution, rows[:, -1])
            x, image = block(x, image, rows, noise, generator, dtype, change)
            first += block.rows - 1  # torgb shares its row with the next block's conv0
        assert image is not None  # the first block is always there
        return image


class Backbone(nn.Module):
    """Mapping and synthesis under their official names."""

    def __init__(self, config: EG3DConfig) -> None:
        super().__init__()
        self.mapping = MappingNetwork(config)
        self.synthesis = Synthesis(config)


class Decoder(nn.Module):
    """Point feature -> raw density and colour features, by one hidden layer."""

    def __init__(self, config: EG3DConfig) -> None:
        super().__init__()
        lr = config.decoder_lr_mul
        self.net = nn.Sequential(
            FullyConnected(config.plane_channels, config.decoder_hidden, lr_multiplier=lr),
            nn.Softplus(),
            FullyConnected(config.decoder_hidden, 1 + config.feature_channels, lr_multiplier=lr),
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return raw density [B,1,N] and colour features [B,F,N] from features [B,C,N]."""
        weight, bias = self._layer(2).scaled()
        out = _pointwise(weight, bias, self._hidden(features))
        # sigmoid * (1 + 2 w) - w in one pass: these are the largest tensors of a rendering
        colour = torch.rsub(torch.sigmoid(out[:, 1:]), -RGB_WIDENING, alpha=-1 - 2 * RGB_WIDENING)
        return out[:, :1].clone(), colour  # a view would keep all of `out` in memory

    def density(self, features: Tensor) -> Tensor:
        """Return only the raw density [B,1,N]."""
        weight, bias = self._layer(2).scaled()
        return _pointwise(weight[:1], bias[:1], self._hidden(features))

    def _hidden(self, features: Tensor) -> Tensor:
        weight, bias = self._layer(0).scaled()
        return F.softplus(_pointwise(weight, bias, features))

    def _layer(self, index: int) -> FullyConnected:
        return cast(FullyConnected, self.net[index])


def _pointwise(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """Return weight [O,I] times x [B,I,N] plus bias [O], points last as grid_sample leaves them."""
    return torch.baddbmm(bias[:, None], weight.expand(x.shape[0], -1, -1), x)


class EG3DRenderer(nn.Module):
    """The part of the generator that every view needs: decoder and super-resolution."""

    def __init__(
        self,
        config: EG3DConfig,
        decoder: Decoder,
        superresolution: nn.Module,
        *,
        parent: str | None = None,  # where tuned: hash of the renderer it was; files then carry it
    ) -> None:
        super().__init__()
        self.config = config
        self.parent = parent
        self.decoder = decoder
        self.superresolution = superresolution

    def fold(
        self,
        planes: Tensor,  # [B,3,C,R,R]
        regions: Sequence[Region] = (),  # of `Triplane`
    ) -> FoldedPlanes:
        """Return the planes ready for `decode`; do it once per identity."""
        return fold_planes(planes, self.config.plane_axes, self.config.box_size, regions)

    def decode(
        self,
        planes: Tensor | FoldedPlanes,  # [B,3,C,R,R]; B = 1 serves every batch of points
        points: Tensor,  # [B,N,3], scene units
    ) -> tuple[Tensor, Tensor]:
        """Return raw density [B,N,1] (before softplus) and colour features [B,N,F]."""
        density, colour = self.decoder(self._features(planes, points))
        return self._emptied(density, points).transpose(1, 2), colour.transpose(1, 2)

    def decode_density(self, planes: Tensor | FoldedPlanes, points: Tensor) -> Tensor:
        """Return raw density [B,N,1] alone, as `decode` would."""
        density = self.decoder.density(self._features(planes, points))
        return self._emptied(density, points).transpose(1, 2)

    def superresolve(
        self,
        features: Tensor,  # [B,F,h,h]
        w: Tensor,  # [B or 1,L,w]
        *,
        dtype: torch.dtype | None = None,  # of the activations; None: that of the features
    ) -> Tensor:
        """Return images [B,3,H,W] in about [-1,1]."""
        return self.superresolution(features, w, dtype)

    def _features(self, planes: Tensor | FoldedPlanes, points: Tensor) -> Tensor:
        folded = planes if isinstance(planes, FoldedPlanes) else self.fold(planes)
        return sample_folded(folded, points)

    def _emptied(self, density: Tensor, points: Tensor) -> Tensor:
        if not self.config.empty_outside_box:
            return density
        outside = outside_box(points, self.config.box_size)
        return density.masked_fill(outside[:, None], EMPTY_DENSITY)


def make_renderer(config: EG3DConfig) -> EG3DRenderer:
    """Return a renderer of this config with weights that have learnt nothing."""
    return EG3DRenderer(config, Decoder(config), SuperResolution(config))


class EG3D(nn.Module):
    """A whole generator, ready to train or to load an official state dict."""

    def __init__(self, config: EG3DConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.decoder = Decoder(config)
        self.superresolution = SuperResolution(config)

    def map(
        self,
        z: Tensor,  # [B,z]
        label: Tensor,  # [B,25], CameraBatch.label()
        *,
        psi: float = 1.0,  # 1: as drawn, 0: the average face
        cutoff: int | None = None,  # rows from here on are not pulled to the average
    ) -> Tensor:
        """Return ws [B,L,w]: one row per layer group of the backbone."""
        w = self.map_one(z, label)
        ws = w[:, None].repeat(1, self.config.num_ws, 1)
        if psi == 1:
            return ws
        pulled = self.backbone.mapping.w_avg.lerp(ws, psi)
        if cutoff is None or cutoff >= ws.shape[1]:
            return pulled
        return torch.cat([pulled[:, :cutoff], ws[:, cutoff:]], dim=1)

    def map_one(self, z: Tensor, label: Tensor) -> Tensor:
        """Return w [B,w], before truncation and not repeated."""
        config = self.config
        if z.ndim != 2 or z.shape[1] != config.z_dim or label.shape[1:] != (config.c_dim,):
            raise ShapeError(
                f"this generator maps z [B,{config.z_dim}] and labels [B,{config.c_dim}], "
                f"got {tuple(z.shape)} and {tuple(label.shape)}"
            )
        label = torch.zeros_like(label) if config.c_zero else label * config.c_scale
        return self.backbone.mapping(z, label)

    def planes(
        self,
        ws: Tensor,  # [B,L,w]
        *,
        noise: Noise = "const",
        generator: torch.Generator | None = None,  # CPU, draws random noise
        dtype: torch.dtype | None = None,  # of the activations; None: that of the weights
        modulation: Modulation | None = None,  # layers that change the features, see there
    ) -> Tensor:
        """Return planes [B,3,C,R,R] in the type of the weights.

        Official backbones do not clamp: bfloat16 is safe, float16 may overflow.
        """
        stack = self.backbone.synthesis(ws, noise, generator, dtype, modulation)
        return stack.unflatten(1, (3, self.config.plane_channels))

    def renderer(self, *, parent: str | None = None) -> EG3DRenderer:
        """Return the renderer that shares this generator's decoder and super-resolution.

        `parent` is given where they were tuned for a portrait, see `EG3DRenderer`.
        """
        return EG3DRenderer(self.config, self.decoder, self.superresolution, parent=parent)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load as usual, passing over buffers that no network of EG3D reads."""
        kept = {k: v for k, v in state_dict.items() if k not in _IGNORED_BUFFERS}
        return super().load_state_dict(kept, *args, **kwargs)
