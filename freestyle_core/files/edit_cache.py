"""Edited views kept on disk, one entry each, in the folder and the limit of `finetune_cache.Store`.

A view's edit is decided by its own picture, the words, the settings and the editor's weights, and
by the front view where views see that, never by the others it shares a batch with - up to
rounding: a view that was edited in another batch may differ by about 1e-5. A kept view is exactly
what was made the first time. Read `edit_keys`.
"""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import FileFormatError
from ..models.editor import Editor
from .bundle import load_bundle, weights_hash
from .finetune_cache import Store

VERSION = 2  # raise it whenever editing gives other pictures for the same inputs
KIND = "edited-view"
PREFIX = "view-"  # of the entries' names

_hashes: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()


def edit_keys(
    editor: Any,
    images: Tensor,  # [V,3,H,W]
    texts: Sequence[str],  # the positive and the negative prompt
    settings: Mapping[str, Any],  # plain values that decide the result: tau, steps, ...
    front: Tensor | None = None,  # [1,3,H,W], that all of them see while they are edited
) -> list[str] | None:
    """Return the name under which each view's edit is kept, None for an editor that has no name.

    Only an `Editor` of this library has one: what a host program patches into its own models, such
    as a LoRA, is not seen from here.
    """
    if not isinstance(editor, Editor):
        return None
    described = {
        "version": VERSION,
        "editor": _editor_id(editor),
        "tokens": [editor.tokenizer(text, verbose=False).input_ids for text in texts],
        "settings": dict(settings),
    }
    if front is not None:
        described["front"] = weights_hash({"image": front})
    start = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    keys = []
    for image in images.split(1):
        whole = start.copy()
        whole.update(weights_hash({"image": image}).encode())
        keys.append(PREFIX + whole.hexdigest())
    return keys


def load_view(store: Store, key: str, like: Tensor) -> Tensor | None:  # [3,H,W] both
    """Return the edit kept under `key`, on the device and in the type of the picture it edits."""

    def read(path: Path) -> Tensor:
        bundle = load_bundle(path, KIND)
        image = bundle.state.get("image")
        if bundle.extra.get("key") != key or image is None or image.shape != like.shape:
            raise FileFormatError(f"{path} does not hold what was saved under its name")
        return image

    image = store.find(key, read)
    return None if image is None else image.to(like)


def save_view(store: Store, key: str, image: Tensor) -> None:  # [3,H,W]
    """Keep the edit of one view; raises WriteError."""
    store.keep(key, KIND, {}, {"image": image}, {"key": key})


def _editor_id(editor: Editor) -> str:
    """Return what changes with any weight, number format or setting of the networks."""
    parts = [editor.vae, editor.unet, editor.text_encoder]
    configs = [*(part.config for part in parts), editor.scheduler.config]
    return json.dumps(
        [
            [_hash(part) for part in parts],
            [_plain(config) for config in configs],
            [type(editor.scheduler).__name__, str(editor.dtype), editor.guidance],
        ],
        sort_keys=True,
        default=str,
    )


def _hash(network: nn.Module) -> str:
    """Return the hash of a network's weights, taken once: nothing here changes an editor."""
    if network not in _hashes:
        _hashes[network] = weights_hash(network.state_dict())
    return _hashes[network]


def _plain(config: Any) -> dict[str, Any]:
    values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return {name: value for name, value in values.items() if not name.startswith("_")}
