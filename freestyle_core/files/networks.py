"""Networks as files: the EG3D generator, the I2T and the perceptual features, as bundles.

Every `load_*` checks the file against its own config before it builds anything, and returns the
network in float32 on the CPU. The embedded models (`embedded("eg3d")`) load like all others, and
so do official EG3D pickles (`official/`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import FileFormatError, FreeStyleError, InputError, MismatchError
from ..models.config import EG3DConfig, PublishedConfig
from ..models.eg3d import EG3D
from ..models.face_mesh import FaceMesh
from ..models.framing import FramingConfig, FramingNet
from ..models.i2t import I2T, I2TConfig, check_i2t_fits
from ..models.mtcnn import MTCNN
from ..models.perceptual import PerceptualConfig, PerceptualNet
from .bundle import Bundle, load_bundle, load_header, save_bundle, weights_hash
from .names import ending
from .official.eg3d import open_official
from .values import check_values

EMBEDDED = "clay"
OFFICIAL_SUFFIX = ".pkl"
OFFICIAL_SUFFIXES = (OFFICIAL_SUFFIX, ".pt", ".pth")  # pickles of training, files of torch.save
ASSETS = Path(__file__).resolve().parent.parent / "assets" / EMBEDDED
PARTS = {
    "eg3d": "eg3d.safetensors",
    "i2t": "i2t.safetensors",
    "perceptual": "perceptual.safetensors",
    "editor": "editor",  # a folder in diffusers' layout
}

Network = TypeVar("Network", bound=nn.Module)


def embedded(part: str) -> Path:
    """Return where the embedded model of `part` (a key of PARTS) lies."""
    if part not in PARTS:
        raise InputError(f"there is no embedded {part!r}; choose one of {', '.join(PARTS)}")
    return ASSETS / PARTS[part]


def is_shipped(path: Path | str) -> bool:
    """Return whether a file came with this package: its sizes are then known to be sane."""
    return ASSETS.parent in Path(path).resolve().parents


def save_eg3d(
    path: Path | str,
    eg3d: EG3D,
    *,
    extra: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a generator; with half precision its hash is that of the loaded file."""
    save_bundle(path, "eg3d", eg3d.config.to_dict(), eg3d.state_dict(), extra, dtype=dtype)


def load_eg3d(path: Path | str) -> EG3D:
    """Return the generator stored at `path`: a bundle, or a network pickle (.pkl, .pt)."""
    if is_official(path):
        with open_official(path) as official:
            config, state = official.config.to_dict(), official.read()
        check_values(path, state)
        return build(path, config, state, EG3DConfig.from_dict, EG3D)
    bundle = load_bundle(path, "eg3d")
    return build(path, bundle.config, bundle.state, EG3DConfig.from_dict, EG3D)


def eg3d_config(path: Path | str) -> EG3DConfig:
    """Return the config of the generator at `path`, without its weights."""
    if is_official(path):
        with open_official(path) as official:
            return official.config
    return EG3DConfig.from_dict(load_header(path, "eg3d").config)


def is_official(path: Path | str) -> bool:
    """Return whether `path` is named like a network pickle, official or saved by torch."""
    return ending(path) in OFFICIAL_SUFFIXES


def convert_official(source: Path | str, target: Path | str) -> EG3DConfig:
    """Write the generator of an official pickle as a bundle with the same bits; return its config.

    Half-precision tensors are written as float32, which holds them exactly.
    """
    source = Path(source)
    if not is_official(source):
        raise InputError(f"convert reads official {OFFICIAL_SUFFIX} files, got {source.name!r}")
    eg3d = load_eg3d(source)
    save_eg3d(target, eg3d, extra={"converted_from": source.name})
    return eg3d.config


def save_i2t(
    path: Path | str,
    i2t: I2T,
    *,
    eg3d: str,  # weights_hash of the generator it was pre-trained on, as loaded from its file
    extra: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write an I2T network and the hash of the EG3D it belongs to."""
    described = {**(extra or {}), "eg3d": eg3d}
    save_bundle(path, "i2t", i2t.config.to_dict(), i2t.state_dict(), described, dtype=dtype)


def load_i2t(path: Path | str, *, eg3d: EG3D | None = None) -> I2T:
    """Return the I2T stored at `path`; with `eg3d`, refuse one trained on another generator."""
    bundle = load_bundle(path, "i2t")
    i2t = build(path, bundle.config, bundle.state, I2TConfig.from_dict, I2T)
    if eg3d is not None:
        check_fit(bundle, i2t, eg3d, name=Path(path).name)
    return i2t


def check_fit(header: Bundle, i2t: I2T, eg3d: EG3D, *, name: str = "the I2T") -> None:
    """Raise MismatchError unless `i2t` makes planes for `eg3d` and was trained on it."""
    _check_fit(header, i2t.config, eg3d, name)


def i2t_misfit(path: Path | str, eg3d: EG3D) -> str | None:
    """Return why the I2T at `path` cannot be used with `eg3d`, None where it belongs to it.

    Raises nothing: a file that is missing, damaged or of another kind is a reason, too. Only the
    header is read, so a file that fits may still turn out damaged when it is loaded.
    """
    try:
        header = load_header(path, "i2t")
        try:
            config = I2TConfig.from_dict(header.config)
        except (FreeStyleError, KeyError, TypeError, ValueError, OverflowError) as error:
            return f"{path} describes an impossible network ({error}); save it again"
        _check_fit(header, config, eg3d, Path(path).name)
    except FreeStyleError as error:
        return str(error)
    return None


def i2t_fits(path: Path | str, eg3d: EG3D) -> bool:
    """Return whether the I2T at `path` belongs to `eg3d`; `i2t_misfit` says why it does not."""
    return i2t_misfit(path, eg3d) is None


def _check_fit(header: Bundle, config: I2TConfig, eg3d: EG3D, name: str) -> None:
    check_i2t_fits(config, eg3d.config, name=name)
    trained_on = header.extra.get("eg3d")
    if trained_on != weights_hash(eg3d.state_dict()):
        raise MismatchError(
            f"{name} was pre-trained on another EG3D ({str(trained_on)[:12]}) than "
            f"{eg3d.config.name}; "
            "load the EG3D it belongs to, or pre-train an I2T on this one (the pretrain command)"
        )


def save_perceptual(
    path: Path | str,
    net: PerceptualNet,
    *,
    extra: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a perceptual feature network."""
    save_bundle(path, "perceptual", net.config.to_dict(), net.state_dict(), extra, dtype=dtype)


def load_perceptual(path: Path | str) -> PerceptualNet:
    """Return the perceptual feature network stored at `path`."""
    bundle = load_bundle(path, "perceptual")
    return build(path, bundle.config, bundle.state, PerceptualConfig.from_dict, PerceptualNet)


def detector_file() -> Path:
    """Return where the shipped face detector lies."""
    return ASSETS.parent / "face" / "mtcnn.safetensors"


def save_detector(
    path: Path | str,
    net: MTCNN,
    *,
    extra: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a face detector."""
    save_bundle(path, "mtcnn", net.config.to_dict(), net.state_dict(), extra, dtype=dtype)


def load_detector(path: Path | str | None = None) -> MTCNN:
    """Return the face detector stored at `path`, the shipped one by default."""
    path = path or detector_file()
    bundle = load_bundle(path, "mtcnn")
    return build(path, bundle.config, bundle.state, PublishedConfig.from_dict, MTCNN)


def face_mesh_file() -> Path:
    """Return where the shipped face mesh lies."""
    return ASSETS.parent / "face" / "face_mesh.safetensors"


def save_face_mesh(
    path: Path | str,
    net: FaceMesh,
    *,
    extra: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,  # as it was published
) -> None:
    """Write a network that finds a face's landmarks."""
    save_bundle(path, "face_mesh", net.config.to_dict(), net.state_dict(), extra, dtype=dtype)


def load_face_mesh(path: Path | str | None = None) -> FaceMesh:
    """Return the face mesh stored at `path`, the shipped one by default."""
    path = path or face_mesh_file()
    bundle = load_bundle(path, "face_mesh")
    return build(path, bundle.config, bundle.state, PublishedConfig.from_dict, FaceMesh)


def example_photo() -> Path:
    """Return where the drawn head lies that stands in for a photograph."""
    return ASSETS.parent / "pictures" / "photo.jpg"


def framing_file() -> Path:
    """Return where the framing network of the embedded generator lies."""
    return ASSETS / "framing.safetensors"


def save_framing(
    path: Path | str,
    net: FramingNet,
    *,
    extra: Mapping[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a network that says how a crop shows a head."""
    save_bundle(path, "framing", net.config.to_dict(), net.state_dict(), extra, dtype=dtype)


def load_framing(path: Path | str | None = None) -> FramingNet:
    """Return the framing network stored at `path`, that of the embedded generator by default."""
    path = path or framing_file()
    bundle = load_bundle(path, "framing")
    return build(path, bundle.config, bundle.state, FramingConfig.from_dict, FramingNet)


def framing_for(config: EG3DConfig) -> FramingNet | None:
    """Return the framing network of a generator's family, None where it has none."""
    if config.name != EMBEDDED or not framing_file().is_file():
        return None
    return load_framing()


def describe(path: Path | str) -> dict[str, Any]:
    """Return kind, config and extra of any bundle or official pickle, without its tensors."""
    if is_official(path):
        with open_official(path) as official:
            return {"kind": "eg3d", "config": official.config.to_dict(), "extra": {}}
    header = load_header(path)
    return {"kind": header.kind, "config": header.config, "extra": header.extra}


def build(
    path: Path | str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    read_config: Callable[[Mapping[str, Any]], Any],
    network: Callable[[Any], Network],
) -> Network:
    """Return `network(config)` in eval mode with exactly `state`, or say what does not fit."""
    try:
        settings = read_config(config)
        # a file may claim any size: without memory that costs nothing, but for a second that torch
        # takes to get ready for it
        if is_shipped(path):
            module = _trainable(network, settings)
            expected = module.state_dict()
        else:
            with torch.device("meta"):
                expected = network(settings).state_dict()
    except (FreeStyleError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise FileFormatError(
            f"{path} describes an impossible network ({error}); save it again"
        ) from error
    _check_state(path, expected, state)
    if not is_shipped(path):
        module = _trainable(network, settings)
    with torch.inference_mode(False):
        module.load_state_dict(dict(state))
    return module.eval()


def _trainable(network: Callable[[Any], Network], settings: Any) -> Network:
    with torch.inference_mode(False):  # a network made in inference mode could never be trained
        return network(settings)


def _check_state(
    path: Path | str, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]
) -> None:
    missing = sorted(set(expected) - set(found))
    foreign = sorted(set(found) - set(expected))
    wrong = sorted(k for k in set(expected) & set(found) if _unlike(expected[k], found[k]))
    for names, text in ((missing, "lacks"), (foreign, "has the unknown"), (wrong, "has misshapen")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise FileFormatError(
                f"{path} {text} tensor {names[0]}{more}; the file is damaged or from another "
                "version, save it again"
            )


def _unlike(expected: Tensor, found: Tensor) -> bool:
    same_kind = expected.is_floating_point() == found.is_floating_point()
    return expected.shape != found.shape or not same_kind
