"""The real InstructPix2Pix, fetched from the Hugging Face hub when the user asks for it.

`huggingface_hub` lists the files, knows the address (HF_ENDPOINT), the token and whether it may go
online at all (HF_HUB_OFFLINE). Only what `load_editor` reads is fetched, never the safety checker.
Every file grows under another name, goes on where it stopped, and gets its own name only when its
size and its hash are those of the hub; model_index.json comes last, so a folder that has one is
complete. Read `download_editor` first.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from ...errors import DownloadError, FreeStyleError
from ...progress import Progress, no_progress

REPOSITORY = "timbrooks/instruct-pix2pix"
INDEX = "model_index.json"  # fetched last
CONFIG_FILES = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    INDEX,
)
OPTIONAL_FILES = ("tokenizer/special_tokens_map.json",)
WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
SPARE_BYTES = 2**26  # left free on the disk
BLOCK = 2**22  # bytes hashed at once
MEGABYTE = 10**6


@dataclass(frozen=True)
class RemoteFile:
    """One file of the repository as the hub describes it."""

    name: str
    size: int  # bytes
    sha256: str | None  # of large files
    blob_id: str | None  # git's sha1, of all others


def download_editor(
    folder: Path,  # becomes the editor's folder
    *,
    repository: str = REPOSITORY,
    progress: Progress = no_progress,
) -> Path:
    """Fetch an editor into `folder` and return it; `progress` counts megabytes and may cancel.

    A later call goes on where an earlier one stopped, and does nothing when all is there.
    """
    return download_folder(folder, repository, needed_files, INDEX, progress)


def download_folder(
    folder: Path,
    repository: str,
    needed: Callable[[Sequence[RemoteFile]], list[RemoteFile]],  # of all files those to fetch
    last: str,  # the file that `needed` names last: a folder that has it is complete
    progress: Progress = no_progress,
) -> Path:
    """Fetch the `needed` files of a repository into `folder`, as `download_editor` does."""
    if (folder / last).is_file():
        return folder
    with _explained(repository, folder):
        revision, listed = _listing(repository)
        files = needed(listed)
        total = sum(file.size for file in files)
        _check_space(folder, total)
        before = 0
        for file in files:
            counted = _Counted(progress, before, total)
            fetch(folder, file, _address(repository, file.name, revision), counted)
            before += file.size
        for old in folder.rglob("*.part"):  # of versions that the hub has since replaced
            old.unlink()
    progress(*_megabytes(total, total))
    return folder


def needed_files(listed: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Return the files of an editor, half precision where it is offered, model_index.json last."""
    known = {file.name: file for file in listed}
    chosen = [name for name in OPTIONAL_FILES if name in known]
    for part, stem in WEIGHTS.items():
        names = [f"{part}/{stem}.fp16.safetensors", f"{part}/{stem}.safetensors"]
        chosen.append(next((name for name in names if name in known), names[-1]))
    chosen += CONFIG_FILES
    missing = [name for name in chosen if name not in known]
    if missing:
        raise DownloadError(f"the repository lacks {', '.join(missing)}")
    return [known[name] for name in chosen]


def fetch(folder: Path, file: RemoteFile, url: str, counted: _Counted) -> None:
    """Bring one file into `folder`, complete and verified, or leave a part to go on with."""
    target = folder / file.name
    mark = (file.sha256 or file.blob_id or "")[:12]  # a part belongs to one version of the file
    part = target.with_name(f"{target.name}.{mark}.part")
    if target.is_file() and verified(target, file):
        counted.add(file.size)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.is_file() else 0
    if have > file.size:
        part.unlink()
        have = 0
    counted.add(have)
    if have < file.size or not part.is_file():
        with part.open("ab") as out:
            _http_get(url, _Sink(out, counted), have, file.size)
    if not verified(part, file):
        part.unlink()
        raise DownloadError(
            f"{file.name} arrived damaged (its size or hash is not the hub's) and was deleted"
        )
    part.replace(target)


def verified(path: Path, file: RemoteFile) -> bool:
    """Return whether a file on disk has the size and the hash that the hub states."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256 is not None:
        return _digest(path, hashlib.sha256()) == file.sha256
    header = f"blob {file.size}\0".encode()  # what git hashes before the content
    return _digest(path, hashlib.sha1(header, usedforsecurity=False)) == file.blob_id


def _digest(path: Path, digest: Any) -> str:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


class _Counted:
    """Turns bytes of one file into progress of the whole."""

    def __init__(self, progress: Progress, before: int, total: int) -> None:
        self._progress, self._done, self._total = progress, before, total

    def add(self, count: int) -> None:
        self._done += count
        self._progress(*_megabytes(self._done, self._total))


class _Sink:
    """The open part of a file, as huggingface_hub writes to it; counts what it gets."""

    def __init__(self, file: BinaryIO, counted: _Counted) -> None:
        self._file, self._counted = file, counted

    def write(self, data: bytes) -> int:
        written = self._file.write(data)
        self._counted.add(len(data))
        return written

    def truncate(self) -> int:  # the server sends all of it again
        self._counted.add(-self._file.seek(0, 2))
        return self._file.truncate(0)

    def __getattr__(self, name: str) -> Any:  # seek, tell, name, ...
        return getattr(self._file, name)


def _megabytes(done: int, total: int) -> tuple[int, int]:
    whole = -(-total // MEGABYTE)
    return whole if done >= total else done // MEGABYTE, whole


# The hub -----------------------------------------------------------------------------------------


def _listing(repository: str) -> tuple[str, list[RemoteFile]]:
    """Return the newest revision of a repository and its files."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(repository, files_metadata=True)
    files = [
        RemoteFile(
            name=entry.rfilename,
            size=entry.size,
            sha256=None if entry.lfs is None else entry.lfs["sha256"],
            blob_id=entry.blob_id,
        )
        for entry in info.siblings or ()
        if entry.size is not None
    ]
    return cast(str, info.sha), files  # the hub always names one


def _address(repository: str, name: str, revision: str) -> str:
    from huggingface_hub import hf_hub_url

    return hf_hub_url(repository, name, revision=revision)


def _http_get(url: str, sink: _Sink, have: int, size: int) -> None:
    """Append the rest of a file to `sink`; huggingface_hub tries again when the line breaks."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    http_get(url, cast(BinaryIO, sink), resume_size=have, headers=headers, expected_size=size)


def _check_space(folder: Path, total: int) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    have = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(existing).free
    if free < total - have + SPARE_BYTES:
        raise DownloadError(
            f"{(total - have) // MEGABYTE} MB are needed there and {free // MEGABYTE} are free"
        )


@contextmanager
def _explained(repository: str, folder: Path) -> Iterator[None]:
    """Turn every failure into one line with the address and the target folder."""
    from huggingface_hub import constants

    try:
        yield
    except Exception as error:
        if not _is_ours(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        if constants.HF_HUB_OFFLINE:
            reason = "HF_HUB_OFFLINE is set"
        raise DownloadError(
            f"{repository} was not downloaded: {reason.rstrip('.;')}; run again to go on where it "
            f"stopped, or put the files of {constants.ENDPOINT}/{repository} into {folder}"
        ) from error


def _is_ours(error: Exception) -> bool:
    """Return whether an error comes from network, hub or disk; all others pass, as a cancel does.

    huggingface_hub's errors are OSErrors and ValueErrors; its HTTP library differs by version.
    """
    if isinstance(error, DownloadError):
        return True
    if isinstance(error, FreeStyleError):
        return False
    library = type(error).__module__.split(".")[0]
    return isinstance(error, (OSError, ValueError)) or library.startswith(("httpx", "httpcore"))
