"""Cameras against EG3D's samplers, and true angles about the pivot."""

import math

import pytest
import torch
from torch.testing import assert_close

from freestyle_core.errors import InputError
from freestyle_core.geometry.cameras import (
    eg3d_look_at,
    front_camera,
    grid_cameras,
    intrinsics_matrix,
    orbit_cameras,
    turntable_cameras,
    viewer_camera,
    with_front,
)
from freestyle_core.types import CameraRig

RIG = CameraRig(radius=2.7, pivot=(0.0, 0.0, 0.2), focal=4.2647)


def angles(cameras, rig=RIG):
    """Return yaw and pitch in degrees and the distance, all measured about the pivot."""
    offset = cameras.cam_to_world[:, :3, 3].double() - torch.tensor(rig.pivot).double()
    distance = offset.norm(dim=-1)
    yaw = torch.rad2deg(torch.atan2(offset[:, 0], offset[:, 2]))
    return yaw, torch.rad2deg(torch.asin(offset[:, 1] / distance)), distance


def test_eg3d_look_at_matches_reference(golden_cameras):
    expected = golden_cameras["lookat.cam2world_r2.7"]
    for row, matrix in zip(golden_cameras["lookat.h_v_pivot"], expected, strict=True):
        got = eg3d_look_at(row[:1], row[1:2], radius=2.7, pivot=row[2:].tolist())
        assert_close(got[0], matrix, atol=3e-6, rtol=0)


def test_eg3d_samplers_match_reference_through_the_same_draws(golden_cameras):
    half = math.pi / 2
    for kind, draw in (("gaussian", lambda d: d), ("uniform", lambda d: 2 * d - 1)):
        h, v = (draw(golden_cameras[f"{kind}.draws_{k}"][:, 0].double()) for k in "hv")
        got = eg3d_look_at(h * 0.3 + half, v * 0.155 + half, radius=2.7, pivot=(0, 0, 0))
        expected = golden_cameras[f"{kind}.std0.3_0.155.cam2world_r2.7"]
        assert_close(got, expected, atol=5e-6, rtol=0)


def test_focal_lengths_match_reference(golden_cameras):
    for fov in (12, 18, 18.837, 45):
        expected = golden_cameras[f"intrinsics.fov{fov}"]
        # EG3D's field of view is the diagonal one, with sqrt(2) rounded
        focal = 1 / (math.tan(math.radians(fov) / 2) * 1.414)
        assert_close(intrinsics_matrix(focal)[0], expected, atol=1e-4, rtol=1e-5)


def test_front_camera_is_eg3ds():
    expected = eg3d_look_at([math.pi / 2], [math.pi / 2], radius=2.7, pivot=RIG.pivot)
    assert_close(front_camera(RIG).cam_to_world, expected, atol=1e-6, rtol=0)
    assert_close(expected[0, :3, 3], torch.tensor([0.0, 0.0, 2.7]), atol=1e-6, rtol=0)
    # it looks along -z, its x axis points right (+x) and its y axis down (-y)
    axes = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    assert_close(expected[0, :3, :3], axes, atol=1e-6, rtol=0)


def test_orbit_angles_are_true_angles_about_the_pivot():
    yaw, pitch = torch.tensor([30.0, -170.0, 0.0]), torch.tensor([20.0, -45.0, 80.0])
    cameras = orbit_cameras(yaw, pitch, RIG)
    got_yaw, got_pitch, distance = angles(cameras)
    assert_close(got_yaw.float(), yaw, atol=1e-3, rtol=0)
    assert_close(got_pitch.float(), pitch, atol=1e-3, rtol=0)
    assert_close(distance.float(), torch.full((3,), 2.5), atol=1e-5, rtol=0)
    forward = cameras.cam_to_world[:, :3, 2]
    middle = cameras.cam_to_world[:, :3, 3] + 2.5 * forward
    assert_close(middle, torch.tensor(RIG.pivot).expand(3, 3), atol=1e-5, rtol=0)


def test_rotations_are_proper_and_upright():
    rotation = orbit_cameras([0.0, 77.0, -130.0], [0.0, 40.0, -60.0], RIG).cam_to_world[:, :3, :3]
    identity = torch.eye(3).expand(3, 3, 3)
    assert_close(rotation @ rotation.transpose(1, 2), identity, atol=1e-6, rtol=0)
    assert_close(torch.linalg.det(rotation), torch.ones(3), atol=1e-6, rtol=0)
    assert (rotation[:, 1, 1] < 0).all()  # the image's y axis points down
    assert_close(rotation[:, 1, 0], torch.zeros(3), atol=1e-6, rtol=0)  # no roll


def test_positive_yaw_is_plus_x_and_positive_pitch_is_up():
    x, y, _ = orbit_cameras([10.0], [10.0], RIG).cam_to_world[0, :3, 3]
    assert x > 0.3 and y > 0.3


def test_pole_is_refused():
    with pytest.raises(InputError, match="pitch"):
        orbit_cameras([0.0], [90.0], RIG)


def test_grid_has_the_front_view_first_and_inclusive_ends():
    cameras = grid_cameras(3, RIG, yaw_range_deg=30, pitch_range_deg=20)
    yaw, pitch, _ = angles(cameras)
    assert_close(yaw, torch.tensor([0, *[-30, 0, 30] * 3]).double(), atol=1e-4, rtol=0)
    expected = torch.tensor([0, 20, 20, 20, 0, 0, 0, -20, -20, -20]).double()
    assert_close(pitch, expected, atol=1e-4, rtol=0)
    assert len(grid_cameras(10, RIG)) == 101
    assert_close(cameras[0].cam_to_world, front_camera(RIG).cam_to_world)
    with pytest.raises(InputError):
        grid_cameras(0, RIG)


def test_turntables():
    yaw, pitch, _ = angles(turntable_cameras(4, RIG, kind="orbit"))
    assert_close(yaw.remainder(360), torch.tensor([0.0, 90, 180, 270]).double(), atol=1e-4, rtol=0)
    yaw, _, _ = angles(turntable_cameras(4, RIG, kind="sweep", yaw_range_deg=40))
    assert_close(yaw, torch.tensor([0.0, 40, 0, -40]).double(), atol=1e-4, rtol=0)
    yaw, _, _ = angles(turntable_cameras(3, RIG, kind="sweep", yaw_range_deg=40, loop=False))
    assert_close(yaw, torch.tensor([-40.0, 0, 40]).double(), atol=1e-4, rtol=0)
    yaw, pitch, _ = angles(turntable_cameras(4, RIG, kind="ellipse", pitch_range_deg=12))
    assert_close(yaw, torch.tensor([0.0, 30, 0, -30]).double(), atol=1e-4, rtol=0)
    assert_close(pitch, torch.tensor([12.0, 0, -12, 0]).double(), atol=1e-4, rtol=0)
    assert len(turntable_cameras(1, RIG, loop=False)) == 1
    with pytest.raises(InputError, match="spiral"):
        turntable_cameras(4, RIG, kind="spiral")


@pytest.mark.parametrize("frames", [8, 72, 73])
def test_turntables_loop_without_a_jump(frames):
    for kind in ("sweep", "ellipse", "orbit"):
        for easing in ("smooth", "even"):
            cameras = turntable_cameras(frames, RIG, kind=kind, easing=easing)
            place = cameras.cam_to_world[:, :3, 3]
            steps = (place.roll(-1, 0) - place).norm(dim=1)
            # the closing step is no longer than the longest of the others
            assert steps[-1] <= steps[:-1].max() + 1e-6


def test_easing_sets_the_angle_of_each_frame():
    def yaw_of(kind, easing):
        return angles(turntable_cameras(8, RIG, kind=kind, yaw_range_deg=20, easing=easing))[0]

    # even: 20 * (0, 1/2, 1, 1/2, 0, -1/2, -1, -1/2)
    expected = torch.tensor([0, 10, 20, 10, 0, -10, -20, -10]).double()
    assert_close(yaw_of("sweep", "even"), expected, atol=1e-4, rtol=0)
    # smooth: 20 sin 45 = 14.142 at the odd frames
    near = 14.1421
    expected = torch.tensor([0, near, 20, near, 0, -near, -20, -near]).double()
    assert_close(yaw_of("sweep", "smooth"), expected, atol=1e-4, rtol=0)
    # slow ends at phase 1/8: 3/64 - 2/512 = 0.04297 of a turn = 15.469 degrees, half-way 180
    slow = yaw_of("orbit", "slow ends")
    assert_close(slow[1].item(), 15.46875, atol=1e-4, rtol=0)
    assert_close(abs(slow[4].item()), 180.0, atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="smooth, even, slow ends"):
        yaw_of("sweep", "bouncy")


def viewer(position, **more):
    names = dict(zip("xyz", position, strict=True))
    return {
        "position": names,
        "target": {"x": 0, "y": 0, "z": 0},
        "zoom": 1,
        "cameraType": "perspective",
        **more,
    }


def test_a_viewers_camera_keeps_its_direction_at_the_models_distance():
    # from straight ahead, however far away: the front camera
    front = viewer_camera(viewer((0, 0, 40), fov=35), RIG)
    assert_close(front.cam_to_world, front_camera(RIG).cam_to_world, atol=1e-6, rtol=0)
    assert_close(front.intrinsics, front_camera(RIG).intrinsics)
    # 4 sin 20 = 1.368 right, 4 cos 20 = 3.759 ahead: 20 degrees of yaw
    side = viewer_camera(viewer((1.36808, 0, 3.75877)), RIG)
    expected = orbit_cameras([20.0], [0.0], RIG)
    assert_close(side.cam_to_world, expected.cam_to_world, atol=1e-5, rtol=0)
    close = viewer_camera(viewer((0.136808, 0, 0.375877)), RIG)
    assert_close(close.cam_to_world, side.cam_to_world, atol=1e-5, rtol=0)
    # a moved target moves the camera with it: only the direction counts
    high = viewer_camera({**viewer((5, 1 + 2, 2)), "target": {"x": 5, "y": 1, "z": 0}}, RIG)
    expected = orbit_cameras([0.0], [45.0], RIG)
    assert_close(high.cam_to_world, expected.cam_to_world, atol=1e-5, rtol=0)


def test_a_grid_and_a_sweep_reach_30_degrees_unless_asked_otherwise():
    for cameras in (grid_cameras(3, RIG), turntable_cameras(60, RIG)):
        x, _, z = (cameras.cam_to_world[:, :3, 3] - torch.tensor(RIG.pivot)).T
        assert torch.rad2deg(torch.atan2(x, z)).abs().max().item() == pytest.approx(30, abs=0.05)
    for cameras, pitch in (
        (grid_cameras(3, RIG), 30),
        (turntable_cameras(60, RIG, kind="ellipse"), 10),
    ):
        offset = cameras.cam_to_world[:, :3, 3] - torch.tensor(RIG.pivot)
        high = torch.rad2deg(torch.asin(offset[:, 1] / offset.norm(dim=1)))
        assert high.abs().max().item() == pytest.approx(pitch, abs=0.05)


def test_a_viewers_quaternion_turns_and_rolls_the_camera():
    # 90 degrees about y turns -z (the viewer's sight) to -x: it stands at +x of the head
    half = math.sqrt(0.5)
    turned = viewer_camera(
        viewer((9, 9, 9), quaternion={"x": 0, "y": half, "z": 0, "w": half}), RIG
    )
    assert_close(turned.cam_to_world[0, :3, 3], torch.tensor([2.5, 0, 0.2]), atol=1e-5, rtol=0)
    # its columns: right is -z, down is -y, forward is -x
    expected = torch.tensor([[0.0, 0, -1], [0, -1, 0], [-1, 0, 0]])
    assert_close(turned.cam_to_world[0, :3, :3], expected, atol=1e-6, rtol=0)
    # 90 degrees about z rolls the front camera: its right points up, its down to the right
    rolled = viewer_camera(
        viewer((0, 0, 3), quaternion={"x": 0, "y": 0, "z": half, "w": half}, zoom=2), RIG
    )
    expected = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
    assert_close(rolled.cam_to_world[0, :3, :3], expected, atol=1e-6, rtol=0)
    # zoom 2 is twice the focal length
    assert_close(rolled.intrinsics[0, 0, 0].item(), 2 * 4.2647, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "bad",
    [
        viewer((0, 0, 0)),
        viewer((0, 0, 1), zoom=-1),
        viewer((0, float("nan"), 1)),
        viewer((0, 0, 1), quaternion={"x": 0, "y": 0, "z": 0, "w": 0}),
    ],
)
def test_a_useless_viewers_camera_is_refused(bad):
    with pytest.raises(InputError):
        viewer_camera(bad, RIG)


@pytest.mark.parametrize(
    "bad",
    [
        {"position": [1, 2, 3]},
        {"position": {"x": "far", "y": 0, "z": 1}},
        {"position": {"x": None, "y": 0, "z": 1}},
        {"position": {"z": 1}, "zoom": "near"},
        {"position": {"z": 1}, "quaternion": "turned"},
    ],
)
def test_a_viewer_s_camera_of_other_kinds_of_values_is_refused(bad):
    with pytest.raises(InputError, match="^the camera's "):
        viewer_camera(bad, RIG)


def test_another_first_camera_takes_the_front_s_place_and_the_others_stay():
    grid, other = grid_cameras(2, RIG), orbit_cameras([20.0], [-5.0], RIG)
    made = with_front(grid, other.cam_to_world[0].flatten().tolist())
    assert torch.equal(made.cam_to_world[0], other.cam_to_world[0])
    assert torch.equal(made.cam_to_world[1:], grid.cam_to_world[1:])
    assert torch.equal(made.intrinsics, grid.intrinsics)
