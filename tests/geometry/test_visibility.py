"""Which views see which points of painted balls, whose pictures and depth are exact."""

import math

import pytest
import torch

from freestyle_core.errors import ShapeError
from freestyle_core.geometry.visibility import sightings, vertex_normals
from tests.spheres import BALL, NOSE, RIG, balls, painted, row


def directions(*angles):
    """Return unit vectors at so many degrees about y from the front."""
    turns = torch.deg2rad(torch.tensor(angles))
    return torch.stack([turns.sin(), torch.zeros_like(turns), turns.cos()], dim=-1)


def seen_of(angles, views, *, spheres=(BALL,), **options):
    normals = directions(*angles)
    return sightings(normals * BALL[1], normals, views.depth, views.alpha, views.cameras, **options)


def test_a_view_sees_the_half_that_faces_it_and_how_squarely():
    seen = seen_of((0.0, 60.0, 120.0, 180.0), balls(row(0.0, 60.0), 96))
    assert seen.seen.tolist() == [[True, True, False, False], [True, True, True, False]]
    # at 60 degrees, from the front: the direction to the camera is not along z
    x, z = 0.25 * math.sin(math.radians(60)), 0.25 * math.cos(math.radians(60))
    away = torch.tensor([-x, 0.0, RIG.radius - z])
    cosine = float((away / away.norm()) @ directions(60.0)[0])
    torch.testing.assert_close(seen.facing[0, :2], torch.tensor([1.0, cosine]))
    torch.testing.assert_close(seen.facing[1, 1], torch.tensor(1.0))


def test_the_colours_are_those_of_the_points():
    views = balls(row(0.0, 30.0), 256)
    angles = (-20.0, 0.0, 25.0)
    shown = seen_of(angles, views).colors(views.image)
    wanted = painted(directions(*angles) * BALL[1]).expand(2, -1, -1)
    torch.testing.assert_close(shown, wanted, atol=0.02, rtol=0)


def test_what_stands_in_front_hides_a_point_within_the_tolerance():
    views = balls(row(0.0, 40.0), 96, spheres=(BALL, NOSE))
    assert seen_of((0.0,), views).seen.tolist() == [[False], [True]]
    assert seen_of((0.0,), views, tolerance=0.5).seen.tolist() == [[True], [True]]


def test_outside_the_picture_and_where_nothing_is_drawn_nothing_is_seen():
    views = balls(row(0.0), 48)
    normals = torch.tensor([[0.0, 0.0, 1.0]]).expand(3, -1)
    points = torch.tensor([[0.0, 0.0, 0.25], [0.29, 0.0, 0.0], [2.0, 0.0, 0.0]])
    seen = sightings(points, normals, views.depth, views.alpha, views.cameras)
    assert seen.seen.tolist() == [[True, False, False]]


def test_depth_of_other_views_is_refused():
    views = balls(row(0.0), 16)
    with pytest.raises(ShapeError, match="of 2 cameras"):
        sightings(torch.zeros(1, 3), torch.ones(1, 3), views.depth, views.alpha, row(0.0, 9.0))


def test_normals_weigh_faces_by_their_area():
    # a corner of a box, its faces of areas 1/2 (z), 1 (x)
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 2]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    normals, area = vertex_normals(vertices, faces)
    torch.testing.assert_close(normals[0], torch.tensor([2.0, 0, 1]) / math.sqrt(5))
    torch.testing.assert_close(normals[1], torch.tensor([0.0, 0, 1]))
    torch.testing.assert_close(area, torch.tensor([0.5, 1 / 6, 0.5, 1 / 3]))
