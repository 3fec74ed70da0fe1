"""Landmarks of a person's photograph, and the turn of a head by closed forms and by mirrors."""

import math

import pytest
import torch
import torch.nn.functional as F
from skimage import data

from freestyle_core.clay.draw import draw, plain_head
from freestyle_core.clay.evaluate import FIRST_SEED, code_of_seed
from freestyle_core.files.networks import framing_for, load_detector, load_face_mesh
from freestyle_core.geometry.cameras import front_camera
from freestyle_core.models.config import EG3DConfig
from freestyle_core.photo import align
from freestyle_core.photo.align import align_photo, posed_camera
from freestyle_core.photo.detect import detect_faces
from freestyle_core.photo.faces import OFFICIAL, Pose, camera_of_points, pose_of
from freestyle_core.photo.landmarks import landmarks_of, turn_of
from freestyle_core.types import CameraRig

FFHQ = EG3DConfig()
RIG = CameraRig(2.7, (0.0, 0.0, 0.0), 4.2647)


@pytest.fixture(scope="module")
def photo():
    """A person, [3,512,512]: scikit-image brings the picture."""
    return torch.from_numpy(data.astronaut()).permute(2, 0, 1)


@pytest.fixture(scope="module")
def net():
    return load_face_mesh()


@pytest.fixture(scope="module")
def detector():
    return load_detector()


@pytest.fixture(scope="module")
def found(photo, net, detector):
    return landmarks_of(photo, detect_faces(photo, detector)[0].points, net)


def test_landmarks_mark_what_can_be_seen(found, photo, detector):
    landmarks, certainty = found
    points = detect_faces(photo, detector)[0].points
    # lids of both eyes, tip of the nose, corners of the mouth
    eyes = [landmarks[list(lids), :2].mean(0) for lids in ((159, 145), (386, 374))]
    marked = torch.stack([*eyes, *landmarks[[1, 61, 291], :2]])
    assert certainty > 0.99
    assert (marked - points).norm(dim=1).max() < 6  # of a face 95 pixels wide
    assert landmarks[:, 2].argmin() in (1, 4)  # the tip of the nose is nearest


@pytest.mark.parametrize("degrees", [-25.0, 40.0])
def test_landmarks_turn_with_the_picture(found, photo, net, degrees):
    angle = math.radians(degrees)
    # the rows that affine_grid wants take places of the turned picture to those of the photograph
    back = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    grid = F.affine_grid(torch.cat([back, torch.zeros(2, 1)], 1)[None], [1, 3, 512, 512], False)
    turned = F.grid_sample(photo[None] / 255, grid, padding_mode="border", align_corners=False)[0]
    points = found[0][[159, 386, 1, 61, 291], :2]

    def there(places):
        return (places - 256) @ back.double() + 256

    landmarks, certainty = landmarks_of(turned, there(points), net)
    assert certainty > 0.99
    off = (landmarks[:, :2] - there(found[0][:, :2])).norm(dim=1)
    assert off.mean() < 1.3 and off.max() < 4  # of a face 95 pixels wide
    assert (landmarks[:, 2] - found[0][:, 2]).abs().mean() < 1.5


def test_landmarks_grow_with_the_picture_and_do_not_need_good_points(found, photo, net):
    large = F.interpolate(photo[None] / 255, scale_factor=4, mode="bicubic").clamp(0, 1)[0]
    rough = found[0][[159, 386, 1, 61, 291], :2] * 4
    middle = rough.mean(0)
    rough = (rough - middle) * 1.3 + middle + torch.tensor([20.0, -30.0])
    landmarks, certainty = landmarks_of(large, rough, net)
    assert certainty > 0.99
    off = (landmarks / 4 - found[0]).norm(dim=1)
    assert off.mean() < 1.0


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (31, -12, 7), (-20, 25, -40)])
def test_the_turn_of_a_head_seen_through_a_pinhole_is_exact(net, yaw, pitch, roll):
    pose = Pose(float(yaw), float(pitch), float(roll))
    camera = posed_camera(pose, RIG).cam_to_world[0].double()
    size = 0.11
    world = size * net.usual.double()
    seen = (world - camera[:3, 3]) @ camera[:3, :3]
    # what the network says: places in the picture, and depth about the middle on the same scale
    flat = 0.5 + RIG.focal * seen[:, :2] / seen[:, 2:]
    depth = (seen[:, 2:] - RIG.radius) * RIG.focal / RIG.radius
    turn = turn_of(torch.cat([flat, depth], 1), net.usual, RIG)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = turn.T * torch.tensor([1.0, -1.0, -1.0])
    got = pose_of(matrix)
    assert (got.yaw_deg, got.pitch_deg, got.roll_deg) == pytest.approx((yaw, pitch, roll), abs=1e-4)


def test_a_known_turn_leaves_the_place_to_the_points():
    pose = Pose(17.0, -9.0, 5.0)
    points = OFFICIAL.tensor() * OFFICIAL.unit + torch.tensor(OFFICIAL.origin)
    camera = posed_camera(pose, RIG).cam_to_world[0].double()
    at = (points - camera[:3, 3]) @ camera[:3, :3]
    seen = 0.5 + RIG.focal * at[:, :2] / at[:, 2:]
    turn = (camera[:3, :3] * torch.tensor([1.0, -1.0, -1.0])).T
    known = camera_of_points(seen, OFFICIAL, RIG, turn)
    torch.testing.assert_close(known, camera, atol=1e-6, rtol=0)
    other = posed_camera(Pose(10.0, 0.0, 0.0), RIG).cam_to_world[0].double()
    wrong = (other[:3, :3] * torch.tensor([1.0, -1.0, -1.0])).T
    got = pose_of(camera_of_points(seen, OFFICIAL, RIG, wrong))
    assert (got.yaw_deg, got.pitch_deg, got.roll_deg) == pytest.approx((10, 0, 0), abs=1e-4)


def test_a_photograph_and_its_mirror_agree(photo, net, detector):
    """Five points say that this person looks down by 17 degrees, because she smiles."""
    there, mirrored = (
        align_photo(x, FFHQ, detector=detector, mesh=net).pose for x in (photo, photo.flip(2))
    )
    assert 0 < there.pitch_deg < 10 and abs(there.yaw_deg) < 4
    assert there.pitch_deg == pytest.approx(mirrored.pitch_deg, abs=1.5)
    assert there.yaw_deg == pytest.approx(-mirrored.yaw_deg, abs=1.5)
    assert there.roll_deg == pytest.approx(-mirrored.roll_deg, abs=1)
    assert align_photo(photo, FFHQ, detector=detector).pose.pitch_deg > 14


def test_the_crop_stays_that_of_the_five_points(photo, net, detector):
    with_mesh, without = (
        align_photo(photo, FFHQ, detector=detector, mesh=mesh) for mesh in (net, None)
    )
    assert with_mesh.crop == pytest.approx(without.crop)
    torch.testing.assert_close(with_mesh.image, without.image)


def test_where_the_mesh_sees_no_face_the_points_decide(photo, net, detector, monkeypatch):
    points = align_photo(photo, FFHQ, detector=detector).pose
    monkeypatch.setattr(align, "landmarks_of", lambda *args: (torch.zeros(468, 3), 0.49))
    unsure = align_photo(photo, FFHQ, detector=detector, mesh=net).pose
    assert vars(unsure) == pytest.approx(vars(points))


def test_a_family_with_a_framing_network_does_not_ask_the_mesh(detector, monkeypatch):
    config = EG3DConfig(name="clay", white_background=True)
    head = draw(plain_head(code_of_seed(FIRST_SEED)), front_camera(RIG), 128, supersample=1)[0][0]
    monkeypatch.setattr(align, "landmarks_of", None)
    align_photo(head, config, detector=detector, mesh=load_face_mesh(), framing=framing_for(config))
