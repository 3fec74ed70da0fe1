"""Fine-tuned results kept on disk, so that the same inputs are never trained twice.

An entry is one bundle named by a hash of everything that decides the result (`finetune_key`); a
stopped training leaves its checkpoint under the same hash, and edited views (`edit_cache.py`) have
theirs. It
appears only when complete; one that is damaged is deleted and counts as absent. The folder stays
within a limit: what was used longest ago goes first. Several processes may share a folder: an entry
that another one replaces is read again, and only the very file that was judged is ever deleted.
Read `Store.load` and `Store.save`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..errors import FileFormatError, FreeStyleError, InputError, WriteError
from ..models.i2t import I2T, I2TConfig
from ..types import FewShotSet, Portrait, StyleCode, Triplane
from .bundle import Bundle, load_bundle, save_bundle, weights_hash, write_atomically
from .networks import build

VERSION = 1  # raise it whenever fine-tuning gives other results for the same inputs
KIND = "finetuned"
CHECKPOINT = "finetune-checkpoint"
RESIDUAL = "residual_"  # begins the names of settings that matter only to a residual
UNFINISHED = ".unfinished"  # after the key, in a checkpoint's name
SUFFIX = ".safetensors"
LIMIT_FILE = "limit.json"
DEFAULT_LIMIT_GB = 4.0
STALE_SECONDS = 3600  # an unfinished file this old was left by a crash
TRIES = 5  # to read an entry while other processes replace it
GB = 1e9

# settings that came later, at what the versions before them did
NEUTRAL: dict[str, Any] = {"sample_share": 1.0, "skip_empty": False, "robust": False}

T = TypeVar("T")
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

    The words of a style are left out: they are kept with the result but train nothing. So are the
    I2T where planes are learnt without one, and settings that earlier versions did not have where
    they change nothing, so that what those versions kept is found.
    """
    train = settings.get("train", "i2t")
    idle = {"train", *(n for n in settings if n.startswith(RESIDUAL))} if train == "i2t" else set()
    if not settings.get("budget_s"):
        idle.add("budget_s")
    idle |= {name for name, value in NEUTRAL.items() if settings.get(name) == value}
    described = {
        "version": VERSION,
        "parent": "" if train == "planes" else parent,
        "perceptual": perceptual,
        "settings": {name: value for name, value in settings.items() if name not in idle},
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
    for index, region in enumerate(portrait.triplane.regions):
        tensors[f"region.{index}.weights"] = region.weights
        tensors[f"region.{index}.planes"] = region.planes
    return {
        "tensors": weights_hash(tensors),
        "renderer": weights_hash(portrait.renderer.state_dict()),
        "renderer_config": portrait.renderer.config.to_dict(),
        "front": few_shot.front,
        "provenance": portrait.provenance,
    }


def _styles_of(portraits: Sequence[Portrait]) -> list[StyleCode]:
    """Return the style codes of a result, which share one network; none where planes were learnt.

    Raises InputError for portraits that no one fine-tuning makes.
    """
    styles = [portrait.style for portrait in portraits if portrait.style is not None]
    networks = {id(style.network) for style in styles}
    together = len(styles) in (0, len(portraits)) and len(networks) <= 1
    if not together or not portraits or not all(p.is_stylized for p in portraits):
        raise InputError(
            "only the results of one fine-tuning are kept together: restyled portraits that share "
            f"one network or have none, got {len(portraits)} portraits, {len(styles)} of them with "
            f"{len(networks)} networks, {sum(p.is_stylized for p in portraits)} restyled"
        )
    return styles


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
        return self.find(key, lambda path: _read(path, key, portraits, prompts))

    def find(self, key: str, read: Callable[[Path], T]) -> T | None:
        """Return what `read` makes of an entry; None if absent, or damaged and deleted therefore.

        `read` raises FreeStyleError for a damaged one.
        """
        path = self._path(key)
        for _ in range(TRIES):
            found = _look(path)
            if found is None:
                return None
            try:
                result = read(path)
            except FreeStyleError as error:
                if _look(path) != found:  # another process has replaced or deleted it meanwhile
                    continue
                _log.warning("a kept result is damaged and will be made again: %s", error)
                _delete(path, found)
                return None
            with suppress(OSError):
                os.utime(path)  # used just now
            return result
        return None

    def save(self, key: str, portraits: Sequence[Portrait], losses: Losses) -> None:
        """Keep a result, then delete the oldest until the limit is met; raises WriteError."""
        styles = _styles_of(portraits)
        state, config = {}, None
        for index, portrait in enumerate(portraits):
            state[f"planes.{index}"] = portrait.triplane.planes
        for index, style in enumerate(styles):
            state[f"w_s.{index}"] = style.w_s
            if style.residual is not None:
                state[f"residual.{index}"] = style.residual
        if styles:
            network = styles[0].network
            config = network.config.to_dict()
            state |= {f"network.{k}": v for k, v in network.state_dict().items()}
        for name, values in losses.items():
            state[f"loss.{name}"] = torch.tensor(values, dtype=torch.float32)
        extra = {
            "key": key,
            "parent": styles[0].parent if styles else "",
            "provenance": [portrait.provenance for portrait in portraits],
        }
        self.keep(key, KIND, {"i2t": config}, state, extra)

    def keep(
        self,
        key: str,
        kind: str,
        config: Mapping[str, Any],
        state: Mapping[str, Tensor],
        extra: Mapping[str, Any],
    ) -> None:
        """Write an entry, then delete the oldest until the limit is met; raises WriteError."""
        path = self._path(key)
        try:
            save_bundle(path, kind, config, state, extra)
        except WriteError:
            if _look(path) is None:
                raise
            # Windows replaces no file that another process reads: that one holds the same result
        self.trim()

    def remove(self, key: str) -> None:
        """Delete an entry, if it is there."""
        found = _look(self._path(key))
        if found is not None:
            _delete(self._path(key), found)

    def save_checkpoint(
        self, key: str, step: int, tensors: Mapping[str, Tensor], task: str
    ) -> None:
        """Keep how far a fine-tuning has come, in place of what was kept of it; raises WriteError.

        The arguments are the fields of a `TrainingState`.
        """
        extra = {"key": key, "step": step, "task": task}
        self.keep(key + UNFINISHED, CHECKPOINT, {}, tensors, extra)

    def load_checkpoint(self, key: str) -> tuple[int, dict[str, Tensor], str] | None:
        """Return how far the fine-tuning of `key` had come, None where none was stopped."""
        return self.find(key + UNFINISHED, lambda path: _read_checkpoint(path, key))

    def remove_checkpoint(self, key: str) -> None:
        """Delete the checkpoint of a fine-tuning that is finished, or that does not fit."""
        self.remove(key + UNFINISHED)

    def entries(self) -> list[tuple[Path, int]]:
        """Return file and size in bytes of every entry, the one used longest ago first."""
        return [(path, found.size) for path, found in self._listed()]

    def size(self) -> int:
        """Return the bytes that all entries take together."""
        return sum(size for _, size in self.entries())

    def trim(self) -> None:
        """Delete the entries used longest ago until the limit is met, and leftovers of crashes."""
        entries = self._listed()
        total = sum(found.size for _, found in entries)
        for path, found in entries:
            if total <= self.limit_bytes:
                break
            _delete(path, found)
            total -= found.size
        for path in self.root.glob(f".*{SUFFIX}.*.tmp"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()

    def clear(self) -> int:
        """Delete every entry and return how many there were."""
        entries = self._listed()
        for path, found in entries:
            _delete(path, found)
        return len(entries)

    def _listed(self) -> list[tuple[Path, _Look]]:
        found = [(path, _look(path)) for path in self.root.glob(f"[!.]*{SUFFIX}")]
        there = [(path, look) for path, look in found if look is not None]
        return sorted(there, key=lambda entry: entry[1].used)

    def _path(self, key: str) -> Path:
        return self.root / f"{key}{SUFFIX}"


def open_store(root: Path | str) -> Store:
    """Return the store in `root` with the limit that was set there."""
    root = Path(root)
    try:
        limit = float(json.loads((root / LIMIT_FILE).read_text(encoding="utf-8"))["limit_gb"])
    except FileNotFoundError:
        limit = DEFAULT_LIMIT_GB
    except OSError:  # it is just being replaced: a guess could delete what the user wants kept
        return Store(root, sys.maxsize)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):  # not by us
        limit = DEFAULT_LIMIT_GB
    if not (math.isfinite(limit) and limit >= 0):
        limit = DEFAULT_LIMIT_GB
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
    # entries of older versions have a hash of their tensors instead of the bundle's
    whole = bundle.sha256 is not None or extra.get("check") == weights_hash(state)
    if extra.get("key") != key or not whole:
        raise FileFormatError(f"{path} does not hold what was saved under its name")
    config = bundle.config.get("i2t", {})  # None: planes learnt without a network
    weights = _under(state, "network.")
    network = None if config is None else build(path, config, weights, _CONFIG, I2T)
    losses = _under(state, "loss.")
    _check_entry(path, bundle, network, portraits, losses)
    made = []
    for index, (portrait, prompt) in enumerate(zip(portraits, prompts, strict=True)):
        triplane = Triplane(state[f"planes.{index}"], portrait.triplane.box_size)
        style = None
        if network is not None:
            residual = state.get(f"residual.{index}")
            style = StyleCode(state[f"w_s.{index}"], network, extra["parent"], residual)
        provenance = {**extra["provenance"][index], "prompt": prompt}
        if isinstance(provenance.get("prompts"), list):  # of a portrait that was restyled before
            provenance["prompts"] = [*provenance["prompts"][:-1], prompt]
        made.append(Portrait(portrait.renderer, triplane, portrait.w, style, provenance))
    return made, {name: values.tolist() for name, values in losses.items()}


def _read_checkpoint(path: Path, key: str) -> tuple[int, dict[str, Tensor], str]:
    bundle = load_bundle(path, CHECKPOINT)
    step, task = bundle.extra.get("step"), bundle.extra.get("task")
    if bundle.extra.get("key") != key or not isinstance(step, int) or not isinstance(task, str):
        raise FileFormatError(f"{path} does not hold what was saved under its name")
    return step, bundle.state, task


_CONFIG = I2TConfig.from_dict


def _check_entry(
    path: Path,
    bundle: Bundle,
    network: I2T | None,
    portraits: Sequence[Portrait],
    losses: Mapping[str, Tensor],
) -> None:
    """Raise unless the entry holds one result for each portrait, all of the right shapes."""
    extra = bundle.extra
    provenance = extra.get("provenance")
    described = isinstance(provenance, list) and all(isinstance(p, dict) for p in provenance)
    if provenance is None or not (isinstance(extra.get("parent"), str) and described):
        raise FileFormatError(f"{path} does not say what its portraits were made of")
    needed: dict[str, tuple[int, ...]] = {}
    for index, portrait in enumerate(portraits):
        needed[f"planes.{index}"] = tuple(portrait.triplane.planes.shape)
        if network is not None:
            sizes = network.config
            needed[f"w_s.{index}"] = (1, sizes.code_channels, sizes.code_size, sizes.code_size)
            if f"residual.{index}" in bundle.state:
                needed[f"residual.{index}"] = tuple(portrait.triplane.planes.shape)
    fits = all(name in bundle.state for name in needed) and all(
        bundle.state[name].shape == shape and bundle.state[name].is_floating_point()
        for name, shape in needed.items()
    )
    if not fits or len(provenance) != len(portraits) or any(v.ndim != 1 for v in losses.values()):
        raise FileFormatError(f"{path} does not hold a result for each of {len(portraits)} styles")


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


class _Look(NamedTuple):
    """What tells a file from another one that takes its place."""

    used: int  # ns
    node: int
    size: int  # bytes


def _look(path: Path) -> _Look | None:
    try:
        status = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return _Look(status.st_mtime_ns, status.st_ino, status.st_size)


def _delete(path: Path, seen: _Look) -> None:
    """Delete the file that was `seen`, but none that another process has put there since."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with suppress(OSError):
        os.replace(path, aside)  # in one step, so that no one can come in between
        if _look(aside) == seen:
            aside.unlink()
        else:
            os.replace(aside, path)
