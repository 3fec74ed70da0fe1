"""What a command does not load: start-up is most of what the small commands do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DIFFUSION = {"diffusers", "transformers", "huggingface_hub"}
MESHES = {"trimesh", "skimage", "scipy"}
PICTURES = {"av", "PIL"}
FOREIGN = {"lpips", "torchvision", "matplotlib", "torch._dynamo"}
MISTAKES = {
    "info": ["none.safetensors"],
    "convert": ["none.pkl", "out.safetensors"],
    "photo": ["none.jpg", "an elf", "--device", "cpu"],
    "render": ["none.safetensors", "--device", "cpu"],
    "mesh": ["none.safetensors", "--device", "cpu"],
    "splat": ["none.safetensors", "--device", "cpu"],
    "evaluate": ["none.safetensors", "--device", "cpu"],
    "invert": ["none.png", "--device", "cpu"],
    "mix": ["none", "none", "--device", "cpu"],
    "pretrain": ["--eg3d", "none.safetensors", "--device", "cpu"],
    "portrait": [""],
    "bench": ["--repeats", "0", "--device", "cpu"],
    "ablate": ["--methods", "none", "--device", "cpu"],
    "batch": ["none.toml", "--device", "cpu"],
    "style": ["apply", "none.safetensors", "--device", "cpu"],
}
# by command: what no run of it may have loaded when it tells that its file is missing
NOT_LOADED = {
    "info": DIFFUSION | MESHES | PICTURES | FOREIGN,
    "convert": DIFFUSION | MESHES | PICTURES | FOREIGN,
    "render": DIFFUSION | MESHES | FOREIGN,
    "mesh": DIFFUSION | {"av"} | FOREIGN,
    "splat": DIFFUSION | {"av"} | FOREIGN,
    "evaluate": DIFFUSION | FOREIGN,
    "invert": DIFFUSION | MESHES | {"av"} | FOREIGN,
    "photo": DIFFUSION | FOREIGN,
    "mix": DIFFUSION | FOREIGN,
    "pretrain": DIFFUSION | MESHES | {"av"} | FOREIGN,
    "portrait": DIFFUSION | FOREIGN,  # loaded with the editor, after all mistakes are told
    "bench": DIFFUSION | FOREIGN,
    "ablate": DIFFUSION | FOREIGN,
    "batch": DIFFUSION | FOREIGN,
    "style": DIFFUSION | FOREIGN,
}
# one line for each command: its code and the modules that are loaded; torch only once for all
LOADED = """
import os, sys
from freestyle_core.__main__ import main
for line in sys.stdin.read().splitlines():
    if line == "torch":
        import torch
        continue
    sys.stdout.flush()
    if os.fork() == 0:
        try:
            main(line.split("\\t"))
        except SystemExit:
            pass
        with open(sys.argv[1], "a") as log:
            log.write(" ".join(sys.modules) + "\\n")
        os._exit(0)
    os.wait()
"""


def loaded_by(tmp_path, *lines):
    """Return the modules that each command line has loaded when it ends."""
    log = tmp_path / "loaded"
    subprocess.run(
        [sys.executable, "-c", LOADED, str(log)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
    )
    return [set(line.split()) for line in log.read_text().splitlines()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks to load torch once only")
def test_a_command_loads_only_what_it_needs(tmp_path):
    calls = ["\t".join([command, *MISTAKES[command]]) for command in NOT_LOADED]
    for command, loaded in zip(NOT_LOADED, loaded_by(tmp_path, "torch", *calls), strict=True):
        assert f"freestyle_core.cli.commands.{command}" in loaded
        assert not loaded & NOT_LOADED[command], command


@pytest.mark.skipif(not hasattr(os, "fork"), reason="as above")
def test_help_and_mistakes_of_arguments_load_nothing(tmp_path):
    helps = [f"{command}\t--help" for command in NOT_LOADED]
    found = loaded_by(tmp_path, "--help", "--version", "paint", "mesh\t--level\tx", *helps)
    assert len(found) == 4 + len(helps)
    for loaded in found:
        assert not loaded & (DIFFUSION | MESHES | PICTURES | FOREIGN | {"torch", "numpy"})
