"""The command line of the clay models, without any training."""

import pytest

from freestyle_core.clay import __main__ as command


@pytest.fixture
def assets(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "ASSETS", tmp_path / "assets")
    (tmp_path / "assets").mkdir()
    return tmp_path / "assets"


def test_install_takes_the_finished_parts_and_leaves_the_checkpoints(tmp_path, assets):
    models = tmp_path / "models"
    (models / "editor" / "unet").mkdir(parents=True)
    (models / "editor" / "unet" / "config.json").write_text("new")
    (models / "perceptual.safetensors").write_text("new")
    (models / "perceptual.checkpoint.pt").write_text("large")
    (assets / "perceptual.safetensors").write_text("old")
    (assets / "eg3d.safetensors").write_text("kept")
    command.install(models)
    found = {p.relative_to(assets).as_posix(): p.read_text() for p in assets.rglob("*.*")}
    assert found == {
        "editor/unet/config.json": "new",
        "perceptual.safetensors": "new",
        "eg3d.safetensors": "kept",  # nothing newer was trained
    }
