"""Moved to `method/sample.py`; this old name stays for one release."""

from .method.sample import latent, sample_portrait
from .seeds import MAX_SEED

__all__ = ["MAX_SEED", "latent", "sample_portrait"]
