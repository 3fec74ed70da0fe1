"""The root of the repository, which ComfyUI imports as the pack."""

import importlib.util
import inspect
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_importing_the_root_loads_nothing_and_offers_an_entry_point():
    spec = importlib.util.spec_from_file_location("the_pack", ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    before = set(sys.modules)
    spec.loader.exec_module(module)
    assert set(sys.modules) == before
    assert inspect.iscoroutinefunction(module.comfy_entrypoint)
    assert not hasattr(module, "NODE_CLASS_MAPPINGS")  # it would hide the entry point
    assert (ROOT / module.WEB_DIRECTORY / "docs").is_dir()


def test_few_files_know_devices_progress_and_folders():
    known = {"comfy", "folder_paths", "server", "torch"}
    for path in (ROOT / "nodes").glob("*.py"):
        words = {
            line.split()[1].split(".")[0]
            for line in path.read_text().splitlines()
            if line.startswith(("import ", "from "))
        }
        few = {
            "adapt.py",
            "comfy_editor.py",
            "editors.py",
            "folders.py",
            "heap.py",
            "words.py",
            "memory.py",
            "running.py",
        }
        assert path.name in few or not words & known, path.name


def test_the_oldest_supported_comfyui_is_tested_too():
    """Where COMFYUI_08_PATH names one, every test of the server runs once more on that."""
    folder = os.environ.get("COMFYUI_08_PATH")
    if not folder:
        pytest.skip("the oldest supported ComfyUI is not tested; set COMFYUI_08_PATH to a 0.8")
    found = re.search(r'__version__ = "([\d.]+)"', Path(folder, "comfyui_version.py").read_text())
    supported = re.search(r'requires-comfyui = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert found[1] == supported[1]
