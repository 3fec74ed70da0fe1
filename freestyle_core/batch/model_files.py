"""Hashes of the files that models lie in: they are part of a job's name, and load no network."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import FileFormatError
from ..files.networks import embedded
from ..files.perceptual import AUTO, VGG, find_vgg
from ..files.record import sha256
from ..models.i2t import FRESH
from ..pipeline import ModelPaths


def model_hashes(paths: ModelPaths) -> dict[str, str]:
    """Return the hash of each part that a run may use; no "i2t" where none is given."""
    found = {"eg3d": files_hash(paths.eg3d), "editor": files_hash(paths.editor)}
    found["perceptual"] = _perceptual(paths)
    if paths.i2t is not None:
        found["i2t"] = FRESH if str(paths.i2t) == FRESH else files_hash(Path(paths.i2t))
    return found


def files_hash(path: Path) -> str:
    """Return the sha256 of a file, or of the names and contents of all files of a folder."""
    if path.is_file():
        return sha256(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    if not files:
        raise FileFormatError(f"{path} is not there; check the name and the folder")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path).as_posix()} {sha256(file)}\n".encode())
    return digest.hexdigest()


def _perceptual(paths: ModelPaths) -> str:
    choice = str(paths.perceptual)
    if choice not in (AUTO, VGG):
        return files_hash(Path(choice))
    if choice == AUTO and paths.eg3d == ModelPaths.eg3d:  # made for these small pictures
        return files_hash(embedded("perceptual"))
    vgg = find_vgg()
    return VGG if vgg is not None or choice == VGG else files_hash(embedded("perceptual"))
