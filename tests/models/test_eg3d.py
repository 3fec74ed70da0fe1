"""The generator against the reference's numbers (limits: about ten times the rounding seen)."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from freestyle_core.errors import InputError, ShapeError
from freestyle_core.geometry.cameras import front_camera
from freestyle_core.method.render import RenderSettings, render_views
from freestyle_core.method.sample import latent, sample_portrait
from freestyle_core.models.config import EG3DConfig
from freestyle_core.models.eg3d import EG3D, EMPTY_DENSITY
from freestyle_core.models.layers import SynthesisLayer, modulated_conv
from freestyle_core.types import Portrait, Triplane


def test_full_size_generator_has_the_official_parameters():
    with torch.device("meta"):
        eg3d = EG3D(EG3DConfig())
    parameters, buffers = list(eg3d.parameters()), list(eg3d.buffers())
    assert (sum(p.numel() for p in parameters), len(parameters)) == (30_662_136, 132)
    # official snapshots also hold dataset_label_std [25], which no network reads
    assert (sum(b.numel() for b in buffers) + 25, len(buffers) + 1) == (831_049, 45)
    assert eg3d.config.num_ws == 14


@pytest.mark.parametrize("which", ["tiny", "cars"])
def test_state_dict_names_are_the_official_ones(which, request):
    model = request.getfixturevalue(which)
    fresh = EG3D(model.eg3d.config)
    missing, unexpected = fresh.load_state_dict(
        {**model.eg3d.state_dict(), "dataset_label_std": torch.zeros(25)}
    )
    assert not missing and not unexpected
    with pytest.raises(RuntimeError, match="another_buffer"):
        fresh.load_state_dict({**model.eg3d.state_dict(), "another_buffer": torch.zeros(1)})


@pytest.mark.parametrize(
    "name, psi, cutoff",
    [("ws_psi1", 1.0, None), ("ws_psi0.7_nocutoff", 0.7, None), ("ws_psi0.7_cut5", 0.7, 5)],
)
def test_mapping_matches_reference(tiny, name, psi, cutoff):
    label = tiny.io["c_cond"].expand(2, -1)
    got = tiny.eg3d.map(tiny.io["z"], label, psi=psi, cutoff=cutoff)
    assert_close(got, tiny.io[name], atol=1e-5, rtol=0)


def test_mapping_follows_the_camera_label(tiny):
    got = tiny.eg3d.map(tiny.io["z"], tiny.io["c"][1:2].expand(2, -1))
    assert_close(got, tiny.io["ws_psi1_cond_c1"], atol=1e-5, rtol=0)


def test_mapping_ignores_the_label_where_the_config_says_so(cars):
    got = [cars.eg3d.map(cars.io["z"], c[None], psi=0.7) for c in cars.io["c"]]
    assert_close(got[0], cars.io["ws_psi0.7"], atol=1e-5, rtol=0)
    assert_close(got[1], got[0], atol=0, rtol=0)


def test_psi_zero_gives_the_average(tiny):
    got = tiny.eg3d.map(tiny.io["z"], tiny.io["c_cond"].expand(2, -1), psi=0.0)
    assert_close(got, tiny.eg3d.backbone.mapping.w_avg.expand_as(got))


@pytest.mark.parametrize("noise", ["const", "none"])
def test_planes_match_reference(tiny, noise):
    for index, ws in enumerate(tiny.io["ws_psi0.7_cut5"]):
        expected = tiny.io.get(f"z{index}.planes_{noise}")
        if expected is not None:
            got = tiny.eg3d.planes(ws[None], noise=noise)
            assert got.shape == (1, 3, 32, 32, 32)
            assert_close(got.flatten(1, 2), expected, atol=1e-5, rtol=0)


def test_every_block_matches_reference(tiny):
    synthesis, ws = tiny.eg3d.backbone.synthesis, tiny.io["ws_psi0.7_cut5"][:1]
    x = image = None
    for step, resolution in enumerate(synthesis.resolutions):
        first = max(2 * step - 1, 0)
        block = getattr(synthesis, f"b{resolution}")
        x, image = block(x, image, ws[:, first : first + block.rows], "const")
        assert_close(x, tiny.io[f"z0.b{resolution}.x"], atol=1e-5, rtol=1e-5)
        assert_close(image, tiny.io[f"z0.b{resolution}.img"], atol=1e-5, rtol=1e-5)


def test_identities_made_together_equal_identities_made_alone(tiny):
    ws = tiny.io["ws_psi0.7_cut5"]
    alone = torch.cat([tiny.eg3d.planes(w[None]) for w in ws])
    assert_close(tiny.eg3d.planes(ws), alone, atol=1e-5, rtol=0)


def test_cars_planes_match_reference(cars):
    got = cars.eg3d.planes(cars.io["ws_psi0.7"])
    assert_close(got.flatten(1, 2), cars.io["planes_const"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("index", [0, 1])
def test_decoder_matches_reference_at_points(tiny, index):
    planes = tiny.eg3d.planes(tiny.io["ws_psi0.7_cut5"][index : index + 1])
    renderer = tiny.eg3d.renderer()
    density, colour = renderer.decode(planes, tiny.io["points"])
    # the reference's density row is 30 times larger than usual
    assert_close(density, tiny.io[f"z{index}.points_sigma"], atol=1e-4, rtol=0)
    assert_close(colour, tiny.io[f"z{index}.points_rgb"], atol=5e-6, rtol=0)
    alone = renderer.decode_density(planes, tiny.io["points"])
    assert_close(alone, density, atol=1e-4, rtol=0)


def test_density_is_empty_outside_the_box_only_if_asked(tiny):
    planes = tiny.eg3d.planes(tiny.io["ws_psi0.7_cut5"][:1])
    points = torch.tensor([[[0.49, 0.0, -0.49], [0.51, 0.0, 0.0], [0.0, 0.0, -0.6]]])
    renderer = tiny.eg3d.renderer()
    usual, colour = renderer.decode(planes, points)
    renderer.config = replace(renderer.config, empty_outside_box=True)
    emptied, same_colour = renderer.decode(planes, points)
    assert emptied[0, :, 0].tolist() == [usual[0, 0, 0].item(), EMPTY_DENSITY, EMPTY_DENSITY]
    assert_close(colour, same_colour, atol=0, rtol=0)


@pytest.mark.parametrize("name", ["frame.z0.c1.mid", "nrr8.z0.c1.mid", "nrr24.z0.c1.mid"])
def test_superresolution_matches_reference(tiny, name):
    w = tiny.io["ws_psi0.7_cut5"][:1]
    got = tiny.eg3d.renderer().superresolve(tiny.io[f"{name}.feature_image"], w)
    assert_close(got, tiny.io[f"{name}.image"], atol=2e-5, rtol=0)


def test_superresolution_2x_matches_reference_and_leaves_its_input_alone(cars):
    features = cars.io["fixed.c0.feature_image"].clone()
    got = cars.eg3d.renderer().superresolve(features, cars.io["ws_psi0.7"])
    assert_close(got, cars.io["fixed.c0.image"], atol=2e-5, rtol=0)
    # the reference adds to the raw image in place here; its true value must survive
    assert_close(features[:, :3], cars.io["fixed.c0.image_raw_true"], atol=0, rtol=0)


HALF = [torch.float16, torch.bfloat16]
PIXEL = 2 / 255  # images reach from -1 to 1


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", ["frame.z0.c1.mid", "frame.z1.c2.mid"])
def test_superresolution_in_half_precision_is_within_a_pixel_step(tiny, name, dtype):
    w = tiny.io["ws_psi0.7_cut5"][int(name[7]) :][:1]
    features = tiny.io[f"{name}.feature_image"]
    exact = tiny.eg3d.renderer().superresolve(features, w)
    half = tiny.eg3d.renderer().superresolve(features, w, dtype=dtype)
    assert half.dtype == torch.float32
    assert 0 < (half.clamp(-1, 1) - exact.clamp(-1, 1)).abs().mean() < PIXEL


@pytest.mark.parametrize("dtype", HALF)
def test_a_frame_from_a_half_precision_backbone_is_within_a_pixel_step(tiny, dtype):
    ws, camera = tiny.io["ws_psi0.7_cut5"][:1], tiny.cameras[1]
    images = []
    for kind in (None, dtype):
        planes = tiny.eg3d.planes(ws, dtype=kind)
        assert planes.dtype == torch.float32
        portrait = Portrait(tiny.eg3d.renderer(), Triplane(planes, 1.0), ws)
        settings = RenderSettings(precision=str(kind or torch.float32).removeprefix("torch."))
        images.append(render_views(portrait, camera, settings=settings).image)
    assert 0 < (images[0] - images[1]).abs().mean() < 1 / 255


@pytest.mark.parametrize("batch", [1, 2])
def test_float16_does_not_overflow_on_the_largest_activations(batch):
    x = torch.full((batch, 512, 4, 4), 256.0)  # the clamp
    weight, styles = torch.ones(8, 512, 3, 3), torch.full((batch, 512), 50.0)
    got = modulated_conv(x.half(), weight, styles)
    # every weight becomes 1 / sqrt(512 * 9) = 1 / 67.88; inside, 4608 products of 256
    assert got[0, 0, 1, 1].item() == pytest.approx(256 * 4608**0.5, rel=2e-3)


@pytest.mark.parametrize("kind, image", [("8XDC", 32), ("8X", 32), ("4X", 16), ("2X", 16)])
def test_every_superresolution_gives_the_size_of_the_config(small_config, kind, image):
    eg3d = EG3D(replace(small_config, superresolution=kind, image_resolution=image))
    features = torch.zeros(2, 5, 11, 11)
    out = eg3d.renderer().superresolve(features, torch.zeros(1, eg3d.config.num_ws, 8))
    assert out.shape == (2, 3, image, image)
    assert ("superresolution.resample_filter" in eg3d.state_dict()) == (kind != "8XDC")


@pytest.mark.parametrize("layer", ["block0.conv0", "block0.conv1", "block1.conv0", "block1.conv1"])
def test_superresolution_noise_is_added_where_the_config_has_it(small_config, layer):
    images = []
    for noise in ("none", "const"):
        torch.manual_seed(0)
        eg3d = EG3D(replace(small_config, sr_noise=noise))
        with torch.no_grad():
            eg3d.superresolution.get_submodule(layer).noise_strength.fill_(1.0)
            features = torch.rand(1, 5, 8, 8, generator=torch.Generator().manual_seed(1))
            images.append(eg3d.superresolution(features, torch.ones(1, 1, 8)))
    assert (images[0] - images[1]).abs().max() > 0.01


def test_everything_trains(small_config):
    torch.manual_seed(0)
    eg3d = EG3D(small_config)
    label = front_camera(small_config.rig()).label().expand(2, -1)
    ws = eg3d.map(torch.randn(2, 8), label)
    _, colour = eg3d.renderer().decode(eg3d.planes(ws), torch.rand(2, 64, 3) - 0.5)
    image = eg3d.renderer().superresolve(colour.transpose(1, 2).unflatten(2, (8, 8)), ws)
    image.square().mean().backward()
    silent = {n for n, p in eg3d.named_parameters() if p.grad is None}
    # super-resolution runs without noise, so its noise strengths have no effect
    assert silent == {n for n, _ in eg3d.named_parameters() if "noise" in n and "super" in n}
    assert all(p.grad.isfinite().all() for p in eg3d.parameters() if p.grad is not None)


def test_noise_image_can_become_a_parameter(small_config):
    eg3d = EG3D(small_config)
    for layer in eg3d.modules():
        if isinstance(layer, SynthesisLayer):
            noise = layer.noise_const
            del layer.noise_const
            layer.noise_const = torch.nn.Parameter(noise)
    with torch.no_grad():
        eg3d.backbone.synthesis.b16.conv1.noise_strength.fill_(1.0)
    eg3d.planes(torch.ones(1, small_config.num_ws, 8)).sum().backward()
    assert eg3d.backbone.synthesis.b16.conv1.noise_const.grad.abs().sum() > 0


def test_wrong_latent_size_says_what_was_expected(tiny):
    with pytest.raises(ShapeError, match=r"z \[B,32\]"):
        tiny.eg3d.map(torch.zeros(1, 31), torch.zeros(1, 25))


def test_sampled_portrait_is_the_reference_identity(tiny):
    z = torch.cat([latent(seed, 32) for seed in (0, 1)])
    assert_close(z, tiny.io["z"], atol=0, rtol=0)
    label = tiny.io["c_cond"]
    portrait = sample_portrait(tiny.eg3d, 1, psi=0.7, cutoff=5, label=label)
    assert_close(portrait.w, tiny.io["ws_psi0.7_cut5"][1:], atol=1e-5, rtol=0)
    assert_close(
        portrait.triplane.planes.flatten(1, 2), tiny.io["z1.planes_const"], atol=1e-5, rtol=0
    )
    assert portrait.provenance["seed"] == 1
    with pytest.raises(InputError, match="seed"):
        sample_portrait(tiny.eg3d, -1)


def test_config_survives_json_and_refuses_foreign_data(small_config):
    assert EG3DConfig.from_dict(small_config.to_dict()) == small_config
    with pytest.raises(InputError, match="wings"):
        EG3DConfig.from_dict({**small_config.to_dict(), "wings": 2})


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"plane_resolution": 48}, "power of two"),
        ({"image_resolution": 100}, "image_resolution"),
        ({"superresolution": "16X"}, "superresolution"),
        ({"ray_start": "auto"}, "ray_start"),
        ({"z_dim": 0}, "z_dim"),
        ({"plane_axes": ("xy", "xx", "zx")}, "plane_axes"),
    ],
)
def test_config_names_the_wrong_number(wrong, message):
    with pytest.raises(InputError, match=message):
        EG3DConfig(**wrong)


def test_official_arguments_become_the_config(tiny, cars):
    assert tiny.eg3d.config.superresolution == "8XDC"
    assert tiny.eg3d.config.sr_clamp == 256.0
    assert cars.eg3d.config.white_background and cars.eg3d.config.box_size == 1.6
    assert cars.eg3d.config.focal == 1.7074
    without_scale = {
        **tiny.init_kwargs,
        "rendering_kwargs": {
            k: v for k, v in tiny.init_kwargs["rendering_kwargs"].items() if k != "c_scale"
        },
    }
    assert EG3DConfig.from_official(without_scale).c_scale == 0  # official: a missing key is off
