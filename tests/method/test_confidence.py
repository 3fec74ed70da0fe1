"""Confidence of points: worked out on painted balls, and on a head of the embedded generator."""

import math

import pytest
import torch

from freestyle_core.errors import ShapeError
from freestyle_core.files.networks import embedded, load_eg3d
from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.method import confidence as module
from freestyle_core.method.confidence import ENOUGH, USUAL, evidence, with_confidence
from freestyle_core.method.mesh import MeshSettings, extract_mesh
from freestyle_core.method.sample import sample_portrait
from freestyle_core.types import FewShotSet, Mesh
from freestyle_core.visualize.heat import COLORS, heat_colors, heat_picture
from tests.spheres import BALL, balls, row


@pytest.fixture(scope="module")
def head():
    return sample_portrait(load_eg3d(embedded("eg3d")), 3, psi=0.7)


@pytest.fixture
def ball(monkeypatch, head):
    """Balls in place of the portrait's own pictures."""
    monkeypatch.setattr(module, "render_views", lambda p, cameras, **_: balls(cameras, 128))
    return head


def point(degrees):
    turn = math.radians(degrees)
    normals = torch.tensor([[math.sin(turn), 0.0, math.cos(turn)]])
    return normals * BALL[1], normals


def test_three_views_that_see_a_point_squarely_and_one_that_does_not(ball):
    cameras = row(0.0, 0.0, 0.0, 180.0)
    seen = evidence(*point(0.0), ball, cameras)
    assert seen.off is None
    torch.testing.assert_close(seen.confidence, torch.tensor([3 / (3 + ENOUGH)]))
    assert float(evidence(*point(120.0), ball, row(0.0)).confidence) == 0


def test_edits_that_disagree_halve_it_at_the_usual_disagreement(ball):
    # grey d above and below the middle has a deviation of d in every channel
    levels = torch.tensor([0.5 - USUAL, 0.5 + USUAL])
    images = levels[:, None, None, None].expand(2, 3, 128, 128).clone()
    few_shot = FewShotSet(images, row(0.0, 0.0), 0, "grey")
    found = evidence(*point(0.0), ball, few_shot)
    torch.testing.assert_close(found.off, torch.tensor([USUAL]))
    torch.testing.assert_close(found.confidence, torch.tensor([2 / (2 + ENOUGH) / 2]))
    alike = FewShotSet(torch.full_like(images, 0.3), few_shot.cameras, 0, "grey")
    found = evidence(*point(0.0), ball, alike)
    torch.testing.assert_close(found.confidence, found.seen)


def test_a_view_that_does_not_see_a_point_has_no_say(ball):
    images = torch.stack([torch.full((3, 128, 128), x) for x in (0.2, 0.2, 0.9)])
    found = evidence(*point(0.0), ball, FewShotSet(images, row(0.0, 10.0, 180.0), 0, "grey"))
    torch.testing.assert_close(found.off, torch.zeros(1), atol=1e-6, rtol=0)


def test_the_face_of_a_head_is_surer_than_its_back_in_any_unit(head):
    cameras = grid_cameras(2, head.renderer.config.rig(), yaw_range_deg=20, pitch_range_deg=15)
    found = []
    for height in (0.25, 0.0):
        mesh = extract_mesh(head, settings=MeshSettings(resolution=48, head_height_m=height))
        assert mesh.confidence is None
        sure = with_confidence(mesh, head, cameras, head_height_m=height)
        assert torch.equal(sure.vertices, mesh.vertices) and mesh.confidence is None
        found.append(sure.confidence)
        normals = module.vertex_normals(mesh.vertices, mesh.faces)[0]
        assert float(sure.confidence[normals[:, 2] > 0.9].mean()) > 0.4
        assert float(sure.confidence[normals[:, 2] < -0.5].max()) < 0.1
    torch.testing.assert_close(found[0], found[1], atol=0.02, rtol=0)


def test_heat_runs_from_red_to_blue_through_its_anchors():
    values = torch.tensor([-1.0, 0.0, 0.125, 0.5, 1.0, 2.0])
    anchors = torch.tensor(COLORS)
    wanted = [
        anchors[0],
        anchors[0],
        (anchors[0] + anchors[1]) / 2,
        anchors[2],
        anchors[4],
        anchors[4],
    ]
    torch.testing.assert_close(heat_colors(values), torch.stack(wanted))


def test_the_picture_shows_a_sure_front_and_a_back_that_is_not(head):
    mesh = extract_mesh(head, settings=MeshSettings(resolution=48, head_height_m=0))
    front = (mesh.vertices[:, 2] > 0).float()
    shown = heat_picture(
        Mesh(mesh.vertices, mesh.faces, mesh.colors, front), head.renderer.config.rig(), size=48
    )
    assert shown.shape == (3, 48, 4 * 48)
    red, _, blue = shown[:, 24, 48 + 24]  # the middle of the front
    assert blue > 2 * red
    red, _, blue = shown[:, 24, 3 * 48 + 24]  # and of the back
    assert red > 2 * blue
    with pytest.raises(ShapeError, match="no confidence"):
        heat_picture(mesh, head.renderer.config.rig())
