"""Damaged files of every kind, made at random but always the same, and what loading them does.

`python -m tests.files.fuzz FILES_PER_KIND SEED [KIND...]` prints the table of outcomes.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from freestyle_core.errors import FreeStyleError
from freestyle_core.files.bundle import load_bundle, load_header, save_bundle, weights_hash
from freestyle_core.files.editors.load import load_editor
from freestyle_core.files.finetune_cache import KIND as CACHE
from freestyle_core.files.finetune_cache import Store
from freestyle_core.files.networks import (
    load_eg3d,
    load_i2t,
    load_perceptual,
    save_eg3d,
    save_i2t,
    save_perceptual,
)
from freestyle_core.files.portrait import load_portrait, save_portrait
from freestyle_core.geometry.cameras import front_camera
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.method.stylize import StylizeSettings, stylize_views
from freestyle_core.models.perceptual import PerceptualConfig, PerceptualDistance, PerceptualNet
from freestyle_core.pretrain.run import pretrain_to_file
from freestyle_core.pretrain.train import PretrainSettings
from tests.files.finetune_cache.small import made_up
from tests.official_pickle import arguments_of, write_official
from tests.tiny import tiny_eg3d, tiny_i2t
from tests.tiny_checkpoint import save_checkpoint, tiny_editor
from tests.tiny_editor import save_tiny_editor

SECONDS = 60  # longer is a hang
REFUSED, EQUAL, OTHER, LATE = "refused", "equal", "other finite values", "late, named"
NAN, TRACEBACK, HANG = "NaN silently", "traceback", "hang"
OUTCOMES = (REFUSED, EQUAL, OTHER, LATE, NAN, TRACEBACK, HANG)
WRONG = (NAN, TRACEBACK, HANG)
EXTREMES = [struct.pack("<f", x) for x in (float("nan"), float("inf"), -3e38, 1e36, 1e19, 1e-40)]
VALUES = (None, True, -1, 0, 1, 3, 7.5, 2**31, 10**30, 1e300, float("nan"), "", "x", [], [1], {})


@dataclass(frozen=True)
class Kind:
    """One kind of file: how it is saved, and what a user does with it."""

    save: Callable[[Path], Path]  # into a folder; returns the file or folder to load
    use: Callable[[Path], Tensor | None]  # loads and uses it; None: counted as absent


def stripped(path: Path) -> Path:
    """Make a bundle one of an older version: without a hash of its content."""
    kind = load_header(path).kind
    bundle = load_bundle(path, kind)
    check = {"check": weights_hash(bundle.state)} if kind == CACHE else {}  # the cache's own
    save_bundle(path, kind, bundle.config, bundle.state, {**bundle.extra, **check})
    path.write_bytes(path.read_bytes().replace(b"sha256", b"sha255"))
    return path


def _picture(portrait) -> Tensor:
    cameras = front_camera(portrait.renderer.config.rig())
    return render_views(portrait, cameras).image


def _save_portrait(folder: Path) -> Path:
    save_portrait(folder / "p.safetensors", sample_portrait(tiny_eg3d(), 0), settings={"a": 1})
    return folder / "p.safetensors"


def _save_styled(folder: Path) -> Path:
    (styled,), _ = made_up([sample_portrait(tiny_eg3d(), 0)], 1)
    save_portrait(folder / "p.safetensors", styled)
    return folder / "p.safetensors"


def _use_portrait(path: Path) -> Tensor:
    return _picture(load_portrait(path, eg3d=tiny_eg3d()))


def _save_eg3d(folder: Path) -> Path:
    save_eg3d(folder / "g.safetensors", tiny_eg3d())
    return folder / "g.safetensors"


def _use_eg3d(path: Path) -> Tensor:
    return _picture(sample_portrait(load_eg3d(path), 0))


def _save_own(folder: Path) -> Path:
    eg3d = tiny_eg3d()
    torch.save({"G_ema": eg3d.state_dict(), **arguments_of(eg3d)}, folder / "own.pt")
    return folder / "own.pt"


def _save_i2t(folder: Path) -> Path:
    save_i2t(folder / "i.safetensors", tiny_i2t(), eg3d="abc")
    return folder / "i.safetensors"


def _use_i2t(path: Path) -> Tensor:
    i2t = load_i2t(path)
    size = i2t.config.image_resolution
    with torch.no_grad():
        return i2t(torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)))


def _save_perceptual(folder: Path) -> Path:
    torch.manual_seed(2)
    save_perceptual(folder / "f.safetensors", PerceptualNet(PerceptualConfig(channels=(4, 8))))
    return folder / "f.safetensors"


def _use_perceptual(path: Path) -> Tensor:
    distance = PerceptualDistance(load_perceptual(path))
    a, b = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return distance(a, b)


def _save_cache(folder: Path) -> Path:
    portraits = [sample_portrait(tiny_eg3d(), 0)]
    Store(folder, 10**9).save("0" * 64, *made_up(portraits, 1))
    return folder / f"{'0' * 64}.safetensors"


def _use_cache(path: Path) -> Tensor | None:
    found = Store(path.parent, 10**9).load("0" * 64, [sample_portrait(tiny_eg3d(), 0)], ["x"])
    return None if found is None else _picture(found[0][0])


PRETRAIN = PretrainSettings(
    iterations=2, batch_size=1, warmup=1, statistics=1, held_out=1, preview_every=0
)


def _save_checkpoint(folder: Path) -> Path:
    def stop(done, *_):
        if done == 1:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        _pretrain(folder, stop)
    return folder / "i2t.checkpoint"


def _pretrain(folder: Path, progress=lambda *_: None):
    out = folder / "i2t.safetensors"
    options = {"settings": PRETRAIN, "config": tiny_i2t().config, "resume": True}
    return pretrain_to_file(tiny_eg3d(), out, progress=progress, **options)


def _use_checkpoint(path: Path) -> Tensor:
    with suppress(FileNotFoundError):
        (path.parent / "i2t.safetensors").unlink()
    run = _pretrain(path.parent)
    values = torch.cat([v.flatten() for v in run.i2t.state_dict().values()])
    return torch.cat([values, torch.tensor(run.losses)])


def _use_editor(path: Path) -> Tensor:
    words = path.parent / "words"
    editor = load_editor(path, tokenizer=words if words.is_dir() else None)
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return stylize_views(editor, images, "an elf", settings=StylizeSettings(steps=1, tau=0.9))


def _save_single(folder: Path, ending: str) -> Path:
    editor, words = tiny_editor(folder)
    words.rename(folder / "words")
    return save_checkpoint(folder / f"e.{ending}", editor)


def kinds() -> dict[str, Kind]:
    """Return all kinds by name."""
    bundles = {
        "portrait": Kind(_save_portrait, _use_portrait),
        "portrait, styled": Kind(_save_styled, _use_portrait),
        "EG3D, converted": Kind(_save_eg3d, _use_eg3d),
        "I2T": Kind(_save_i2t, _use_i2t),
        "perceptual": Kind(_save_perceptual, _use_perceptual),
        "fine-tune cache": Kind(_save_cache, _use_cache),
        "pretrain checkpoint": Kind(_save_checkpoint, _use_checkpoint),
    }
    older = {
        f"{name} without hash": Kind(lambda f, k=kind: stripped(k.save(f)), kind.use)
        for name, kind in bundles.items()
    }
    return {
        **bundles,
        **older,
        "official pickle": Kind(lambda f: write_official(f / "n.pkl", tiny_eg3d()), _use_eg3d),
        "own torch.save": Kind(_save_own, _use_eg3d),
        "diffusers folder": Kind(lambda f: save_tiny_editor(f / "editor"), _use_editor),
        "single .safetensors": Kind(lambda f: _save_single(f, "safetensors"), _use_editor),
        "single .ckpt": Kind(lambda f: _save_single(f, "ckpt"), _use_editor),
    }


# Mutations ---------------------------------------------------------------------------------------


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Return a damaged copy; half of the damage falls on the beginning, which decides the rest."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        if not changed:
            break
        early = min(len(changed), 4096)
        at = draw.randrange(early if draw.random() < 0.5 else len(changed))
        how = draw.choice("flip byte bytes cut delete insert repeat zero extreme digit".split())
        size = draw.choice((1, 2, 4, 16, 200))
        if how == "flip":
            changed[at] ^= 1 << draw.randrange(8)
        elif how == "byte":
            changed[at] = draw.randrange(256)
        elif how == "bytes":
            changed[at : at + size] = draw.randbytes(len(changed[at : at + size]))
        elif how == "cut" and draw.random() < 0.4:
            del changed[at:]
        elif how == "delete":
            del changed[at : at + size]
        elif how == "insert":
            changed[at:at] = draw.randbytes(size)
        elif how == "repeat":
            changed[at:at] = changed[at : at + size]
        elif how == "zero":
            changed[at : at + size] = bytes(len(changed[at : at + size]))
        elif how == "extreme":
            at -= at % 4
            changed[at : at + 4] = draw.choice(EXTREMES)[: len(changed[at : at + 4])]
        elif how == "digit":
            digits = [
                i for i in range(at, min(at + 400, len(changed))) if chr(changed[i]).isdigit()
            ]
            if digits:
                changed[draw.choice(digits)] = ord(draw.choice("0123456789"))
    return bytes(changed)


def mutate_json(data: bytes, draw: random.Random) -> bytes:
    """Return settings of which one has another value or is gone."""
    content = json.loads(data)
    if not isinstance(content, dict) or not content:
        return mutate(data, draw)
    key = draw.choice(sorted(content))
    if draw.random() < 0.2:
        del content[key]
    else:
        content[key] = draw.choice(VALUES)
    return json.dumps(content).encode()


def damage(path: Path, draw: random.Random) -> None:
    """Damage a file, or one file of a folder."""
    if path.is_dir():
        path = draw.choice(sorted(p for p in path.rglob("*") if p.is_file()))
    data = path.read_bytes()
    settings = path.suffix == ".json" and draw.random() < 0.7
    path.write_bytes(mutate_json(data, draw) if settings else mutate(data, draw))


# What comes of it --------------------------------------------------------------------------------


class Hangs(BaseException):
    """Raised in the middle of whatever takes too long."""


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Interrupt what takes longer, where the system can."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_):
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(kind: Kind, path: Path, whole: Tensor) -> tuple[str, str]:
    """Return what loading and using a file did, and the words of an error."""
    try:
        with limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            got = kind.use(path)
    except FreeStyleError as error:
        text = str(error)
        if not text or "\n" in text:
            return TRACEBACK, f"an error of several lines: {text[:200]}"
        named = path.name in text or path.stem in text
        return (REFUSED if named else LATE), text
    except Hangs:
        return HANG, ""
    except Exception as error:
        return TRACEBACK, f"{type(error).__name__}: {error}"[:300]
    if got is None:
        return REFUSED, "absent"
    if not bool(torch.isfinite(got).all()):
        return NAN, ""
    return (EQUAL if got.shape == whole.shape and torch.equal(got, whole) else OTHER), ""


def fuzz(count: int, seed: int, names: list[str] | None = None) -> dict[str, list]:
    """Return (outcome, words, number) for `count` damaged files of every kind."""
    results = {}
    for name, kind in kinds().items():
        if names is not None and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "whole"
            whole.mkdir()
            target = kind.save(whole).relative_to(whole)
            shutil.copytree(whole, Path(folder) / "use")
            expected = kind.use(Path(folder) / "use" / target)
            results[name] = []
            for number in range(count):
                shutil.rmtree(Path(folder) / "use")
                shutil.copytree(whole, Path(folder) / "use")
                path = Path(folder) / "use" / target
                damage(path, random.Random(f"{seed} {name} {number}"))
                results[name].append((*outcome(kind, path, expected), number))
    return results


def faults(results: dict[str, list]) -> list[str]:
    """Return what must not happen, a line each."""
    return [
        f"{name} {number}: {what} {words}"
        for name, found in results.items()
        for what, words, number in found
        if what in WRONG
    ]


def table(results: dict[str, list]) -> str:
    """Return the outcomes as a table in Markdown."""
    lines = ["| kind | " + " | ".join(OUTCOMES) + " | n |", "|---" * (len(OUTCOMES) + 2) + "|"]
    for name, found in results.items():
        counts = Counter(what for what, _, _ in found)
        numbers = [str(counts[what]) for what in OUTCOMES]
        lines.append(f"| {name} | " + " | ".join(numbers) + f" | {len(found)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    start = time.monotonic()
    made = fuzz(
        int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, sys.argv[3:] or None
    )
    sys.stdout.write("\n".join([table(made), *faults(made)]) + "\n")
    sys.stdout.write(f"{time.monotonic() - start:.0f} s\n")
