"""The root of the repository, which ComfyUI imports as the pack."""

import importlib.util
import inspect
import sys
from pathlib import Path

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
        few = {"adapt.py", "memory.py", "running.py", "editors.py", "comfy_editor.py"}
        assert path.name in few or not words & known, path.name
