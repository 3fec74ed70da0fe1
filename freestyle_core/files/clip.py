"""Find, load and fetch a CLIP: the models that scores are computed with.

`load_clip("auto")` takes what lies at hand, in this order: ViT-B/32 (raw cosines of portraits near
0.3, as published scores are), ViT-L/14, any other whole CLIP in the folders given or in ComfyUI's,
and last the small clay CLIP, which is always there but knows the clay world only. Nothing is looked
up online unless `download` says so; nothing of a file is run. Read `load_clip` first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..errors import DownloadError, FileFormatError, FreeStyleError
from ..models.clip import Clip
from ..progress import Progress, no_progress
from .clip_weights import (
    CONFIG,
    WEIGHTS,
    load_model,
    missing_towers,
    name_of,
    shapes_of,
    weights_in,
)
from .editors.config_limits import read_config
from .editors.download import RemoteFile, download_folder
from .editors.load import TOKENIZER_FILES, find_tokenizer, guarded, load_tokenizer
from .names import ending
from .networks import ASSETS
from .survey import files_below, folders_below

AUTO, CLAY = "auto", "clay"
KNOWN = {  # name -> repository of the hub
    "B/32": "openai/clip-vit-base-patch32",
    "L/14": "openai/clip-vit-large-patch14",
}
EMBEDDED = ASSETS.parent / "clip"
COMFYUI_FOLDERS = ("clip_vision", "clip", "text_encoders")  # in ComfyUI's models

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundClip:
    """A whole CLIP that lies on this machine."""

    name: str  # a choice of `load_clip`, or the name of the folder or file
    place: Path  # a folder with config and tokenizer, or a .safetensors file
    weights: Path


def load_clip(
    name_or_path: Path | str = AUTO,  # AUTO, CLAY, a key of KNOWN, a folder or a file
    download: bool = False,  # fetch a KNOWN one that is not here; with AUTO the first of them
    *,
    folders: Sequence[Path] = (),  # searched besides ComfyUI's own
    progress: Progress = no_progress,  # of a download, megabytes
) -> Clip:
    """Return a CLIP on the CPU, float32, for inference; its `name` says which one it is."""
    choice = str(name_or_path)
    if choice == AUTO:
        found = _best(folders, download, progress)
    elif choice == CLAY:
        found = FoundClip(CLAY, EMBEDDED, EMBEDDED / WEIGHTS[0])
    elif choice in KNOWN:
        found = _known(choice) or _fetched(choice, download, progress)
    else:
        found = _given(Path(name_or_path))
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        model = load_model(found.place, found.weights)
        words = _tokenizer_folder(found.place)
        clip = Clip(
            model, guarded(words, lambda: load_tokenizer(words)), name_of(found.place, model)
        )
    _log.info("CLIP: %s from %s", clip.name, found.place)
    return clip.eval()


def find_clips(folders: Sequence[Path] = ()) -> list[FoundClip]:
    """Return every whole CLIP at hand, the one that AUTO takes first; only headers are read."""
    found = [clip for clip in map(_known, KNOWN) if clip is not None]
    places = {clip.place.resolve() for clip in found}
    for root in (*folders, *_comfyui_folders()):
        for clip in _below(Path(root)):
            if clip.place.resolve() not in places:
                places.add(clip.place.resolve())
                found.append(clip)
    if (EMBEDDED / CONFIG).is_file():
        found.append(FoundClip(CLAY, EMBEDDED, EMBEDDED / WEIGHTS[0]))
    return found


def download_clip(name: str, progress: Progress = no_progress) -> Path:
    """Fetch a KNOWN CLIP from the hub and return its folder; a later call goes on where it was."""
    return download_folder(_download_folder(name), KNOWN[name], needed_files, CONFIG, progress)


def needed_files(listed: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Return the files of a CLIP repository that are read, config.json last."""
    known = {file.name: file for file in listed}
    weights = next((name for name in WEIGHTS if name in known), WEIGHTS[0])
    chosen = [weights, *TOKENIZER_FILES, CONFIG]
    missing = [name for name in chosen if name not in known]
    if missing:
        raise DownloadError(f"the repository lacks {', '.join(missing)}")
    return [known[name] for name in chosen]


def _best(folders: Sequence[Path], download: bool, progress: Progress) -> FoundClip:
    found = find_clips(folders)
    real = [clip for clip in found if clip.name != CLAY]
    if not real and download:
        return _fetched(next(iter(KNOWN)), download, progress)
    if not found:
        raise FileFormatError(f"there is no CLIP here, not even in {EMBEDDED}; install again")
    return found[0]


def _fetched(name: str, download: bool, progress: Progress) -> FoundClip:
    if not download:
        raise FileFormatError(
            f"CLIP {name} is not on this machine; let it be downloaded (--download), put the files "
            f"of https://huggingface.co/{KNOWN[name]} into a folder and give that, or take the "
            f"small one that is always here ({CLAY}, for clay portraits)"
        )
    folder = download_clip(name, progress)
    return FoundClip(name, folder, weights_in(folder))


def _given(path: Path) -> FoundClip:
    if path.is_dir():
        return FoundClip(path.name, path, weights_in(path))
    if path.is_file() and ending(path) == ".safetensors":
        return FoundClip(path.name, path, path)
    raise FileFormatError(
        f"there is no CLIP {str(path)!r}; choose {AUTO}, {CLAY}, {', '.join(KNOWN)}, a folder with "
        f"{CONFIG} and {WEIGHTS[0]}, or a .safetensors file with both towers"
    )


def _known(name: str) -> FoundClip | None:
    """Return a known CLIP: one that was downloaded from here, or one in the hub's cache."""
    folder = _download_folder(name)
    if (folder / CONFIG).is_file():
        return FoundClip(name, folder, weights_in(folder))
    snapshots = _snapshots(KNOWN[name])
    # transformers keeps converted weights under a revision of their own
    weights = [s / file for file in WEIGHTS for s in snapshots if (s / file).is_file()]
    described = [s for s in snapshots if (s / CONFIG).is_file()]
    if not weights or not described:
        return None
    with_words = [s for s in described if _has_tokenizer(s)]
    return FoundClip(name, (with_words or described)[0], weights[0])


def _snapshots(repository: str) -> list[Path]:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    return sorted(path for path in cache.glob("snapshots/*") if path.is_dir())


def _download_folder(name: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "freestyle3d" / KNOWN[name].split("/")[-1]


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or all(
        (folder / name).is_file() for name in TOKENIZER_FILES[:2]
    )


def _tokenizer_folder(place: Path) -> Path:
    """Return where the tokenizer lies: with the model, or that of Stable Diffusion 1, the same."""
    for folder in (place, place / "tokenizer"):
        if place.is_dir() and _has_tokenizer(folder):
            return folder
    return find_tokenizer(place)


def _comfyui_folders() -> list[Path]:
    """Return ComfyUI's folders for CLIPs, where this pack lies in its custom_nodes."""
    models = Path(__file__).resolve().parents[4] / "models"
    return [models / name for name in COMFYUI_FOLDERS if (models / name).is_dir()]


def _below(root: Path) -> Iterator[FoundClip]:
    if _is_clip_folder(root):
        yield FoundClip(root.name, root, weights_in(root))
        return
    inside: list[Path] = []
    for name, folder in folders_below(root, _is_clip_folder):
        inside.append(folder)
        yield FoundClip(name, folder, weights_in(folder))
    for name, path in files_below(root):
        if ending(path) != ".safetensors" or any(f in path.parents for f in inside):
            continue
        if _is_whole(path):
            yield FoundClip(name, path, path)


def _is_clip_folder(folder: Path) -> bool:
    try:
        return (
            read_config(folder / CONFIG).get("model_type") == "clip"
            and weights_in(folder).is_file()
        )
    except (FreeStyleError, OSError, ValueError, RecursionError):
        return False


def _is_whole(path: Path) -> bool:
    try:
        return not missing_towers(shapes_of(path))
    except Exception:  # whatever a file that is something else makes the reader raise
        return False
