"""A portrait as one safetensors file that gives the same pictures in a new process.

Stored are the planes and w and, where the planes come from a fine-tuned I2T, its code, the whole
network and what the style adds to the network's planes, all in float32; the EG3D is named by the
hash of its renderer and must be given or be among the known files when loading. A renderer that was
tuned for the portrait (`EG3DRenderer.parent`) is in no such file: it is stored whole, with its
config, so that nothing else is needed; 7 MB for the official sizes. Of a portrait that is mixed by
region the weights and planes of every region are stored, too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import FileFormatError, MismatchError
from ..models.config import EG3DConfig
from ..models.eg3d import EG3D, EG3DRenderer, make_renderer
from ..models.i2t import I2T, I2TConfig
from ..types import Portrait, Region, StyleCode, Triplane
from .bundle import Bundle, load_bundle, save_bundle, weights_hash
from .networks import build, embedded, load_eg3d

log = logging.getLogger(__name__)

_NETWORK, _RENDERER, _REGION = "network.", "renderer.", "region."
MOST_REGIONS = 8  # in one file; `method.blends` makes no more
MOST_POINTS = 512  # of a region's lattice, along each side
_PLAIN = {"planes", "w"}
_STYLED = _PLAIN | {"w_s"}
_REFINED = _STYLED | {"residual"}


def save_portrait(
    path: Path | str, portrait: Portrait, *, settings: Mapping[str, Any] | None = None
) -> None:
    """Write `portrait`; `settings` is whatever plain data should be kept with it."""
    renderer, style = portrait.renderer, portrait.style
    state = {"planes": portrait.triplane.planes, "w": portrait.w}
    config: dict[str, Any] = {"box_size": portrait.triplane.box_size, "i2t": None}
    for index, region in enumerate(portrait.triplane.regions):
        state[f"{_REGION}{index}.weights"] = region.weights
        state[f"{_REGION}{index}.planes"] = region.planes
        config["regions"] = index + 1
    if style is not None:
        state["w_s"] = style.w_s
        if style.residual is not None:
            state["residual"] = style.residual
        state.update({_NETWORK + k: v for k, v in style.network.state_dict().items()})
        config["i2t"] = style.network.config.to_dict()
    own = weights_hash(renderer.state_dict())
    if renderer.parent not in (None, own):
        state.update({_RENDERER + k: v for k, v in renderer.state_dict().items()})
        config["renderer"] = renderer.config.to_dict()
        config["tuned_from"] = renderer.parent
    extra = {
        "renderer": own,
        "eg3d": renderer.config.name,
        "parent": style.parent if style else None,
        "provenance": dict(portrait.provenance),
        "settings": dict(settings or {}),
    }
    save_bundle(path, "portrait", config, state, extra)


def load_portrait(
    path: Path | str, *, eg3d: EG3D | None = None, known: Iterable[Path | str] = ()
) -> Portrait:
    """Return the portrait at `path` on its generator.

    Without `eg3d`, the embedded generator and then the `known` EG3D files are tried by hash; a file
    that carries its own renderer needs none of them.
    """
    bundle = load_bundle(path, "portrait")
    if bundle.config.get("renderer"):
        renderer = _own_renderer(path, bundle, eg3d)
    else:
        wanted = bundle.extra.get("renderer")
        generator = eg3d if eg3d is not None else _find_eg3d(path, wanted, known)
        renderer = generator.renderer().eval()
        if weights_hash(renderer.state_dict()) != wanted:
            raise MismatchError(
                f"{path} was made with EG3D {_short(bundle)}, got {renderer.config.name} with "
                "other weights; give the EG3D file that the portrait was made with"
            )
    config = renderer.config
    planes, w = _checked_tensors(path, bundle, config)
    return Portrait(
        renderer,
        Triplane(planes, _box_size(path, bundle, config), _regions_of(path, bundle)),
        w,
        _style_of(path, bundle),
        _dict_of(path, bundle.extra, "provenance"),
    )


def _own_renderer(path: Path | str, bundle: Bundle, eg3d: EG3D | None) -> EG3DRenderer:
    """Return the renderer that the file carries; refuse an `eg3d` that it was not tuned from."""
    parent = bundle.config.get("tuned_from")
    if not isinstance(parent, str):
        raise FileFormatError(
            f"{path} does not say what its renderer was tuned from; save it again"
        )
    if eg3d is not None and weights_hash(eg3d.renderer().state_dict()) != parent:
        raise MismatchError(
            f"{path} was tuned from EG3D {bundle.extra.get('eg3d')} (renderer {parent[:12]}), got "
            f"{eg3d.config.name} with other weights; it carries its renderer, so give none"
        )
    state = _part(bundle, _RENDERER)
    renderer = build(path, bundle.config["renderer"], state, EG3DConfig.from_dict, make_renderer)
    renderer.parent = parent
    return renderer


def _find_eg3d(path: Path | str, wanted: Any, known: Iterable[Path | str]) -> EG3D:
    for candidate in (embedded("eg3d"), *known):
        if not Path(candidate).is_file():
            continue
        try:
            eg3d = load_eg3d(candidate)
        except FileFormatError as error:  # a broken file must not hide the right one
            log.warning("passed over %s", error)
            continue
        if weights_hash(eg3d.renderer().state_dict()) == wanted:
            return eg3d
    raise MismatchError(
        f"{path} needs an EG3D with renderer {str(wanted)[:12]} that is not among the known files; "
        "give the EG3D file that the portrait was made with"
    )


def _checked_tensors(path: Path | str, bundle: Bundle, config: EG3DConfig) -> tuple[Tensor, Tensor]:
    """Return planes and w after checking names, shapes and values against the generator."""
    parts = (_NETWORK, _RENDERER) if bundle.config.get("renderer") else (_NETWORK,)
    parts = (*parts, _REGION) if bundle.config.get("regions") else parts
    names = {name for name in bundle.state if not name.startswith(parts)}
    coded = "w_s" in names
    if names not in (_PLAIN, _STYLED, _REFINED) or coded != bool(bundle.config.get("i2t")):
        raise FileFormatError(f"{path} holds the tensors {sorted(names)}, not those of a portrait")
    size = config.plane_resolution
    planes, w = bundle.state["planes"], bundle.state["w"]
    expected = (3, config.plane_channels, size, size)
    if planes.shape[1:] != expected or w.shape[1:] != (config.num_ws, config.w_dim):
        raise FileFormatError(
            f"{path} holds planes {tuple(planes.shape)} and w {tuple(w.shape)}, but its EG3D needs "
            f"[B,{', '.join(map(str, expected))}] and [B,{config.num_ws},{config.w_dim}]"
        )
    if planes.shape[0] != 1 or w.shape[0] != 1:
        raise FileFormatError(f"{path} holds {planes.shape[0]} portraits, expected exactly one")
    residual = bundle.state.get("residual")
    if residual is not None and residual.shape != planes.shape:
        raise FileFormatError(
            f"{path} holds a residual {tuple(residual.shape)} for planes {tuple(planes.shape)}; it "
            "is damaged, save it again"
        )
    for name in names:
        if not bundle.state[name].is_floating_point():
            raise FileFormatError(
                f"{path} holds {name} as {bundle.state[name].dtype}, expected fractions; it is "
                "damaged, save it again"
            )
    return planes, w


def _regions_of(path: Path | str, bundle: Bundle) -> tuple[Region, ...]:
    """Return the regions that are added to the planes, after checking them against those."""
    count = bundle.config.get("regions", 0)
    state, planes = _part(bundle, _REGION), bundle.state["planes"]
    known = type(count) is int and 0 <= count <= MOST_REGIONS
    names = {f"{n}.{what}" for n in range(count if known else 0) for what in ("weights", "planes")}
    if not known or set(state) != names:
        raise FileFormatError(
            f"{path} says that it has {count!r:.40} regions and holds {sorted(state)} of them; it "
            "is damaged, save it again"
        )
    regions = []
    for index in range(count):
        weights, added = state[f"{index}.weights"], state[f"{index}.planes"]
        size = weights.shape[0] if weights.ndim else 0
        fits = weights.shape == (size,) * 3 and 2 <= size <= MOST_POINTS
        fractions = weights.is_floating_point() and added.is_floating_point()
        if not fits or not fractions or added.shape != planes.shape:
            raise FileFormatError(
                f"{path} holds a region of weights {tuple(weights.shape)} and planes "
                f"{tuple(added.shape)}, for planes {tuple(planes.shape)}; it is damaged, save it "
                "again"
            )
        regions.append(Region(weights, added))
    return tuple(regions)


def _style_of(path: Path | str, bundle: Bundle) -> StyleCode | None:
    config = bundle.config.get("i2t")
    if not config:
        return None
    network = build(path, config, _part(bundle, _NETWORK), I2TConfig.from_dict, I2T)
    w_s, sizes = bundle.state["w_s"], network.config
    if w_s.shape != (1, sizes.code_channels, sizes.code_size, sizes.code_size):
        raise FileFormatError(f"{path} holds a code {tuple(w_s.shape)} that its network cannot use")
    parent = str(bundle.extra.get("parent"))
    return StyleCode(w_s, network, parent, bundle.state.get("residual"))


def _part(bundle: Bundle, prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in bundle.state.items() if k.startswith(prefix)}


def _box_size(path: Path | str, bundle: Bundle, config: EG3DConfig) -> float:
    box_size = bundle.config.get("box_size")
    if box_size != config.box_size:
        raise FileFormatError(
            f"{path} has a cube of side {box_size!r}, but its EG3D {config.box_size}"
        )
    return float(box_size)


def _dict_of(path: Path | str, values: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = values.get(name)
    if not isinstance(value, dict):
        raise FileFormatError(f"{path} has no {name}; it is damaged, save it again")
    return value


def _short(bundle: Bundle) -> str:
    return f"{bundle.extra.get('eg3d')} (renderer {str(bundle.extra.get('renderer'))[:12]})"
