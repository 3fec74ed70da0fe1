"""Moved to `method/mix.py`; this old name stays for one release."""

from .method.mix import mix_portraits as mix
from .method.mix import mix_sweep

__all__ = ["mix", "mix_sweep"]
