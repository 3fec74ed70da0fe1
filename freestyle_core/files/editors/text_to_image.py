"""Text-to-image teachers: Stable Diffusion folders in diffusers' layout, or an editor's folder.

An InstructPix2Pix editor serves with its image left out, as the embedded one does. Read by the same
rules as editors: safetensors only, sizes checked before memory is taken, nothing looked up online
unless a download is asked for.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ...errors import FileFormatError, InputError
from ...models.text_to_image import Suits, TextToImage
from ...progress import Progress, no_progress
from .download import download_editor
from .load import PIPELINE, SUITS_KEY, check_complete, folder_parts, read_index

CLAY = "clay"  # the embedded editor
CLAY_FOLDER = Path(__file__).parents[2] / "assets" / "clay" / "editor"
# what the released DreamFusion code offers, by the hub's names
REPOSITORIES = {
    "SD 2.1 base": "stabilityai/stable-diffusion-2-1-base",
    "SD 1.5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
}
PIPELINES = ("StableDiffusionPipeline", PIPELINE)


def load_text_to_image(
    path: Path | str = CLAY,  # a folder in diffusers' layout, or "clay"
    *,
    dtype: torch.dtype = torch.float32,
    download: str = "",  # a name of REPOSITORIES, or a repository, fetched into `path` if missing
    progress: Progress = no_progress,  # of the download
) -> TextToImage:
    """Return a text-to-image model in number format `dtype`, on the CPU, for inference.

    Raises FileFormatError for a folder that holds none, DownloadError when it cannot be fetched.
    """
    folder = CLAY_FOLDER if path == CLAY else Path(path)
    if download:
        repository = REPOSITORIES.get(download, download)
        if "/" not in repository:
            raise InputError(
                f"download must be one of {', '.join(REPOSITORIES)} or a repository such as "
                f"owner/name, got {download!r}"
            )
        download_editor(folder, repository=repository, progress=progress)
    # networks made in inference mode could never be moved between number formats
    with torch.inference_mode(False):
        suits = _suits(folder)
        return TextToImage(**folder_parts(folder, dtype), suits=suits)


def _suits(folder: Path) -> Suits:
    """Raise unless `folder` holds a text-to-image model; return what it can be asked for."""
    example = REPOSITORIES["SD 1.5"]
    if not folder.is_dir():
        raise FileFormatError(
            f"there is no text-to-image folder {folder}; give a folder in diffusers' layout, such "
            f"as {example}, or {CLAY!r}"
        )
    check_complete(folder, "a text-to-image model", example)
    index = read_index(folder)
    name = index.get("_class_name", PIPELINES[0])
    if name not in PIPELINES:
        raise FileFormatError(
            f"{folder.name} holds a {name}, expected {' or '.join(PIPELINES)}; choose a Stable "
            "Diffusion 1 or 2"
        )
    try:
        return Suits.from_record(index.get(SUITS_KEY, {}))
    except InputError as error:
        raise FileFormatError(
            f"{folder.name} says of itself under {SUITS_KEY} what cannot be used ({error}); "
            "download it again"
        ) from error
