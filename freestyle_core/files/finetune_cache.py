"""Fine-tuned results kept on disk, so that the same inputs are never trained twice.

An entry is one bundle named by a hash of everything that decides the result (`finetune_key`). It
appears only when complete; one that is damaged is deleted and counts as absent. The folder stays
within a limit: what was used longest ago goes first. Read `Store.load` and `Store.save`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError, FreeStyleError
from ..models.i2t import I2T, I2TConfig
from ..types import FewShotSet, Portrait, StyleCode, Triplane
from .bundle import load_bundle, save_bundle, weights_hash, write_atomically
from .networks import build

VERSION = 1  # raise it whenever fine-tuning gives other results for the same inputs
KIND = "finetuned"
SUFFIX = ".safetensors"
LIMIT_FILE = "limit.json"
DEFAULT_LIMIT_GB = 4.0
STALE_SECONDS = 3600  # an unfinished file this old was left by a crash
GB = 1e9

Losses = dict[str, list[float]]
_log = logging.getLogger(__name__)


def finetune_key(
    parent: str,  # weights_hash of the I2T that training starts from
    portraits: Sequence[Portrait],
    sets: Sequence[FewShotSet],
    *,
    perceptual: str,  # names the perceptual distance and its weights
    settings: Mapping[str, Any],  # plain values
) -> str:
    """Return the hash of everything that decides the result of a fine-tuning.

    The words of a style are left out: they are kept with the result but train nothing.
    """
    described = {
        "version": VERSION,
        "parent": parent,
        "perceptual": perceptual,
        "settings": dict(settings),
        "sets": [_describe(p, s) for p, s in zip(portraits, sets, strict=True)],
    }
    text = json.dumps(described, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _describe(portrait: Portrait, few_shot: FewShotSet) -> dict[str, Any]:
    tensors = {
        "planes": portrait.triplane.planes,
        "w": portrait.w,
        "cam_to_world": few_shot.cameras.cam_to_world,
        "intrinsics": few_shot.cameras.intrinsics,
        "images": few_shot.images,
    }
    return {
        "tensors": weights_hash(tensors),
        "renderer": weights_hash(portrait.renderer.state_dict()),
        "renderer_config": portrait.renderer.config.to_dict(),
        "front": few_shot.front,
        "provenance": portrait.provenance,
    }


@dataclass(frozen=True)
class Store:
    """A folder of results, at most `limit_bytes` large."""

    root: Path
    limit_bytes: int

    def load(
        self, key: str, portraits: Sequence[Portrait], prompts: Sequence[str]
    ) -> tuple[list[Portrait], Losses] | None:
        """Return the portraits restyled as they were under `key`, and the losses; None if absent.

        `portraits` and `prompts` are what would be trained on, in the same order.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            result = _read(path, key, portraits, prompts)
        except FreeStyleError as error:
            _log.warning("a kept fine-tuning is damaged and will be trained again: %s", error)
            _delete(path)
            return None
        with suppress(OSError):
            os.utime(path)  # used just now
        return result

    def save(self, key: str, portraits: Sequence[Portrait], losses: Losses) -> None:
        """Keep a result, then delete the oldest until the limit is met; raises WriteError."""
        network = portraits[0].style.network
        state = {f"network.{k}": v for k, v in network.state_dict().items()}
        for index, portrait in enumerate(portraits):
            state[f"planes.{index}"] = portrait.triplane.planes
            state[f"w_s.{index}"] = portrait.style.w_s
        for name, values in losses.items():
            state[f"loss.{name}"] = torch.tensor(values, dtype=torch.float32)
        extra = {
            "key": key,
            "check": weights_hash(state),
            "parent": portraits[0].style.parent,
            "provenance": [portrait.provenance for portrait in portraits],
        }
        save_bundle(self._path(key), KIND, {"i2t": network.config.to_dict()}, state, extra)
        self.trim()

    def entries(self) -> list[tuple[Path, int]]:
        """Return file and size in bytes of every entry, the one used longest ago first."""
        found = []
        for path in self.root.glob(f"[!.]*{SUFFIX}"):
            with suppress(OSError):  # another server may be deleting it
                status = path.stat()
                found.append((status.st_mtime_ns, path, status.st_size))
        return [(path, size) for _, path, size in sorted(found)]

    def size(self) -> int:
        """Return the bytes that all entries take together."""
        return sum(size for _, size in self.entries())

    def trim(self) -> None:
        """Delete the entries used longest ago until the limit is met, and leftovers of crashes."""
        entries = self.entries()
        total = sum(size for _, size in entries)
        for path, size in entries:
            if total <= self.limit_bytes:
                break
            _delete(path)
            total -= size
        for path in self.root.glob(f".*{SUFFIX}.*.tmp"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()

    def clear(self) -> int:
        """Delete every entry and return how many there were."""
        entries = self.entries()
        for path, _ in entries:
            _delete(path)
        return len(entries)

    def _path(self, key: str) -> Path:
        return self.root / f"{key}{SUFFIX}"


def open_store(root: Path | str) -> Store:
    """Return the store in `root` with the limit that was set there."""
    root = Path(root)
    limit = DEFAULT_LIMIT_GB
    with suppress(OSError, ValueError, TypeError, KeyError):  # not set yet, or not by us
        limit = float(json.loads((root / LIMIT_FILE).read_text(encoding="utf-8"))["limit_gb"])
    return Store(root, int(limit * GB))


def set_limit(root: Path | str, limit_gb: float) -> Store:
    """Set how large the store in `root` may be, from now on; delete what is too much."""
    with write_atomically(Path(root) / LIMIT_FILE) as temporary:
        temporary.write_text(json.dumps({"limit_gb": limit_gb}) + "\n", encoding="utf-8")
    store = open_store(root)
    store.trim()
    return store


def _read(
    path: Path, key: str, portraits: Sequence[Portrait], prompts: Sequence[str]
) -> tuple[list[Portrait], Losses]:
    bundle = load_bundle(path, KIND)
    state, extra = bundle.state, bundle.extra
    if extra.get("key") != key or extra.get("check") != weights_hash(state):
        raise FileFormatError(f"{path} has changed since it was written; delete it")
    weights = _under(state, "network.")
    network = build(path, bundle.config.get("i2t", {}), weights, I2TConfig.from_dict, I2T)
    made = []
    for index, (portrait, prompt) in enumerate(zip(portraits, prompts, strict=True)):
        triplane = Triplane(state[f"planes.{index}"], portrait.triplane.box_size)
        style = StyleCode(state[f"w_s.{index}"], network, extra["parent"])
        provenance = {**extra["provenance"][index], "prompt": prompt}
        made.append(Portrait(portrait.renderer, triplane, portrait.w, style, provenance))
    losses = {name: values.tolist() for name, values in _under(state, "loss.").items()}
    return made, losses


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
