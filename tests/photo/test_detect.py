"""Faces and their points, beside what the package `mtcnn` 1.0.0 (TensorFlow) says of a picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from freestyle_core.errors import InputError, ShapeError
from freestyle_core.files.networks import ASSETS, load_detector
from freestyle_core.photo.detect import (
    DetectSettings,
    check_finite_points,
    detect_faces,
    patches,
    resized_by_area,
    suppressed,
)

FACES = ASSETS.parent / "pictures" / "faces.jpg"
# box, score and points of the package, for the left upper 640 x 200 pixels of that picture
PACKAGE = (
    (
        [160.66, 35.30, 220.25, 104.28],
        0.9974,
        [[177.35, 62.09], [204.88, 61.73], [191.02, 74.16], [179.27, 86.95], [203.19, 86.97]],
    ),
    (
        [546.23, 35.95, 603.34, 102.74],
        0.9988,
        [[562.35, 62.03], [589.50, 61.61], [575.59, 74.31], [565.12, 87.22], [586.83, 86.80]],
    ),
    (
        [285.54, 42.36, 336.74, 105.46],
        0.9956,
        [[291.23, 63.82], [314.10, 64.17], [296.63, 75.85], [292.44, 88.52], [310.41, 89.32]],
    ),
    (
        [434.66, 42.08, 482.53, 104.42],
        0.9994,
        [[453.55, 64.71], [476.00, 63.82], [470.33, 76.30], [456.50, 89.13], [473.98, 88.21]],
    ),
    (
        [48.43, 43.67, 97.32, 104.50],
        0.9929,
        [[68.53, 65.29], [90.06, 62.47], [85.02, 76.18], [73.73, 89.75], [90.99, 87.06]],
    ),
)


@pytest.fixture(scope="module")
def net():
    return load_detector()


@pytest.fixture(scope="module")
def five():
    with Image.open(FACES) as picture:
        cut = picture.convert("RGB").crop((0, 0, 640, 200))
        return torch.from_numpy(np.array(cut)).permute(2, 0, 1).float() / 255


def test_it_finds_what_the_package_finds_the_largest_first(net, five):
    found = detect_faces(five, net)
    assert len(found) == len(PACKAGE)
    for face, (box, score, points) in zip(found, PACKAGE, strict=True):  # JPEG readers differ by 1
        np.testing.assert_allclose(face.box, box, atol=0.3)
        np.testing.assert_allclose(face.points, points, atol=0.3)
        assert face.score == pytest.approx(score, abs=0.003)


def test_a_picture_without_a_face_has_none(net):
    noise = torch.rand(3, 150, 150, generator=torch.Generator().manual_seed(0))
    assert detect_faces(noise, net) == []
    assert detect_faces(torch.ones(3, 8, 200), net) == []  # too flat for any face


def test_bytes_and_large_pictures_are_taken_too(net, five):
    at = detect_faces(five[:, :120, 130:250], net)[0]
    white = torch.full((3, 1500, 2700), 255, dtype=torch.uint8)
    white[:, 700:1180, 1000:1480] = torch.nn.functional.interpolate(
        (five[None, :, :120, 130:250] * 255).round().to(torch.uint8), scale_factor=4
    )[0]
    (face,) = detect_faces(white, net)
    expected = at.points * 4 + torch.tensor([1000, 700])
    assert float((face.points - expected).abs().max()) < 20  # of a face 240 wide


def test_a_pixel_of_a_reduced_picture_is_the_mean_of_what_it_covers():
    row = torch.tensor([[[[3.0, 6.0, 9.0, 12.0, 15.0]]]]).expand(1, 1, 5, 5)
    # five pixels on two: 2.5 each
    reduced = resized_by_area(row, 0.4)
    expected = [(3 + 6 + 4.5) / 2.5, (4.5 + 12 + 15) / 2.5]
    torch.testing.assert_close(reduced[0, 0], torch.tensor([expected, expected]))
    assert torch.equal(resized_by_area(row, 1.0), row)


def test_patches_are_zero_outside_and_linear_inside():
    x = torch.arange(5.0).expand(1, 3, 5, 5)  # the column
    (cut,) = patches(x, torch.tensor([[-1.25, 0.0, 3.75, 5.0]]), 5)
    # columns -1.25, 0, 1.25, 2.5 and 3.75 of 5, as TensorFlow counts them: times 4 / 5
    torch.testing.assert_close(cut[0, 0], torch.tensor([0.0, 0.0, 1.0, 2.0, 3.0]))


def test_boxes_that_a_better_one_covers_go():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30], [2, 2, 4, 4]])
    scores = torch.tensor([0.7, 0.9, 0.8, 0.95])
    assert suppressed(boxes, scores, 0.7).tolist() == [3, 1, 2]  # 80 of 100 shared
    assert suppressed(boxes, scores, 0.85).tolist() == [3, 1, 2, 0]
    # all of the small box lies in the others, a 25th of them
    assert suppressed(boxes, scores, 0.7, of_smaller=True).tolist() == [3, 2]


def test_other_shapes_settings_and_points_are_refused(net):
    with pytest.raises(ShapeError, match=r"\[3,H,W\]"):
        detect_faces(torch.zeros(1, 3, 50, 50), net)
    with pytest.raises(InputError, match="least_pixels"):
        DetectSettings(least_pixels=5)
    with pytest.raises(InputError, match="pyramid"):
        DetectSettings(pyramid=1.0)
    points = torch.rand(5, 2, dtype=torch.float64)
    check_finite_points(points)
    with pytest.raises(InputError, match="same place"):
        check_finite_points(torch.ones(5, 2))
    with pytest.raises(InputError, match="five points"):
        check_finite_points(points[:4])
