"""Training the clay EG3D: where its points lie, what its losses ask, how it ends."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from freestyle_core.clay.data.shards import VIEWS, cameras_at
from freestyle_core.clay.train import eg3d as training
from freestyle_core.clay.train.eg3d import (
    BOX_SAMPLES,
    CONFIG,
    HELD_OUT,
    PIXELS,
    STEP_LENGTH,
    feature_views,
    finished,
    held_out_psnr,
    image_batch,
    image_losses,
    new_generator,
    parameter_groups,
    point_batch,
    point_losses,
    train_eg3d,
)
from freestyle_core.method.render import march, render, sample_rays
from freestyle_core.seeds import step_generator
from freestyle_core.training.loop import TrainSettings
from freestyle_core.types import Triplane

TRAINED = 2  # heads


def made_up(alpha=255, depth=2.7, size=128):
    """Heads of flat pictures: brightness 10 x view + head, everything at one depth."""
    heads = TRAINED + HELD_OUT
    levels = 10 * torch.arange(VIEWS) + torch.arange(heads)[:, None]
    image = levels.byte()[..., None, None, None].expand(heads, VIEWS, 3, size, size)
    flat = torch.ones(1).expand(heads, VIEWS, 1, size, size)
    points = torch.rand(heads, 4096, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    return {
        "z": torch.arange(heads)[:, None].expand(heads, 64).float() + 1,
        "view": torch.zeros(heads, VIEWS, 2),
        "image": image,
        "alpha": (flat * alpha).byte(),
        "depth": (flat * depth).half(),
        "points": points.half(),
        "distance": points[..., 0].half(),
    }


@pytest.mark.parametrize(("alpha", "depth"), [(255, 2.7), (0, CONFIG.ray_end)])
def test_points_lie_at_behind_just_before_and_anywhere_before_the_surface(alpha, depth):
    batch = point_batch(made_up(alpha), 3, step_generator(0, 0))
    assert torch.equal(batch["solid"], torch.full((3, PIXELS), alpha / 255))
    pixels = batch["points"][:, : 4 * PIXELS].unflatten(1, (4, PIXELS))
    # view (0, 0) stands at z = 2.7 and looks at the origin
    along = (pixels - torch.tensor([0.0, 0.0, 2.7])).norm(dim=-1)
    at, behind, near, front = along.unbind(1)
    depth = float(torch.tensor(depth).half()) if alpha else depth
    assert at.mean() == pytest.approx(depth, abs=1e-3)
    assert at.std() == pytest.approx(0.004, rel=0.1)
    for values, low, high in (
        (behind, depth + 0.004, depth + 0.034),
        (near, depth - 0.036, depth - 0.006),
        (front, CONFIG.ray_start, depth - 0.006),
    ):
        assert low - 1e-3 < values.min() < low + 0.02 * (high - low) + 1e-3
        assert high - 0.05 * (high - low) - 1e-3 < values.max() < high + 1e-3
    # the points of a pixel lie on its ray
    directions = torch.nn.functional.normalize(pixels - torch.tensor([0.0, 0.0, 2.7]), dim=-1)
    assert_close(directions, directions[:, :1].expand_as(directions), atol=1e-4, rtol=0)


def test_box_points_have_their_own_distance_and_the_surface_is_drawn_more_often():
    data = made_up()
    batch = point_batch(data, 4, step_generator(0, 0))
    box = batch["points"][:, 4 * PIXELS :]
    assert box.shape == (4, BOX_SAMPLES, 3)
    assert torch.equal(box[..., 0], batch["distance"])
    # a tenth of the 4096 points lie within 0.05 and count nine times; 512 are drawn, none twice:
    # 410 (1 - e^-9t) + 3686 (1 - e^-t) = 512 at t = 0.0835, where 217 of the first are drawn
    near = (batch["distance"].abs() < 0.05).float().mean()
    assert near == pytest.approx(0.42, abs=0.03)


def test_pixels_of_the_head_and_its_edges_are_drawn_more_often():
    data = made_up()
    half = data["alpha"].clone()
    half[..., 64:] = 0
    batch = point_batch(data | {"alpha": half}, 8, step_generator(0, 0))
    # odds 3.5 : 0.5 without any edges in the picture
    assert batch["solid"].mean() == pytest.approx(7 / 8, abs=0.02)
    assert_close(batch["color"][:, :, 0], batch["color"][:, :1, 2].expand(8, PIXELS))


def test_batches_are_of_training_heads_and_of_the_view_around_half_as_often():
    batch = image_batch(made_up(size=1), 4000, step_generator(0, 0))
    level = (batch["image"][:, 0, 0, 0] * 255).round().int()
    head, view = level % 10, level // 10
    assert set(head.tolist()) == set(range(TRAINED))  # the other 50 are held out
    assert torch.equal(head + 1, batch["z"][:, 0].int())
    share = torch.bincount(view, minlength=VIEWS) / 4000
    assert_close(share, torch.tensor([1, 1, 1, 1, 0.5]) / 4.5, atol=0.025, rtol=0)
    assert len(batch["cameras"]) == 4000 and batch["alpha"].min() == 1


def raw_of(alpha):
    """Return the raw density whose opacity over STEP_LENGTH is alpha."""
    density = -math.log(1 - alpha) / STEP_LENGTH
    return 1 + math.log(math.expm1(density))


def test_point_losses_of_known_opacities_and_colours():
    pixels = 4  # two of them solid
    at, behind, near, front, box = (
        torch.full((1, pixels), raw_of(a)) for a in (0.5, 0.8, 0.3, 0.1, 0.6)
    )
    behind[0, 2:], near[0, 2:] = raw_of(0.5), raw_of(0.5)  # of no pixel that is solid
    front[0, 3] = raw_of(0.2)
    raw = torch.cat([at, behind, near, front, box], dim=1)[..., None]
    colors = torch.zeros(1, 5 * pixels, 3)
    colors[:, :2], colors[:, pixels : pixels + 2] = 0.5, 0.2  # errors 0.2 and 0.1
    colors[:, 2:4] = 9.0  # not solid
    stub = SimpleNamespace(
        map=lambda z, c: z,
        planes=lambda ws: ws,
        renderer=lambda: SimpleNamespace(decode=lambda planes, points: (raw, colors)),
    )
    batch = {
        "z": torch.zeros(1, 64),
        "points": torch.zeros(1, 5 * pixels, 3),
        "solid": torch.tensor([[1.0, 1.0, 0.0, 0.0]]),
        "color": torch.full((1, pixels, 3), 0.3),
        "distance": torch.tensor([[-0.01, 0.0, 0.01, 0.02]]),
    }
    losses = point_losses(stub, batch)
    got = {name: value.item() for name, value in losses.items()}
    assert got == pytest.approx(
        {
            "color": 10 * (0.2 + 0.5 * 0.1),
            "inside": -0.5 * math.log(0.8),
            "near": -0.5 * math.log(0.7),
            "front": -0.5 * (3 * math.log(0.9) + math.log(0.8)) / 4,
            "box_in": -0.3 * math.log(0.6),
            "box_out": -0.3 * math.log(0.4),
        },
        rel=1e-4,
    )


@pytest.fixture(scope="module")
def generator():
    return new_generator(0)


def test_image_losses_of_known_errors(generator):
    z, cameras = torch.ones(1, 64), cameras_at(torch.zeros(1, 2))
    with torch.no_grad():
        ws = generator.map(z, z.new_zeros(1, 25))
        triplane = Triplane(generator.planes(ws), CONFIG.box_size)
        out = render(generator.renderer(), triplane, ws, cameras)
        alpha = out.alpha.repeat_interleave(2, 2).repeat_interleave(2, 3)
        batch = {"z": z, "cameras": cameras, "image": out.image + 0.1, "alpha": alpha - 0.05}
        losses = image_losses(generator, batch)
        small = torch.nn.functional.avg_pool2d(batch["image"], 2)
    assert losses["image"].item() == pytest.approx(10 * 0.1, rel=1e-3)
    assert losses["edges"].item() == pytest.approx(0, abs=1e-4)
    assert losses["alpha"].item() == pytest.approx(2 * 0.05, rel=1e-3)
    off = out.raw - small
    assert losses["raw"].item() == pytest.approx(10 * off.abs().mean().item(), rel=1e-3)
    steps = off.diff(dim=-1).abs().mean() + off.diff(dim=-2).abs().mean()
    assert losses["raw_edges"].item() == pytest.approx(10 * steps.item(), rel=1e-3)


def test_every_weight_is_trained_once_at_the_rate_of_its_kind(generator):
    groups = parameter_groups(generator, superresolution=3.0)
    rates = {id(p): group["scale"] for group in groups for p in group["params"]}
    named = dict(generator.named_parameters())
    assert sum(len(group["params"]) for group in groups) == len(rates) == len(named)
    kinds = {
        "noise_const": 4.0,
        "noise_strength": 0.3,
        "torgb.bias": 0.4,
        "conv1.weight": 1.0,
        "conv1.bias": 1.0,
    }
    seen = set()
    for name, p in named.items():
        factor = 3.0 if name.startswith("superresolution") else 1.0
        for ending, scale in kinds.items():
            if name.endswith(ending):
                assert rates[id(p)] == pytest.approx(scale * factor), name
                seen.add(ending)
        if name.endswith("affine.weight"):
            assert rates[id(p)] == pytest.approx(factor * 8)  # sqrt(64)
        if ".mapping.fc" in name and name.endswith("weight"):
            assert rates[id(p)] == pytest.approx(0.4 * 100 * math.sqrt(p.shape[1]))
        if name.endswith("torgb.weight"):
            assert rates[id(p)] == pytest.approx(0.4 * factor * math.sqrt(p.shape[1]))
    assert seen == set(kinds)


def test_training_starts_with_half_the_noise_and_no_look_at_the_camera(generator):
    noise = [p for name, p in generator.named_parameters() if name.endswith("noise_const")]
    assert noise and max(len(p) for p in noise) == CONFIG.plane_resolution
    assert torch.cat([p.flatten() for p in noise]).std().item() == pytest.approx(0.5, rel=0.02)
    z, label = torch.ones(1, 64), torch.arange(25.0)[None]
    with torch.no_grad():
        assert_close(generator.map(z, label), generator.map(z, 0 * label))


def test_held_out_heads_are_the_last_ones(generator):
    data = made_up()
    with torch.no_grad():
        scores = []
        for head in (-2, -1):
            z = data["z"][head][None]
            ws = generator.map(z, z.new_zeros(1, 25))
            planes = Triplane(generator.planes(ws), CONFIG.box_size)
            image = render(generator.renderer(), planes, ws, cameras_at(torch.zeros(1, 2))).image
            truth = data["image"][head, :1].float() / 255
            scores.append(-10 * torch.log10((image.clamp(0, 1) - truth).square().mean()).item())
    got = held_out_psnr(generator, data, 2)
    assert got == pytest.approx(sum(scores) / 2, rel=1e-4)


def test_a_finished_generator_is_the_trained_one_in_its_public_form(generator):
    made = finished(generator, 7)
    assert not any("parametrizations" in name for name in made.state_dict())
    assert not any(p.requires_grad for p in made.parameters()) and not made.training
    z = torch.randn(4096, 64, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        ws = generator.map(z, z.new_zeros(len(z), 25))
        assert_close(made.backbone.mapping.w_avg, ws[:, 0].mean(0))
        planes = generator.planes(ws[:1])
        assert_close(made.planes(ws[:1]), planes)
        points = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
        for got, expected in zip(
            made.renderer().decode(planes, points),
            generator.renderer().decode(planes, points),
            strict=True,
        ):
            assert_close(got, expected)


def test_density_learns_ten_times_as_fast_as_colour():
    """A step on the stored weights moves the density row by ten, the others by one."""
    layer = new_generator(0).decoder.net[2]
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.parametrizations.weight.original.add_(0.01)
    moved = layer.weight.detach() - before
    assert_close(moved[0], torch.full_like(moved[0], 0.1), atol=1e-5, rtol=0)
    assert_close(moved[1:], torch.full_like(moved[1:], 0.01), atol=1e-5, rtol=0)


def test_features_are_those_of_the_view_they_are_sharpened_to(generator):
    data = made_up()
    made = feature_views(generator, data, 2)
    assert made["features"].shape == (2, CONFIG.feature_channels, 64, 64)
    level = int(made["image"][1, 0, 0, 0])
    z = data["z"][level % 10][None]
    with torch.no_grad():
        ws = generator.map(z, z.new_zeros(1, 25))
        assert_close(made["w"][1], ws[0])
        rays = sample_rays(CONFIG, cameras_at(torch.zeros(1, 2)))
        planes = generator.planes(ws)
        features, _, _ = march(generator.renderer(), planes, rays, CONFIG.importance_samples)
    expected = features[0].T.reshape(-1, 64, 64)
    assert_close(made["features"][1].float(), expected, atol=2e-3, rtol=2e-3)


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    torch.save(made_up(), tmp_path / "heads_0000.pt")
    monkeypatch.setattr(training, "held_out_psnr", lambda average, data: 0.0)
    one = {
        name: TrainSettings(steps=1, batch_size=1, seed=seed)
        for seed, name in enumerate(("points", "images", "sharp"))
    }

    def train(folder):
        return train_eg3d(tmp_path, tmp_path / folder, **one, threads=1).state_dict()

    whole = train("whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "image_losses", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        train("parts")
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == ["eg3d_points.pt"]
    parts = train("parts")
    start = finished(new_generator(0), 0).state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    changed = {name.split(".")[0] for name in whole if not torch.equal(whole[name], start[name])}
    assert changed == {"backbone", "decoder", "superresolution"}
