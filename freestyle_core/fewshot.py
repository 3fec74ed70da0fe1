"""Moved to `method/fewshot.py`; this old name stays for one release."""

from .method.fewshot import check_few_shot, few_shot_set

__all__ = ["check_few_shot", "few_shot_set"]
