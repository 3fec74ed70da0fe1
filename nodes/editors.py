"""The editors that Load Ip2p Editor offers, and where each lies. Read `editor_choices`."""

import os
from functools import cache
from pathlib import Path

import comfy.model_management as mm
import comfy.sd1_clip
import folder_paths
import torch

from ..freestyle_core.errors import FileFormatError
from ..freestyle_core.files.editors.checkpoint import EDITOR_CHANNELS, SUFFIXES, input_channels
from ..freestyle_core.files.editors.download import REPOSITORY, download_editor
from ..freestyle_core.files.editors.load import load_editor
from ..freestyle_core.models.editor import Editor
from . import adapt

DOWNLOAD_CHOICE = f"download {REPOSITORY}"
PRECISIONS = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
AUTO = "auto"
TOKENIZER = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"  # ComfyUI's copy of CLIP's


def editor_choices() -> list[str]:
    """Return the embedded editor, folders, checkpoints that are editors, and the download."""
    return [*adapt.model_choices("editor"), *editor_checkpoints(), DOWNLOAD_CHOICE]


def editor_checkpoints() -> list[str]:
    """Return the checkpoints whose U-Net takes a second picture, known from their headers."""
    found = []
    for name in folder_paths.get_filename_list("checkpoints"):
        path = folder_paths.get_full_path("checkpoints", name)
        if path is not None and name.endswith(SUFFIXES):
            stat = os.stat(path)
            if _channels(path, stat.st_mtime_ns, stat.st_size) == EDITOR_CHANNELS:
                found.append(name)
    return sorted(found)


@cache
def _channels(path: str, changed: int, size: int) -> int | None:
    """Return what the header says; asked again only when the file is another."""
    return input_channels(Path(path))


def load_choice(choice: str, precision: str, node_id: str) -> Editor:
    """Return the editor behind one of `editor_choices`, downloaded first where that is asked."""
    return load_editor(
        editor_path(choice, node_id), dtype=number_format(choice, precision), tokenizer=TOKENIZER
    )


def editor_path(choice: str, node_id: str) -> Path:
    """Return the folder or file behind a choice; the node shows the download's progress."""
    if choice == DOWNLOAD_CHOICE:
        folder = Path(folder_paths.get_folder_paths("diffusers")[0]) / REPOSITORY.split("/")[1]
        progress = adapt.NodeProgress(node_id, "downloading, MB")
        return download_editor(folder, progress=progress)
    if not choice.endswith(SUFFIXES):
        return adapt.model_path("editor", choice)
    path = folder_paths.get_full_path("checkpoints", choice)
    if path is None:
        raise FileFormatError(
            f"no checkpoint {choice!r} in ComfyUI's models/checkpoints folder; put it there and "
            "press R, or choose the embedded editor"
        )
    return Path(path)


def number_format(choice: str, precision: str) -> torch.dtype:
    """Return the number format to load in; auto: half on a GPU that is good at it.

    The embedded editor is so small that halving it would save nothing worth a rounding error.
    """
    if precision in PRECISIONS:
        return PRECISIONS[precision]
    device = mm.get_torch_device()
    if choice == adapt.EMBEDDED_CHOICE or device.type == "cpu":
        return torch.float32
    if mm.should_use_fp16(device):
        return torch.float16
    return torch.bfloat16 if mm.should_use_bf16(device) else torch.float32
