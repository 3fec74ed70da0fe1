"""Small embedded models and small runs for the commands."""

from dataclasses import replace

import pytest

from freestyle_core import presets
from freestyle_core.cli import pictures
from freestyle_core.cli.commands import mesh as mesh_command
from freestyle_core.files.bundle import weights_hash
from freestyle_core.files.networks import save_eg3d, save_i2t, save_perceptual
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_perceptual
from tests.tiny_editor import save_tiny_editor


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with one tiny model of each part, and a foreign generator and I2T."""
    folder = tmp_path_factory.mktemp("models")
    eg3d = tiny_eg3d()
    save_eg3d(folder / "eg3d.safetensors", eg3d)
    own = weights_hash(eg3d.state_dict())
    save_i2t(folder / "i2t.safetensors", tiny_i2t(), eg3d=own)
    save_eg3d(folder / "other_eg3d.safetensors", tiny_eg3d(seed=9))
    save_i2t(folder / "wide_i2t.safetensors", tiny_i2t(plane_channels=6), eg3d=own)
    save_perceptual(folder / "perceptual.safetensors", tiny_perceptual().net)
    save_tiny_editor(folder / "editor")
    return folder


@pytest.fixture
def portrait_args(models, tmp_path):
    """Arguments of the smallest portrait run."""
    return [
        "portrait",
        "an elf",
        "--eg3d",
        f"{models}/eg3d.safetensors",
        "--i2t",
        f"{models}/i2t.safetensors",
        "--editor",
        f"{models}/editor",
        "--perceptual",
        f"{models}/perceptual.safetensors",
        "--views",
        "2",
        "--steps",
        "2",
        "--iterations",
        "2",
        "--frames",
        "3",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "out"),
    ]


@pytest.fixture(scope="module", autouse=True)
def small_results():
    """Write small pictures and meshes, at a level that the densities of untrained planes reach."""
    patch = pytest.MonkeyPatch()
    patch.setattr(pictures, "WATCHABLE_PIXELS", 64)
    patch.setattr(presets, "DEFAULT", replace(presets.DEFAULT, resolution=24))
    settings = mesh_command.MeshSettings
    for module in (mesh_command, presets):
        patch.setattr(module, "MeshSettings", lambda **given: settings(**{**given, "level": 0.35}))
    yield
    patch.undo()
