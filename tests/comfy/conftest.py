"""Fixtures: the real ComfyUI, when this machine has one, with this pack installed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from freestyle_core.files.bundle import weights_hash
from freestyle_core.files.networks import save_eg3d, save_i2t
from freestyle_core.files.style_pack import save_style_pack
from tests.comfy.browser import FIRST_FRONTEND, Browser, open_browser
from tests.comfy.client import Server, start_server
from tests.official_pickle import write_official
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_pack
from tests.tiny_editor import save_tiny_editor

PACK = Path(__file__).parents[2]
PACK_NAME = "FreeStyle3D"
NEEDED = ("torch", "torchsde", "aiohttp", "av", "diffusers", "trimesh", "skimage")


def comfy_folder(variable: str = "COMFYUI_PATH") -> Path:
    """Return ComfyUI's folder: the one the variable names, else ~/comfy/ComfyUI; skip without."""
    folder = Path(os.environ.get(variable, Path.home() / "comfy" / "ComfyUI"))
    if not (folder / "main.py").is_file():
        pytest.skip(f"no ComfyUI at {folder}; set {variable} to its folder")
    return folder


def comfy_python(folder: Path) -> str:
    """Return an interpreter with ComfyUI's and this pack's requirements; skip without one.

    Tried in turn: COMFYUI_PYTHON, the one running the tests, a venv in or beside ComfyUI.
    """
    named = os.environ.get("COMFYUI_PYTHON")
    places = [folder / ".venv", folder / "venv", folder.parent / "venv"]
    found = [place / part for place in places for part in ("bin/python", "Scripts/python.exe")]
    tried = [named] if named else [sys.executable, *map(str, filter(Path.is_file, found))]
    check = f"import importlib.util as u; assert all(u.find_spec(n) for n in {NEEDED!r})"
    for python in tried:
        if subprocess.run([python, "-c", check], capture_output=True).returncode == 0:
            return python
    pytest.skip(f"none of {tried} has all of {NEEDED}; set COMFYUI_PYTHON to one that has")


def install_pack(base: Path) -> None:
    """Put this pack into a base directory: a link, or a copy where links are not allowed."""
    (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
    target = base / "custom_nodes" / PACK_NAME
    try:
        target.symlink_to(PACK, target_is_directory=True)
    except OSError:
        shutil.copytree(PACK, target, ignore=shutil.ignore_patterns(".git", "__pycache__"))


def add_models(base: Path) -> None:
    """Put a tiny EG3D, its I2T, an editor and a style pack into the user's folders, untrained."""
    eg3d = tiny_eg3d()
    save_eg3d(base / "models" / "eg3d" / "tiny.safetensors", eg3d)
    write_official(base / "models" / "eg3d" / "official.pkl", tiny_eg3d(seed=5))
    trained_on = weights_hash(eg3d.state_dict())
    save_i2t(base / "models" / "i2t" / "tiny.safetensors", tiny_i2t(), eg3d=trained_on)
    save_tiny_editor(base / "models" / "diffusers" / "tiny-editor")
    save_style_pack(base / "output" / "tiny_style.safetensors", tiny_pack(eg3d))


def add_roots(base: Path) -> Path:
    """Give EG3D models and editors a second root folder; return the yaml file that names them."""
    parts = ("eg3d", "diffusers")
    for part in parts:
        (base / "more_models" / part).mkdir(parents=True)
    path = base / "more_models.yaml"
    lines = ["more:", "  base_path: more_models", *(f"  {part}: {part}" for part in parts)]
    path.write_text("\n".join(lines))
    return path


def add_probe(base: Path) -> None:
    """Put the pack of probe.py beside ours."""
    folder = base / "custom_nodes" / "freestyle_probe"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("probe.py"), folder / "__init__.py")


VERSIONS = {"today": "COMFYUI_PATH", "0.8": "COMFYUI_08_PATH"}
TESTED = [name for name in VERSIONS if name == "today" or os.environ.get(VERSIONS[name])]


@pytest.fixture(scope="session", params=TESTED)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The running server, shared by all tests of this folder.

    Where COMFYUI_08_PATH names a ComfyUI 0.8, every test runs once more on that.
    """
    folder = comfy_folder(VERSIONS[request.param])
    python = comfy_python(folder)
    base = tmp_path_factory.mktemp("comfy")
    install_pack(base)
    add_models(base)
    add_probe(base)
    roots = add_roots(base)
    running = start_server(folder, python, base, "--extra-model-paths-config", str(roots))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def page(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The frontend of the server in a browser; the pictures of a test lie in its folder.

    BROWSER_SHOTS names another folder. Not for the whole session: playwright's loop runs as long.
    """
    if server.version() < FIRST_FRONTEND:
        pytest.skip(f"ComfyUI {server.version()}'s frontend is older than these tests")
    shots = Path(os.environ.get("BROWSER_SHOTS") or tmp_path_factory.mktemp("browser"))
    with open_browser(server, shots) as made:
        yield made


@pytest.fixture
def browser(page: Browser) -> Iterator[Browser]:
    """The browser; a test fails that leaves it with a complaint about this pack."""
    page.complaints.clear()
    yield page
    assert page.complaints == []
