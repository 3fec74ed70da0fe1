"""The overlay of a photograph: what is drawn lies where it was found."""

import pytest
import torch

from freestyle_core.models.config import EG3DConfig
from freestyle_core.photo.align import align_photo, face_of_points
from freestyle_core.photo.faces import OFFICIAL, projected
from freestyle_core.visualize.photo_overlay import BEYOND, CROP, POINT, photo_overlay


def face(width, left, top):
    points = projected(OFFICIAL.tensor(), 10.0, 2985.29 / 700)
    return face_of_points(points * width + torch.tensor([left, top], dtype=torch.float64))


def color(overlay, x, y):
    return [round(float(v) * 255) for v in overlay[:, round(y), round(x)]]


@pytest.mark.parametrize("as_bytes", [False, True])
def test_crop_and_points_lie_on_the_photograph(as_bytes):
    photo = torch.full((3, 600, 800), 0.5)
    made = align_photo(photo, EG3DConfig(), faces=[face(300, 100, 200), face(100, 600, 50)])
    shown = (photo * 255).to(torch.uint8) if as_bytes else photo
    overlay = photo_overlay(shown, made)
    assert overlay.shape[2] == 800 and overlay.shape[1] > 600  # a band of text below
    left, top, side = made.crop
    assert color(overlay, left + side / 3, top) == list(CROP)
    for x, y in made.faces[0].points.tolist()[:2]:
        assert color(overlay, x, y) == list(POINT)
    assert color(overlay, 30, 500) == [127, 127, 127] or color(overlay, 30, 500) == [128] * 3


def test_a_crop_beyond_the_picture_widens_the_canvas():
    made = align_photo(torch.full((3, 300, 300), 0.5), EG3DConfig(), faces=[face(300, -60, 0)])
    overlay = photo_overlay(torch.full((3, 300, 300), 0.5), made)
    left, top, side = made.crop
    assert left < -55
    scale = overlay.shape[2] / (300 - left)
    assert scale > 1.3  # small pictures are enlarged
    assert color(overlay, (-left - 20) * scale, 250 * scale) == list(BEYOND)


def test_large_photographs_are_reduced():
    photo = torch.zeros(3, 1500, 3000, dtype=torch.uint8)
    made = align_photo(photo, EG3DConfig(), faces=[face(900, 500, 300)])
    assert photo_overlay(photo, made).shape[2] == 1024
