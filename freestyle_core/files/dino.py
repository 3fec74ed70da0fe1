"""DINO ViT-S/16 from a folder or from the cache of the Hugging Face hub; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..errors import FileFormatError
from ..models.dino import Dino

AUTO = "auto"
REPOSITORY = "facebook/dino-vits16"  # Apache-2.0
NAME = "DINO ViT-S/16"
CONFIG = "config.json"


def load_dino(choice: Path | str = AUTO) -> Dino:
    """Return the network of a folder in transformers' layout, or the one in the hub's cache.

    It is frozen, in float32 on the CPU. Raises FileFormatError, which says where it is looked for.
    """
    source = str(choice)
    if source == AUTO:
        source, name = REPOSITORY, NAME
    elif not (Path(choice) / CONFIG).is_file():
        raise FileFormatError(
            f"{choice} is no folder of a vision transformer (it has no {CONFIG}); give one that "
            f"holds {REPOSITORY}"
        )
    else:
        name = f"ViT of {Path(choice).name}"
    model = _loaded(source)
    if model.config.model_type != "vit":
        raise FileFormatError(
            f"{choice} holds a {model.config.model_type!r}, not a vision transformer; give a "
            f"folder of {REPOSITORY}"
        )
    return Dino(model.float().eval().requires_grad_(False), name)


def _loaded(source: str) -> Any:
    from transformers import ViTModel

    try:
        with torch.inference_mode(False):
            return ViTModel.from_pretrained(
                source,
                local_files_only=True,
                use_safetensors=True,
                add_pooling_layer=False,
            )
    except Exception as error:  # a missing or a damaged model can raise anything
        if source == REPOSITORY:
            raise FileFormatError(
                f"no {NAME} lies in the cache of the Hugging Face hub; to get this score fetch "
                f"{REPOSITORY} there, or name its folder"
            ) from None
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FileFormatError(
            f"{source} cannot be read as a vision transformer ({reason}); fetch {REPOSITORY} again"
        ) from None
