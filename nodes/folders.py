"""ComfyUI's folders: the models and portraits that nodes offer, and where new files go.

What is offered and what is loaded come from one search (`_found`): any depth, links followed, names
relative to their root, and of equal names the one in the first root. Entries count by what they
are: what can never load is not offered, and what leads nowhere stops nothing.
"""

import os
import secrets
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

import folder_paths

from ..freestyle_core.errors import FileFormatError, InputError
from ..freestyle_core.files.editors.checkpoint import EDITOR_CHANNELS, SUFFIXES, input_channels
from ..freestyle_core.files.editors.load import is_editor_folder
from ..freestyle_core.files.names import ending, output_prefix, shortened
from ..freestyle_core.files.networks import EMBEDDED, OFFICIAL_SUFFIXES, embedded
from ..freestyle_core.files.style_pack import KIND as PACK
from ..freestyle_core.files.style_pack import shipped_packs
from ..freestyle_core.files.survey import files_below, folders_below, kind_of

EMBEDDED_CHOICE = f"{EMBEDDED} (embedded)"
NO_PORTRAIT = NO_PACK = "(none saved yet)"
MODEL_FOLDERS = ("eg3d", "i2t", "lpips")  # registered by this pack; those of editors are ComfyUI's
EDITOR = "editor"
EDITOR_FOLDERS = ("diffusers", "checkpoints")
WEIGHTS_SUFFIX = ".safetensors"
MODEL_SUFFIXES = {
    "eg3d": (WEIGHTS_SUFFIX, *OFFICIAL_SUFFIXES),
    "i2t": (WEIGHTS_SUFFIX,),
    "lpips": (".pth",),
}

Found = Iterable[tuple[str, Path]]  # name relative to a root, and path


def register_model_folders() -> None:
    """Make our model folders known to ComfyUI, keeping what a yaml file added before."""
    for name in MODEL_FOLDERS:
        folder_paths.add_model_folder_path(name, os.path.join(folder_paths.models_dir, name))
        paths, suffixes = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (paths, {*suffixes, *MODEL_SUFFIXES[name]})


# Models -----------------------------------------------------------------------------------------


def model_folders(part: str) -> list[Path]:
    """Return ComfyUI's folders for `part`; into the first a new model is written."""
    return [Path(folder) for folder in folder_paths.get_folder_paths(part)]


def model_choices(part: str) -> list[str]:
    """Return what a loader of "eg3d", "i2t" or "editor" offers: embedded first, then all found."""
    return list(dict.fromkeys([EMBEDDED_CHOICE, *_models(part)]))


def model_files(part: str) -> list[Path]:
    """Return every model of `part` in ComfyUI's folders."""
    return list(_models(part).values())


def model_path(part: str, choice: str) -> Path:
    """Return the file or folder behind a choice of `model_choices`.

    What is there but not offered is returned too: its loader says best what is wrong with it.
    """
    if choice == EMBEDDED_CHOICE:
        return embedded(part)
    folders = EDITOR_FOLDERS if part == EDITOR else (part,)
    roots = [root for folder in folders for root in model_folders(folder)]
    path = _models(part).get(choice) or _below(roots, choice)
    if path is None:
        places = " or ".join(f"models/{folder}" for folder in folders)
        raise FileFormatError(
            f"no {part} named {shortened(choice)} in ComfyUI's {places} folder; put it there and "
            "press R, or choose the embedded one"
        )
    return path


def _models(part: str) -> dict[str, Path]:
    """Return name -> path of every model of a part; of editors, folders come before files."""
    if part != EDITOR:
        return _found(map(files_below, model_folders(part)), lambda path: _is_model(part, path))
    whole, single = map(model_folders, EDITOR_FOLDERS)
    in_folders = _found((folders_below(root, is_editor_folder) for root in whole), os.path.isdir)
    in_files = _found(map(files_below, single), _is_editor_file)
    return {**in_folders, **{n: path for n, path in in_files.items() if n not in in_folders}}


def _found(roots: Iterable[Found], wanted: Callable[[Path], bool]) -> dict[str, Path]:
    """Return name -> path of all that is wanted, by name; the first root wins."""
    found: dict[str, Path] = {}
    for root in roots:
        for name, path in root:
            if name not in found and wanted(path):
                found[name] = path
    return dict(sorted(found.items()))


def _below(roots: Iterable[Path], name: str) -> Path | None:
    """Return what lies under a root by that name; never what a name climbs to."""
    relative = Path(name.replace("\\", "/"))
    if "\0" in name or relative.is_absolute() or relative.drive or ".." in relative.parts:
        return None
    if not relative.parts:
        return None
    try:
        return next((root / relative for root in roots if (root / relative).exists()), None)
    except OSError:  # longer than any name
        return None


def _is_model(part: str, path: Path) -> bool:
    kind = ending(path)
    if kind not in MODEL_SUFFIXES[part]:
        return False
    # of an official pickle only reading all of it tells more
    return kind != WEIGHTS_SUFFIX or kind_of(path) == part


def _is_editor_file(path: Path) -> bool:
    """Return whether the U-Net of a checkpoint takes a second picture, known from its header."""
    return ending(path) in SUFFIXES and _channels(path, _changed(path)) == EDITOR_CHANNELS


@lru_cache(maxsize=4096)
def _channels(path: Path, changed: int) -> int | None:
    """Return what the header says; asked again only when the file is another."""
    return input_channels(path)


# Portraits and style packs ------------------------------------------------------------------------


def portrait_choices() -> list[str]:
    """Return every portrait in the output and input folders, newest first, as choices.

    The ending is left out: ComfyUI would report such a name as a missing model on other machines.
    """
    return list(_saved("portrait")) or [NO_PORTRAIT]


def portrait_path(choice: str) -> Path:
    """Return the file behind a choice of `portrait_choices`."""
    path = _saved_path("portrait", choice)
    if path is None:
        raise InputError(
            f"no portrait file for {shortened(choice)}; save one with Save Portrait, press R, and "
            "choose it"
        )
    return path


def portraits_state() -> list[tuple[str, int]]:
    """Return every portrait and when it was last written: what changes when any of them does."""
    return [(name, _changed(path)) for name, path in _saved("portrait").items()]


def pack_choices() -> list[str]:
    """Return the style packs that come with this package, then those in output and input."""
    return [*map(_shipped_choice, shipped_packs()), *_saved(PACK)] or [NO_PACK]


def pack_path(choice: str) -> Path:
    """Return the file behind a choice of `pack_choices`."""
    shipped = {_shipped_choice(name): path for name, path in shipped_packs().items()}
    path = shipped.get(choice) or _saved_path(PACK, choice)
    if path is None:
        raise InputError(
            f"no style pack for {shortened(choice)}; make one with Save Style, press R, and choose "
            "it, or choose an embedded one"
        )
    return path


def packs_state() -> list[tuple[str, int]]:
    """Return every saved pack and when it was last written."""
    return [(name, _changed(path)) for name, path in _saved(PACK).items()]


def _shipped_choice(name: str) -> str:
    return f"{name} (embedded)"


def _saved_path(kind: str, choice: str) -> Path | None:
    """Return the file behind a choice of `_saved`, or one there that is not offered."""
    name, _, place = choice.rpartition(" [")
    roots = [root for label, root in _saved_roots().items() if place == f"{label}]"]
    path = _saved(kind).get(choice) or _below(roots, f"{name}{WEIGHTS_SUFFIX}")
    return path if path is not None and path.is_file() else None


def _saved(kind: str) -> dict[str, Path]:
    """Return every file of a kind in the output and input folders, newest first."""
    found: dict[str, tuple[int, Path]] = {}
    for label, root in _saved_roots().items():
        for name, path in files_below(root):
            if ending(path) == WEIGHTS_SUFFIX and kind_of(path) == kind:
                shown = f"{Path(name).with_suffix('').as_posix()} [{label}]"
                found.setdefault(shown, (_changed(path), path))
    newest = sorted(found.items(), key=lambda item: (item[1][0], item[0]), reverse=True)
    return {name: path for name, (_, path) in newest}


def _changed(path: Path) -> int:
    """Return when a file was last written, in nanoseconds; 0 when it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _saved_roots() -> dict[str, Path]:
    return {
        "output": Path(folder_paths.get_output_directory()),
        "input": Path(folder_paths.get_input_directory()),
    }


# New files --------------------------------------------------------------------------------------


def store_folder() -> Path:
    """Return where fine-tuned results are kept: beside ComfyUI's user settings, out of reach of its
    web pages, of the output folder's listings and of the cleaning of the temp folder at start.
    """
    return Path(folder_paths.get_system_user_directory("freestyle3d")) / "finetuned"


def new_output_path(prefix: str, suffix: str) -> tuple[Path, str]:
    """Return the next free numbered file of a prefix, and its name inside the output folder."""
    root = folder_paths.get_output_directory()
    try:
        parts = folder_paths.get_save_image_path(output_prefix(prefix), root)
    except InputError:
        raise
    except Exception as error:  # ComfyUI raises just that for a link that leads out
        raise InputError(
            f"the prefix {shortened(prefix)} leads out of ComfyUI's output folder or into one that "
            "cannot be written; choose another"
        ) from error
    folder, stem, counter, subfolder, _ = parts
    name = f"{stem}_{counter:05}_{suffix}"
    return Path(folder) / name, (Path(subfolder) / name).as_posix()


def new_temp_file(prefix: str, suffix: str) -> tuple[Path, dict[str, str]]:
    """Return a new file in ComfyUI's temp folder, and its name as the browser asks for it.

    The name is never used twice: a page left open over a restart finds nothing, not another file.
    """
    name = f"{prefix}_{secrets.token_hex(8)}{suffix}"
    shown = {"filename": name, "subfolder": "", "type": "temp"}
    return Path(folder_paths.get_temp_directory()) / name, shown
