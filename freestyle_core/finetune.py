"""Moved to `method/finetune.py`; this old name stays for one release."""

from .method.finetune import FinetuneResult, FinetuneSettings
from .method.finetune import finetune_portraits as finetune

__all__ = ["FinetuneResult", "FinetuneSettings", "finetune"]
