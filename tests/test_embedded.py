"""The embedded clay models: present, small, and as good as their model card says, with a margin."""

import json

import av
import pytest
import torch
import trimesh
from scipy.ndimage import gaussian_filter
from skimage.color import hsv2rgb, rgb2hsv

from freestyle_core.__main__ import main
from freestyle_core.clay.__main__ import models_in
from freestyle_core.clay.draw import draw, styled_head
from freestyle_core.clay.evaluate import (
    FIRST_SEED,
    code_of_seed,
    measure_eg3d,
    measure_i2t,
    measure_vae,
)
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.clay.train.editor import GUIDANCE, build_networks
from freestyle_core.clay.train.eg3d import CONFIG as EG3D_CONFIG
from freestyle_core.clay.train.i2t import CONFIG as I2T_CONFIG
from freestyle_core.clay.train.vae import build_vae
from freestyle_core.files.networks import ASSETS, PARTS, embedded
from freestyle_core.geometry.cameras import front_camera
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.method.stylize import stylize_views


@pytest.fixture(scope="module")
def models():
    return models_in(ASSETS)


def test_the_command_trains_networks_of_the_shipped_sizes(models):
    assert models.eg3d.config == EG3D_CONFIG and models.i2t.config == I2T_CONFIG
    sizes = [tuple(p.shape) for p in build_vae().parameters()]
    assert sizes == [tuple(p.shape) for p in models.editor.vae.parameters()]
    assert models.editor.guidance == GUIDANCE
    networks = build_networks(embedded("editor") / "tokenizer")
    for name in ("unet", "text_encoder"):
        made, shipped = (
            {key: tuple(value.shape) for key, value in network.state_dict().items()}
            for network in (networks[name], getattr(models.editor, name))
        )
        assert made == shipped


def test_all_parts_are_there_within_the_size_promised():
    for part in PARTS:
        assert embedded(part).exists(), part
    size = sum(path.stat().st_size for path in ASSETS.rglob("*") if path.is_file())
    assert size < 60e6


def test_generator_draws_the_procedural_head_of_its_code(models):
    scores = measure_eg3d(models, identities=4, views=2)
    assert scores["psnr_db"] > 19  # 21 on the model card
    assert scores["depth_error_median"] < 0.02  # scene units


def test_vae_keeps_pictures(models):
    scores = measure_vae(models, identities=4)
    assert scores["plain_psnr_db"] > 22
    assert scores["styled_psnr_db"] > 20


def test_i2t_predicts_the_generators_planes(models):
    assert measure_i2t(models, identities=3, grid=2)["psnr_db"] > 20


@pytest.mark.parametrize("style", ["gold", "Hulk", "devil", "Na'vi"])
def test_editor_moves_a_head_towards_the_style_asked_for(models, style):
    front = front_camera(models.eg3d.config.rig())
    source = render_views(sample_portrait(models.eg3d, FIRST_SEED), front).image
    edited = stylize_views(models.editor, source, style)
    with torch.no_grad():
        truth = draw(styled_head(code_of_seed(FIRST_SEED), STYLES[style]), front)[0]
    # at least halfway from the plain head to the true restyled one
    assert (edited - truth).abs().mean() < 0.6 * (source - truth).abs().mean()


def test_perceptual_features_mind_a_wrong_colour_more_than_a_soft_picture(models):
    """Else a portrait fitted to soft edits takes a wrong hue to get their grain (eq. 5)."""
    codes = torch.stack([code_of_seed(FIRST_SEED + i) for i in range(3)])
    front = front_camera(models.eg3d.config.rig())
    heads = [draw(styled_head(code, STYLES["gold"]), front)[0] for code in codes]
    image = torch.cat(heads)
    soft = gaussian_filter(image.numpy(), (0, 0, 1, 1))  # one pixel
    hsv = rgb2hsv(image.permute(0, 2, 3, 1).numpy())
    hsv[..., 0] = (hsv[..., 0] + 30 / 360) % 1
    turned = torch.from_numpy(hsv2rgb(hsv)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        by_blur = models.perceptual(image, torch.from_numpy(soft))
        by_hue = models.perceptual(image, turned)
    assert (by_hue > 2.5 * by_blur).all(), (by_hue, by_blur)


def test_portrait_command_writes_everything(tmp_path):
    out = tmp_path / "run"
    small = ["--views", "2", "--steps", "4", "--iterations", "6", "--frames", "8"]
    assert main(["portrait", "a bronze statue", *small, "--out", str(out), "--device", "cpu"]) == 0
    names = {path.name for path in out.iterdir()}
    assert names == {
        "turntable.mp4",
        "edited.png",
        "front.png",
        "views.png",
        "mesh.glb",
        "portrait.safetensors",
        "run.json",
    }
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["settings"]["prompts"] == ["a bronze statue"]
    with av.open(str(out / "turntable.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 8
    mesh = trimesh.load(out / "mesh.glb", force="mesh")
    assert len(mesh.faces) > 1000
    # the saved portrait renders again
    saved, picture = str(out / "portrait.safetensors"), str(tmp_path / "again.png")
    assert main(["render", saved, "--out", picture]) == 0
    # and is measured, with the views that the run kept and the head made again from its seed
    scores = tmp_path / "scores.json"
    assert (
        main(["evaluate", saved, "--clip", "none", "--json", str(scores), "--device", "cpu"]) == 0
    )
    measured = json.loads(scores.read_text(encoding="utf-8"))["scores"]
    assert 0.005 < measured["warp_short_rmse"] < measured["warp_long_rmse"] < 0.15
    assert measured["consistency_gain"] > 0.8 and 1 < measured["roughness"] < 30
    assert measured["edit_fidelity"] > 0.001
