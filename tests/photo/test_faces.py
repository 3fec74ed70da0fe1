"""Scale, place and camera of five points, by closed forms and by round trips through a pinhole."""

import math

import pytest
import torch

from freestyle_core.errors import InputError
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.photo.align import posed_camera
from freestyle_core.photo.faces import (
    CLAY,
    OFFICIAL,
    Pose,
    camera_of_points,
    fit_scale,
    pose_of,
    projected,
)
from freestyle_core.types import CameraRig

RIG = CameraRig(2.7, (0.0, 0.0, 0.2), 4.2647)
CENTRED = CameraRig(2.7, (0.0, 0.0, 0.0), 4.2647)


def seen(matrix, model, focal=4.2647):
    """Return where a camera [4,4] sees the points of a model, shares of its picture, y down."""
    points = model.tensor() * model.unit + torch.tensor(model.origin, dtype=torch.float64)
    at = (points - matrix[:3, 3]) @ matrix[:3, :3]
    return 0.5 + focal * at[:, :2] / at[:, 2:]


def test_scale_and_place_of_an_affine_picture_are_exact():
    # rows of different length: the scale is their mean
    rows = torch.tensor([[3.0, 0, 4.0], [0.0, -7.0, 0.0]], dtype=torch.float64)
    middle = torch.tensor([11.0, -2.0], dtype=torch.float64)
    scale, place = fit_scale(OFFICIAL.tensor() @ rows.T + middle, OFFICIAL)
    assert scale == pytest.approx(6.0)
    torch.testing.assert_close(place, middle)
    with pytest.raises(InputError, match="one place"):
        fit_scale(torch.ones(5, 2), OFFICIAL)


def test_the_usual_frontal_face_lies_where_the_recipe_puts_it():
    # 512 pixels of 700: eyes (188,192) (324,192), nose (257,266), mouth (201,340) (311,340)
    points = projected(OFFICIAL.tensor(), 10.0, 2985.29 / 700)
    scale, middle = fit_scale(points, OFFICIAL)
    crop = (points - middle) / (scale / OFFICIAL.scale) + 0.5
    expected = [[188, 192], [324, 192], [257, 266], [201, 340], [311, 340]]
    torch.testing.assert_close(
        crop * 512, torch.tensor(expected, dtype=torch.float64), atol=1.0, rtol=0
    )


def test_a_frontal_face_is_seen_from_the_recipe_s_place():
    # t = 0 gives (0, .006, 2.861), brought to radius 2.7
    points = projected(OFFICIAL.tensor(), 10.0, RIG.focal)
    matrix = camera_of_points(points, OFFICIAL, RIG)
    far = math.hypot(0.006, 2.861)
    expected = torch.tensor([0, 0.006 * 2.7 / far, 2.861 * 2.7 / far], dtype=torch.float64)
    torch.testing.assert_close(matrix[:3, 3], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(matrix[:3, :3].diagonal(), torch.tensor([1.0, -1, -1]).double())


@pytest.mark.parametrize("model", [OFFICIAL, CLAY])
@pytest.mark.parametrize("pose", [Pose(0, 0, 0), Pose(25, -12, 8), Pose(-34, 20, -15)])
def test_a_camera_is_found_again_from_what_it_sees(model, pose):
    matrix = posed_camera(pose, CENTRED).cam_to_world[0].double()
    found = camera_of_points(seen(matrix, model), model, CENTRED)
    assert pose_of(found).yaw_deg == pytest.approx(pose.yaw_deg, abs=1e-3)
    assert pose_of(found).pitch_deg == pytest.approx(pose.pitch_deg, abs=1e-3)
    assert pose_of(found).roll_deg == pytest.approx(pose.roll_deg, abs=1e-3)
    torch.testing.assert_close(found, matrix, atol=1e-4, rtol=0)


def test_angles_are_those_of_the_rig_and_of_a_picture_turned_in_its_plane():
    for yaw, pitch in ((0.0, 0.0), (30.0, 10.0), (-50.0, -20.0)):
        pose = pose_of(orbit_cameras([yaw], [pitch], CENTRED).cam_to_world[0])
        assert (pose.yaw_deg, pose.pitch_deg) == (
            pytest.approx(yaw, abs=1e-3),
            pytest.approx(pitch, abs=1e-3),
        )
        assert pose.roll_deg == pytest.approx(0, abs=1e-3)
    # a head that leans to the picture's right: its top goes right
    leaning = posed_camera(Pose(0, 0, 90), CENTRED).cam_to_world[0].double()
    top = torch.tensor([0.0, 0.1, 0.0], dtype=torch.float64)
    x, y, z = (top - leaning[:3, 3]) @ leaning[:3, :3]
    assert float(x / z) == pytest.approx(0.1 / 2.7, abs=1e-6) and abs(float(y)) < 1e-6


def test_turned_is_the_angle_between_face_and_camera():
    assert Pose(0, 0, 40).turned_deg == pytest.approx(0, abs=1e-5)
    assert Pose(60, 0, 0).turned_deg == pytest.approx(60)
    assert Pose(60, 60, 0).turned_deg == pytest.approx(math.degrees(math.acos(0.25)))
