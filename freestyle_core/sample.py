"""Moved to `method/sample.py`; this old name stays for one release."""

from .method.sample import MAX_SEED, latent, sample_portrait

__all__ = ["MAX_SEED", "latent", "sample_portrait"]
