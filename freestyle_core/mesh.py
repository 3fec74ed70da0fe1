"""Moved to `method/mesh.py`; this old name stays for one release."""

from .method.mesh import MeshSettings, extract_mesh

__all__ = ["MeshSettings", "extract_mesh"]
