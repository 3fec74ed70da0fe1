"""The numbers that fix a network's shape; files store them as JSON beside the weights.

`EG3DConfig` describes a whole generator. Its defaults are the official ffhq512-128 model; small
models differ from it only by these numbers.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast

from ..errors import InputError
from ..types import CameraRig

PLANE_AXES = ("xy", "xz", "zx")  # matches all released EG3D weights: there is no yz plane

SR_UPSAMPLING = {"8XDC": 4, "8X": 4, "4X": 2, "2X": 2}  # image size / super-resolution input size
SR_CHANNELS = {"8XDC": (256, 128), "8X": (128, 64), "4X": (128, 64), "2X": (128, 64)}
SR_INPUT = {"8XDC": 128, "8X": 128, "4X": 128, "2X": 64}
SR_CLAMP = 256.0  # EG3D clamps activations wherever half precision is allowed
PORTRAIT_FOCAL = 4.2647  # FFHQ and AFHQ cameras
SHAPENET_FOCAL = 1.7074
MAX_COUNT = 65536  # of any size; more is a damaged file, not a model
MAX_LAYERS = 64


@dataclass(frozen=True)
class EG3DConfig:
    """Everything needed to build one EG3D generator; checked when made."""

    name: str = "ffhq512-128"
    licence: str = "NVIDIA Source Code License for EG3D (non-commercial)"
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 25
    c_scale: float = 1.0  # factor on the camera label before the mapping network
    c_zero: bool = False  # the mapping network always sees a label of zeros
    truncation_psi: float = 0.7  # what sampling uses unless told otherwise
    mapping_layers: int = 2
    plane_resolution: int = 256
    plane_channels: int = 32
    plane_axes: tuple[str, ...] = PLANE_AXES  # (width axis, height axis) of each plane
    channel_base: int = 32768  # backbone channels at a resolution: channel_base / resolution
    channel_max: int = 512
    decoder_hidden: int = 64
    decoder_lr_mul: float = 1.0
    feature_channels: int = 32
    image_resolution: int = 512
    neural_resolution: int = 128
    superresolution: Literal["8XDC", "8X", "4X", "2X"] = "8XDC"
    sr_channels: tuple[int, int] = (256, 128)
    sr_input_resolution: int = 128
    sr_clamp: float | None = SR_CLAMP
    sr_antialias: bool = True
    sr_noise: Literal["none", "const"] = "none"
    box_size: float = 1.0  # scene units, side of the cube that the planes span
    empty_outside_box: bool = False  # density is zero outside the cube
    ray_start: float | Literal["auto"] = 2.25  # scene units along the ray
    ray_end: float | Literal["auto"] = 3.3
    depth_samples: int = 48
    importance_samples: int = 48
    disparity_sampling: bool = False
    white_background: bool = False
    camera_radius: float = 2.7  # scene units
    camera_pivot: tuple[float, float, float] = (0.0, 0.0, 0.2)
    focal: float = PORTRAIT_FOCAL  # divided by the image size

    def __post_init__(self) -> None:
        for key in ("plane_axes", "sr_channels", "camera_pivot"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        _check_positive(self)
        _check_choices(self)
        _check_sizes(self)

    @property
    def num_ws(self) -> int:
        """Rows of `ws` that the backbone uses: 14 for planes of 256 x 256."""
        return 2 * len(self.block_resolutions)

    @property
    def block_resolutions(self) -> tuple[int, ...]:
        """Resolutions of the backbone's blocks: 4, 8, ..., plane_resolution."""
        return tuple(2**k for k in range(2, self.plane_resolution.bit_length()))

    def block_channels(self, resolution: int) -> int:
        """Return the backbone's channels at one resolution."""
        return min(self.channel_base // resolution, self.channel_max)

    def rig(self) -> CameraRig:
        """Return where this generator's cameras stand."""
        return CameraRig(self.camera_radius, self.camera_pivot, self.focal)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EG3DConfig:
        """Return the config that `to_dict` wrote; unknown names are an error."""
        return config_from_dict(cls, data)

    @classmethod
    def from_official(
        cls,
        init_kwargs: Mapping[str, Any],  # constructor arguments stored in an official file
        neural_resolution: int = 64,
        *,
        name: str = "official",
        focal: float | None = None,
    ) -> EG3DConfig:
        """Return the config of an official generator.

        The camera is not among an official file's numbers: without `focal`, generators that
        ignore the camera label are taken for ShapeNet ones, the others for portraits.
        """
        kwargs, rendering = dict(init_kwargs), dict(init_kwargs["rendering_kwargs"])
        _check_official(kwargs, rendering)
        kind = str(rendering["superresolution_module"]).rsplit("SuperresolutionHybrid", 1)[-1]
        if kind not in SR_UPSAMPLING:
            raise InputError(f"super-resolution {kind!r} is not one of {list(SR_UPSAMPLING)}")
        sr = kwargs.get("sr_kwargs", {})
        numbers = _official_rendering(rendering)
        default_focal = SHAPENET_FOCAL if numbers["c_zero"] else PORTRAIT_FOCAL
        return cls(
            name=name,
            z_dim=kwargs["z_dim"],
            w_dim=kwargs["w_dim"],
            c_dim=kwargs["c_dim"],
            mapping_layers=kwargs.get("mapping_kwargs", {}).get("num_layers", 8),
            plane_resolution=kwargs.get("plane_resolution", 256),
            channel_base=kwargs.get("channel_base", 32768),
            channel_max=kwargs.get("channel_max", 512),
            image_resolution=kwargs["img_resolution"],
            neural_resolution=int(neural_resolution),
            superresolution=cast(Any, kind),  # checked above
            sr_channels=tuple(sr.get("hidden_channels", SR_CHANNELS[kind])),
            sr_input_resolution=sr.get("input_resolution", SR_INPUT[kind]),
            sr_clamp=SR_CLAMP if kwargs.get("sr_num_fp16_res", 0) > 0 else None,
            focal=default_focal if focal is None else focal,
            **numbers,
        )


def _official_rendering(rendering: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config numbers that official files keep in `rendering_kwargs`."""
    return {
        "c_scale": float(rendering.get("c_scale", 0)),  # EG3D: a missing key switches it off
        "c_zero": bool(rendering.get("c_gen_conditioning_zero", False)),
        "decoder_lr_mul": float(rendering.get("decoder_lr_mul", 1)),
        "sr_antialias": bool(rendering.get("sr_antialias", True)),
        "sr_noise": rendering.get("superresolution_noise_mode", "none"),
        "box_size": float(rendering["box_warp"]),
        "ray_start": rendering["ray_start"],
        "ray_end": rendering["ray_end"],
        "depth_samples": rendering["depth_resolution"],
        "importance_samples": rendering["depth_resolution_importance"],
        "disparity_sampling": bool(rendering.get("disparity_space_sampling", False)),
        "white_background": bool(rendering.get("white_back", False)),
        "camera_radius": float(rendering["avg_camera_radius"]),
        "camera_pivot": tuple(float(x) for x in rendering["avg_camera_pivot"]),
    }


@dataclass(frozen=True)
class PublishedConfig:
    """What a file of weights that others trained says of itself; the network's sizes are fixed."""

    name: str = ""
    licence: str = ""
    training_data: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PublishedConfig:
        """Return the config that `to_dict` described; unknown names are errors."""
        return config_from_dict(cls, values)


def config_from_dict(cls: type, data: Mapping[str, Any]) -> Any:
    """Return `cls(**data)` for a frozen config class, with clear errors for foreign data."""
    if not isinstance(data, Mapping):
        raise InputError(f"{cls.__name__} is read from a JSON object, got {type(data).__name__}")
    unknown = sorted(set(data) - {f.name for f in fields(cls)})
    if unknown:
        raise InputError(
            f"{cls.__name__} has no {', '.join(unknown)}; was the file made by a newer version?"
        )
    check_types(cls, data)
    try:
        return cls(**data)
    except TypeError as error:
        raise InputError(f"{cls.__name__} cannot be read: {error}") from error


def check_types(cls: type, data: Mapping[str, Any]) -> None:
    """Raise InputError unless every value of `data` is what the config class declares."""
    for name, hint in typing.get_type_hints(cls).items():
        if name in data and not _fits(data[name], hint):
            raise InputError(f"{cls.__name__} cannot have {name} = {ascii(data[name])[:60]}")


def _fits(value: Any, hint: Any) -> bool:
    kinds = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is Literal:
        return isinstance(value, str) and value in kinds
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, kind) for kind in kinds)
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) > MAX_LAYERS:
            return False
        if kinds[-1] is not ...:
            return len(value) == len(kinds) and all(map(_fits, value, kinds))
        return all(_fits(item, kinds[0]) for item in value)
    if hint is float:
        return type(value) in (int, float) and abs(value) < 1e30 and math.isfinite(value)
    if hint is int:
        return type(value) is int and abs(value) <= MAX_COUNT * 16
    return type(value) is hint


_COUNTS = (
    "z_dim",
    "w_dim",
    "mapping_layers",
    "plane_resolution",
    "plane_channels",
    "channel_base",
    "channel_max",
    "decoder_hidden",
    "feature_channels",
    "image_resolution",
    "neural_resolution",
    "sr_input_resolution",
    "depth_samples",
)


def _check_positive(config: EG3DConfig) -> None:
    for key in _COUNTS:
        value = getattr(config, key)
        if not isinstance(value, int) or not 1 <= value <= MAX_COUNT:
            raise InputError(f"{key} must be a whole number from 1 to {MAX_COUNT}, got {value!r}")
    if config.mapping_layers > MAX_LAYERS:
        raise InputError(f"mapping_layers must be at most {MAX_LAYERS}")
    for key in ("box_size", "focal", "camera_radius"):
        if not getattr(config, key) > 0:
            raise InputError(f"{key} must be above 0, got {getattr(config, key)!r}")
    if config.c_dim < 0 or config.importance_samples < 0:
        raise InputError("c_dim and importance_samples cannot be negative")


def _check_choices(config: EG3DConfig) -> None:
    if config.superresolution not in SR_UPSAMPLING:
        raise InputError(
            f"superresolution must be one of {list(SR_UPSAMPLING)}, got {config.superresolution!r}"
        )
    if config.sr_noise not in ("none", "const"):
        raise InputError(f"sr_noise must be none or const, got {config.sr_noise!r}")
    axes = config.plane_axes
    if len(axes) != 3 or any(sorted(a) not in (["x", "y"], ["x", "z"], ["y", "z"]) for a in axes):
        raise InputError(f"plane_axes must be three pairs such as {PLANE_AXES}, got {axes}")
    start, end = config.ray_start, config.ray_end
    if isinstance(start, str) or isinstance(end, str):
        fits = start == end == "auto"
    else:
        fits = 0 < start < end
    if not fits:
        raise InputError(
            "ray_start and ray_end must both be 'auto' or 0 < ray_start < ray_end, "
            f"got {config.ray_start!r} and {config.ray_end!r}"
        )


def _check_sizes(config: EG3DConfig) -> None:
    size = config.plane_resolution
    if size < 4 or size & (size - 1):
        raise InputError(f"plane_resolution must be a power of two of at least 4, got {size}")
    expected = config.sr_input_resolution * SR_UPSAMPLING[config.superresolution]
    if config.image_resolution != expected:
        raise InputError(
            f"super-resolution {config.superresolution} turns {config.sr_input_resolution} into "
            f"{expected} pixels, but image_resolution is {config.image_resolution}"
        )
    if config.feature_channels < 3 or len(config.sr_channels) != 2:
        raise InputError("feature_channels must be at least 3 and sr_channels two numbers")
    if config.depth_samples < 4 and config.importance_samples:
        raise InputError("importance sampling needs at least 4 depth_samples")


def _check_official(kwargs: Mapping[str, Any], rendering: Mapping[str, Any]) -> None:
    if rendering.get("clamp_mode", "softplus") != "softplus":
        raise InputError(f"clamp_mode {rendering['clamp_mode']!r} is not supported, only softplus")
    if kwargs.get("conv_clamp") is not None:
        raise InputError("a backbone with conv_clamp is not supported; official models have none")
