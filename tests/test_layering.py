"""The import order of the library, and a few rules that keep it safe and readable."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "freestyle_core"
# from the ground up: a room may import what lies on a lower floor, and nothing of its own floor
FLOORS = (
    ("checks", "errors", "heap", "interrupts", "progress", "seeds", "time_left", "types"),
    ("geometry",),
    ("models",),
    ("training", "metrics", "files", "photo"),
    ("method",),
    ("visualize",),
    ("pretrain", "baselines", "kept_edits", "packs"),
    ("pipeline",),
    ("presets",),
    ("budget", "restyle"),
    ("evaluation", "batch"),
    ("cli",),
    ("clay",),
    ("__main__", "__init__"),
)
GROUND = FLOORS[0]  # small enough to know each other
FORBIDDEN = {("method", "files"): "whoever calls a step reads and writes"}
MOVED = ("sample", "render", "stylize", "fewshot", "finetune", "mix", "mesh")  # re-exports
NOT_FOR_NODES = {"cli", "batch", "clay", "__main__"}
HOST_MODULES = {
    "comfy",
    "comfy_api",
    "comfy_extras",
    "comfy_execution",
    "folder_paths",
    "server",
    "nodes",
    "execution",
}
SOURCES = sorted(CORE.rglob("*.py"))


def floor_of(name):
    for floor, names in enumerate(FLOORS):
        if name in names:
            return floor
    raise AssertionError(f"{name} has no floor; add it to FLOORS")


def room_of(path):
    """Return the room that a file belongs to: its folder, or the file itself on the top floor."""
    first = path.relative_to(CORE).parts[0]
    return first.removesuffix(".py")


def imported_rooms(path):
    """Yield what a file imports from inside the library, as names of rooms."""
    package = path.relative_to(CORE).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - (node.level - 1)]
        assert node.level - 1 <= len(package), f"{path}: import from above the library"
        target = (*base, *(node.module.split(".") if node.module else ()))
        if target:
            yield target[0]
        else:
            yield from (alias.name for alias in node.names if alias.name != "__version__")


def absolute_imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def test_the_sources_are_found():
    assert {room_of(p) for p in SOURCES} >= {"errors", "geometry", "models", "files", "method"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CORE)))
def test_imports_only_go_down(path):
    room = room_of(path)
    if room in MOVED:
        assert set(imported_rooms(path)) == {"method"}
        return
    for other in set(imported_rooms(path)) - {room}:
        assert other not in MOVED, f"{path} imports {other} from where it was"
        below = floor_of(other) < floor_of(room) or (room in GROUND and other in GROUND)
        assert below, f"{path} imports {other}, which is not below it"
        assert (room, other) not in FORBIDDEN, f"{path}: {FORBIDDEN[room, other]}"


def test_nodes_use_the_library_and_no_command_line():
    for path in sorted((ROOT / "nodes").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            module = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom) and module.startswith("freestyle_core"):
                rooms = set(module.split(".")[1:2]) or {alias.name for alias in node.names}
                assert not rooms & {*NOT_FOR_NODES, *MOVED}, f"{path} imports {rooms}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CORE)))
def test_no_host_program_no_pickle_no_print(path):
    tree = ast.parse(path.read_text())
    roots = {name.split(".")[0] for name in absolute_imports(tree)}
    assert not roots & HOST_MODULES
    assert not roots & {"pickle", "dill", "marshal", "shelve"}
    assert "freestyle_core" not in roots, "inside the library imports are relative"
    prints = path.name != "__main__.py"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        assert name not in {"eval", "exec"} and not (prints and name == "print")
        if name == "torch.load":
            assert any(
                k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords
            ), f"{path}: torch.load may execute code"


def test_python_files_are_ascii_and_short():
    for path in [*SOURCES, *(ROOT / "nodes").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        text = path.read_bytes()
        assert text.isascii(), f"{path} has a character outside ASCII"
        assert text.count(b"\n") <= 400 or "tests" in path.parts, f"{path} is over 400 lines"


def loaded_modules(statement):
    script = f"import sys\n{statement}\nsys.stdout.write('\\n'.join(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in run.stdout.split()}


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_modules("import freestyle_core")
    assert not loaded & {"torch", "diffusers", "transformers", "numpy", *HOST_MODULES}


def test_the_command_line_starts_without_torch():
    loaded = loaded_modules("import freestyle_core.__main__")
    assert not loaded & {"torch", "diffusers", "transformers", *HOST_MODULES}


def test_rendering_needs_no_diffusion_library():
    names = ["method.sample", "method.finetune", "method.mix", "method.mesh", "files.portrait"]
    loaded = loaded_modules("\n".join(f"import freestyle_core.{name}" for name in names))
    assert "torch" in loaded
    assert not loaded & {"diffusers", "transformers", *HOST_MODULES}


def test_the_embedded_models_need_no_second_of_preparation():
    # torch loads sympy when it makes networks without memory, for files that may claim any size
    load = "import freestyle_core.files.networks as n\nfor part in ('eg3d', 'i2t', 'perceptual'):\n"
    loaded = loaded_modules(load + "    getattr(n, f'load_{part}')(n.embedded(part))")
    assert "torch" in loaded
    assert not loaded & {"sympy", *HOST_MODULES}
