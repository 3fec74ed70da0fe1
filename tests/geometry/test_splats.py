"""Splats on pictures: closed forms, a slow loop, gradients, and half a turn."""

import math

import pytest
import torch

from freestyle_core.errors import ShapeError
from freestyle_core.geometry.splats import (
    FAINTEST,
    LOW_PASS,
    MOST_OPAQUE,
    render_splats,
    rotation_matrices,
    turning_z_to,
    upside_down,
)
from freestyle_core.types import CameraBatch, Splats
from tests.spheres import RIG, row

SIZE = 16
PIXELS = RIG.focal * SIZE / RIG.radius  # of a scene unit at the pivot


def splats_at(positions, scales=0.05, opacities=0.8, colors=0.5, rotations=(1.0, 0.0, 0.0, 0.0)):
    positions = torch.as_tensor(positions, dtype=torch.float64)
    count = len(positions)

    def filled(values, *shape):
        return torch.as_tensor(values, dtype=torch.float64).expand(count, *shape).clone()

    return Splats(
        positions,
        filled(scales, 3),
        filled(rotations, 4),
        filled(opacities),
        filled(colors, 3),
    )


def camera(yaw=0.0, pitch=0.0):
    one = row(yaw, pitch=pitch)
    return CameraBatch(one.cam_to_world.double(), one.intrinsics.double())


def test_a_round_splat_is_a_gaussian_of_its_size_in_pixels():
    shown = render_splats(splats_at([[0.0, 0.0, 0.0]]), camera(), SIZE, background=0.0)
    centres = torch.arange(SIZE, dtype=torch.float64) + 0.5 - SIZE / 2
    square = centres[:, None] ** 2 + centres**2
    expected = 0.8 * torch.exp(-square / 2 / ((0.05 * PIXELS) ** 2 + LOW_PASS))
    expected[expected < FAINTEST] = 0
    torch.testing.assert_close(shown.alpha[0], expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(shown.image, expected.expand(3, -1, -1) / 2, atol=1e-6, rtol=1e-5)
    assert float(shown.most) == pytest.approx(float(expected.max()), rel=1e-5)


def test_what_is_in_front_hides_what_is_behind_in_any_order():
    # at the middle of four pixels: both have exp(-1/4 / variance) of their opacity there
    colors = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]], dtype=torch.float64)
    behind_first = splats_at([[0, 0, -0.2], [0, 0, 0.2]], opacities=[0.9, 0.5], colors=colors)
    pictures = [
        render_splats(behind_first.part(torch.tensor(order)), camera(), SIZE).image
        for order in ((0, 1), (1, 0))
    ]
    torch.testing.assert_close(pictures[0], pictures[1])

    def opacity(distance, own):
        variance = (0.05 * RIG.focal * SIZE / distance) ** 2 + LOW_PASS
        return own * math.exp(-0.25 / variance)

    front, back = opacity(RIG.radius - 0.2, 0.5), opacity(RIG.radius + 0.2, 0.9)
    rest = (1 - front) * (1 - back)
    wanted = [(1 - front) * back + rest, front + rest, rest]  # on white
    middle = pictures[0][:, SIZE // 2, SIZE // 2]
    torch.testing.assert_close(middle, torch.tensor(wanted, dtype=torch.float64), rtol=1e-6, atol=0)


def some_splats(count=12):
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape):
        return torch.rand(count, *shape, generator=generator, dtype=torch.float64)

    return Splats(
        (drawn(3) - 0.5) * 0.4,
        0.02 + 0.08 * drawn(3),
        torch.nn.functional.normalize(drawn(4) - 0.5, dim=-1),
        0.3 + 0.6 * drawn(),
        drawn(3),
    )


def test_pictures_are_those_of_a_slow_loop():
    splats, seen = some_splats(), camera(20.0, 10.0)
    matrix, k = seen.cam_to_world[0], seen.intrinsics[0]
    turned = rotation_matrices(splats.rotations)
    found = []
    for i in range(len(splats)):
        x, y, z = matrix[:3, :3].T @ (splats.positions[i] - matrix[:3, 3])
        fx, fy = k[0, 0] * SIZE, k[1, 1] * SIZE
        u, v = fx * x / z + SIZE / 2, fy * y / z + SIZE / 2
        j = torch.stack([fx / z, 0 * z, -fx * x / z**2, 0 * z, fy / z, -fy * y / z**2]).view(2, 3)
        world = turned[i] @ torch.diag(splats.scales[i] ** 2) @ turned[i].T
        flat = j @ matrix[:3, :3].T @ world @ matrix[:3, :3] @ j.T + LOW_PASS * torch.eye(2)
        found.append((float(z), torch.stack([u, v]), flat.inverse(), i))
    expected = torch.ones(3, SIZE, SIZE, dtype=torch.float64)
    for down in range(SIZE):
        for right in range(SIZE):
            left, colour = 1.0, torch.zeros(3, dtype=torch.float64)
            for _, centre, inverse, i in sorted(found, key=lambda one: one[0]):
                off = torch.tensor([right + 0.5, down + 0.5], dtype=torch.float64) - centre
                alpha = float(splats.opacities[i] * torch.exp(-off @ inverse @ off / 2))
                alpha = min(alpha, MOST_OPAQUE)
                if alpha >= FAINTEST:
                    colour, left = colour + left * alpha * splats.colors[i], left * (1 - alpha)
            expected[:, down, right] = colour + left
    shown = render_splats(splats, seen, SIZE).image
    torch.testing.assert_close(shown, expected, atol=1.5e-3, rtol=0)  # what lies behind LEFT


def test_every_number_of_a_splat_has_its_gradient():
    splats = some_splats(3)
    names = ("positions", "scales", "rotations", "opacities", "colors")
    weights = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def loss(*values):
        return (render_splats(Splats(*values), camera(5.0), 8).image * weights).sum()

    values = [getattr(splats, name).requires_grad_() for name in names]
    assert torch.autograd.gradcheck(loss, values, eps=1e-6, atol=1e-4)
    loss(*values).backward()
    assert all(float(value.grad.abs().max()) > 0 for value in values)


def test_what_is_behind_the_camera_or_beside_the_picture_is_not_seen():
    away = splats_at([[0, 0, 5.0], [3.0, 0, 0], [0, 0, 0]], opacities=[0.9, 0.9, 0.001])
    shown = render_splats(away, camera(), SIZE, background=0.25)
    assert torch.equal(shown.image, torch.full_like(shown.image, 0.25))
    assert torch.equal(shown.most, torch.zeros(3, dtype=torch.float64))


def test_one_camera_at_a_time():
    with pytest.raises(ShapeError, match="one camera at a time, got 2"):
        render_splats(some_splats(), row(0.0, 10.0), SIZE)


def test_quaternions_turn_the_z_axis_to_a_direction():
    directions = torch.tensor([[0, 0, 1.0], [0, 0, -1.0], [1, 0, 0], [0, -1, 0], [0.6, 0, -0.8]])
    turns = turning_z_to(directions)
    torch.testing.assert_close(turns.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(rotation_matrices(turns)[:, :, 2], directions)


def test_half_a_turn_about_x_shows_the_same_from_a_turned_camera():
    splats, seen = some_splats(), camera(20.0, 10.0)
    half = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    turned = CameraBatch(half @ seen.cam_to_world, seen.intrinsics)
    pictures = [
        render_splats(splats, seen, SIZE).image,
        render_splats(upside_down(splats), turned, SIZE).image,
    ]
    torch.testing.assert_close(pictures[0], pictures[1])
    torch.testing.assert_close(upside_down(upside_down(splats)).positions, splats.positions)
