"""The editors that Load Ip2p Editor offers, and where each lies. Read `editor_choices`."""

from pathlib import Path

import comfy.model_management as mm
import comfy.sd1_clip
import torch

from ..freestyle_core.files.editors.download import REPOSITORY, download_editor
from ..freestyle_core.files.editors.load import load_editor
from ..freestyle_core.models.editor import Editor
from . import adapt
from .folders import EDITOR, EMBEDDED_CHOICE

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
    return [*adapt.model_choices(EDITOR), DOWNLOAD_CHOICE]


def load_choice(choice: str, precision: str, node_id: str) -> Editor:
    """Return the editor behind one of `editor_choices`, downloaded first where that is asked."""
    return load_editor(
        editor_path(choice, node_id), dtype=number_format(choice, precision), tokenizer=TOKENIZER
    )


def editor_path(choice: str, node_id: str) -> Path:
    """Return the folder or file behind a choice; the node shows the download's progress."""
    if choice == DOWNLOAD_CHOICE:
        folder = adapt.model_folders("diffusers")[0] / REPOSITORY.split("/")[1]
        progress = adapt.NodeProgress(node_id, "downloading, MB")
        return download_editor(folder, progress=progress)
    return adapt.model_path(EDITOR, choice)


def number_format(choice: str, precision: str) -> torch.dtype:
    """Return the number format to load in; auto: half on a GPU that is good at it.

    The embedded editor is so small that halving it would save nothing worth a rounding error.
    """
    if precision in PRECISIONS:
        return PRECISIONS[precision]
    device = mm.get_torch_device()
    if choice == EMBEDDED_CHOICE or device.type == "cpu":
        return torch.float32
    if mm.should_use_fp16(device):
        return torch.float16
    return torch.bfloat16 if mm.should_use_bf16(device) else torch.float32
