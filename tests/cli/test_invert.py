"""`invert` end to end on a tiny generator."""

import pytest
import torch

from freestyle_core.__main__ import main
from freestyle_core.files.media.image import load_image, save_image
from freestyle_core.files.networks import save_eg3d, save_perceptual
from freestyle_core.files.portrait import load_portrait
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.method.render import render_views
from tests.tiny import tiny_eg3d, tiny_perceptual, tiny_portrait


@pytest.fixture
def folder(tmp_path):
    eg3d = tiny_eg3d()
    save_eg3d(tmp_path / "eg3d.safetensors", eg3d)
    save_perceptual(tmp_path / "perceptual.safetensors", tiny_perceptual().net)
    camera = orbit_cameras([10.0], [5.0], eg3d.config.rig())
    picture = render_views(tiny_portrait(eg3d, 5), camera).image[0]
    save_image(tmp_path / "head.png", picture)
    return tmp_path


def call(folder, *more):
    models = ["eg3d", "perceptual"]
    parts = [x for name in models for x in (f"--{name}", f"{folder}/{name}.safetensors")]
    short = ["--search-steps", "2", "--tune-steps", "3", "--device", "cpu"]
    return main(["invert", f"{folder}/head.png", *parts, *short, *more])


def test_a_picture_becomes_a_portrait_file_and_a_comparison(folder, capsys):
    out = folder / "made" / "p.safetensors"
    picture = folder / "sheet.png"
    pose = ["--yaw", "10", "--pitch", "5", "--seed", "3"]
    assert call(folder, *pose, "--out", str(out), "--picture", str(picture)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == [str(out), str(picture)] and "dB" in said[0]
    portrait = load_portrait(out)  # needs no generator
    settings = portrait.provenance["settings"]
    assert settings["seed"] == 3
    assert (settings["latent"]["steps"], settings["tune"]["steps"]) == (2, 3)
    camera = orbit_cameras([10.0], [5.0], portrait.renderer.config.rig())
    error = (render_views(portrait, camera).image[0] - load_image(folder / "head.png")).square()
    assert float(said[0].split()[-2]) == pytest.approx(
        float(-10 * torch.log10(error.mean())), abs=0.06
    )
    sheet = load_image(picture)
    assert sheet.shape[2] > 4 * sheet.shape[1]  # five views in a row


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--out", "p.glb"], "must end in .safetensors"),
        (["--picture", "p.jpg"], "must end in .png"),
        (["--tune-steps", "-1"], "steps cannot be negative"),
        (["--yaw", "nan"], "finite numbers"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(folder, more, message, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    before = sorted(p.name for p in folder.iterdir())
    assert call(folder, *more) == 2
    assert message in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == before


def test_a_picture_that_is_not_square_is_refused_before_any_work(folder, capsys):
    save_image(folder / "head.png", torch.rand(3, 20, 16))
    assert call(folder, "--out", str(folder / "p.safetensors")) == 2
    assert "crop it to the head" in capsys.readouterr().err
