"""Moved to `method/render.py`; this old name stays for one release."""

from .method.render import RenderSettings, render, render_views

__all__ = ["RenderSettings", "render", "render_views"]
