"""The import order of the library, and a few rules that keep it safe and readable."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "freestyle_core"
LAYERS = (
    ("checks", "errors", "interrupts", "progress", "time_left", "types"),
    ("geometry",),
    ("models",),
    ("files",),
    ("training",),
    ("method",),
    ("pretrain", "visualize"),
    ("pipeline", "cli", "clay", "__main__"),
)
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


def level_of(name):
    for level, names in enumerate(LAYERS):
        if name in names:
            return level
    raise AssertionError(f"{name} has no layer; add it to LAYERS")


def part_of(path):
    """Return the name under freestyle_core that a file belongs to: `render`, `geometry`, ..."""
    first = path.relative_to(CORE).parts[0]
    return first.removesuffix(".py")


def imported_parts(path):
    """Yield what a file imports from inside the library, as part names."""
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
    assert {part_of(p) for p in SOURCES} >= {"errors", "geometry", "models", "files", "method"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(CORE)))
def test_imports_only_go_down(path):
    part = part_of(path)
    if part == "__init__":
        assert not list(imported_parts(path))
        return
    for other in imported_parts(path):
        assert level_of(other) <= level_of(part), f"{path} imports {other}, which is above it"
        if part == "method":
            assert other != "files", f"{path} reads files; that is for the pipeline"


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
