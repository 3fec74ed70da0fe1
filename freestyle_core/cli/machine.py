"""What a record says of the machine: versions, and the memory that a run took."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

import torch

from .. import __version__

PACKAGES = ("torch", "numpy", "diffusers", "transformers", "safetensors", "av", "trimesh")


def versions() -> dict[str, str]:
    """Return the versions of this program, Python, the system and the main packages."""
    found = {
        "freestyle": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def peak_memory_mb(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return the largest memory that this process has held so far, and what it had on the card.

    None where nobody can tell.
    """
    peak: dict[str, Any] = {"process": None, "cuda": None}
    try:
        import resource  # not on Windows
    except ImportError:
        pass
    else:
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # bytes on macOS, kibibytes elsewhere
        peak["process"] = round(used / (2**20 if sys.platform == "darwin" else 2**10))
    if torch.device(device).type == "cuda":
        peak["cuda"] = round(torch.cuda.max_memory_allocated(device) / 2**20)
    return peak
