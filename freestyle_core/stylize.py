"""Moved to `method/stylize.py`; this old name stays for one release."""

from .method.stylize import StylizeSettings
from .method.stylize import stylize_views as stylize

__all__ = ["StylizeSettings", "stylize"]
