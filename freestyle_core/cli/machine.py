"""What a record says of the machine: versions, and the memory that a run took."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
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


def hardware() -> dict[str, Any]:
    """Return what computes here: processor, cores, threads that PyTorch uses, memory, card."""
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": memory,
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def commit() -> str:
    """Return the commit of this clone, with a plus where files differ from it; else "unknown"."""
    folder = Path(__file__).resolve().parent
    try:
        found = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found + ("+" if changed else "")


def _git(folder: Path, *words: str) -> str:
    asked = ["git", "-C", str(folder), *words]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
