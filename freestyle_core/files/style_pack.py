"""A style pack as one safetensors file: its network in half precision, its words, its generator.

Ten packs come with this package, for the embedded generator. Read `load_style_pack`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import FileFormatError, InputError
from ..models.style_pack import StylePackConfig, StylePackNet
from ..types import StylePack
from .bundle import Bundle, load_bundle, load_header, save_bundle
from .names import ending
from .networks import ASSETS, build

KIND, SUFFIX = "style_pack", ".safetensors"
PACKS = ASSETS.parent / "packs"
_PREVIEW, _NETWORK = "preview", "network."
_LARGEST_PREVIEW = 4096


def save_style_pack(path: Path | str, pack: StylePack) -> None:
    """Write a pack. Loaded, its numbers are rounded to half precision."""
    state = {_NETWORK + name: value for name, value in pack.network.state_dict().items()}
    if pack.preview is not None:
        state[_PREVIEW] = (pack.preview.clamp(0, 1) * 255).round().to(torch.uint8)
    extra = {
        "prompt": pack.prompt,
        "renderer": pack.renderer,
        "eg3d": pack.eg3d,
        "heads": pack.heads,
        "licence": pack.licence,
    }
    save_bundle(path, KIND, pack.network.config.to_dict(), state, extra, dtype=torch.float16)


def load_style_pack(path: Path | str) -> StylePack:
    """Return the pack at `path`, or the shipped one of that name or those words."""
    path = find_style_pack(path)
    bundle = load_bundle(path, KIND)
    state = {k.removeprefix(_NETWORK): v for k, v in bundle.state.items() if k.startswith(_NETWORK)}
    foreign = [k for k in bundle.state if not k.startswith(_NETWORK) and k != _PREVIEW]
    if foreign:
        raise FileFormatError(f"{path} has the unknown tensor {foreign[0]}; save the pack again")
    network = build(path, bundle.config, state, StylePackConfig.from_dict, StylePackNet)
    words = {name: _text(path, bundle, name) for name in ("prompt", "renderer", "eg3d", "licence")}
    heads = bundle.extra.get("heads")
    if type(heads) is not int or heads < 1:
        raise FileFormatError(f"{path} says it was learnt on {heads!r:.40} heads; save it again")
    return StylePack(
        network.requires_grad_(False), heads=heads, preview=_preview(path, bundle), **words
    )


def find_style_pack(given: Path | str) -> Path:
    """Return a file: the one that is given, or the shipped one of that name or those words."""
    path = Path(given)
    if path.is_file():
        return path
    wanted = _plain(str(given))
    for name, file in shipped_packs().items():
        if wanted in (_plain(name), _plain(prompt_of(file))):
            return file
    if ending(path) == SUFFIX or len(path.parts) > 1:
        raise FileFormatError(f"there is no style pack {path}; give a file that is there")
    raise InputError(
        f"there is no style pack {str(given)!r}; give a file, or one of those that come with this "
        f"package: {', '.join(shipped_packs())}"
    )


def shipped_packs() -> dict[str, Path]:
    """Return the packs that come with this package: name -> file, by name."""
    return {file.stem: file for file in sorted(PACKS.glob(f"*{SUFFIX}"))}


def prompt_of(path: Path | str) -> str:
    """Return the words of a pack; only the header is read."""
    return _text(path, load_header(path, KIND), "prompt")


def _plain(words: str) -> str:
    """Return words without article, case and spaces, as names of files have them."""
    parts = words.lower().replace("_", " ").split()
    return " ".join(parts[1:] if len(parts) > 1 and parts[0] in ("a", "an", "the") else parts)


def _text(path: Path | str, bundle: Bundle, name: str) -> str:
    value = bundle.extra.get(name)
    if not isinstance(value, str) or (name != "licence" and not value.strip()):
        raise FileFormatError(f"{path} has no {name}; it is damaged, save the pack again")
    return value


def _preview(path: Path | str, bundle: Bundle) -> Tensor | None:
    stored = bundle.state.get(_PREVIEW)
    if stored is None:
        return None
    shape = tuple(stored.shape)
    fits = stored.dtype == torch.uint8 and len(shape) == 3 and shape[0] == 3
    if not fits or not 1 <= min(shape) <= max(shape) <= _LARGEST_PREVIEW:
        raise FileFormatError(f"{path} has a preview {shape} that is no picture; save it again")
    return stored.float() / 255
