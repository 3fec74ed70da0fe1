"""Points by hand and MediaPipe's landmarks."""

import numpy as np
import pytest
import torch

from freestyle_core.errors import InputError
from freestyle_core.photo.marks import faces_of_landmarks, read_points

FACE = [[30.0, 40.0], [50.0, 41.0], [40.0, 52.0], [33.0, 62.0], [48.0, 61.0]]


def test_points_are_read_from_any_usual_spelling():
    expected = torch.tensor(FACE, dtype=torch.float64)
    for text in (
        "30,40 50,41 40,52 33,62 48,61",
        " 30 40; 50 41; 40 52; 33 62; 48 61 ",
        "[(30, 40), (50, 41), (40, 52), (33, 62), (48, 61)]",
    ):
        assert torch.equal(read_points(text, (80, 90)), expected)
    shares = ".5,.25 1,.5 0,0 .1,.2 .3,.4"
    assert read_points(shares, (80, 90))[:2].tolist() == [[45, 20], [90, 40]]


@pytest.mark.parametrize("text", ["", "1 2 3", "a,b c,d e,f g,h i,j", "1,2 " * 6, "nan,1 " * 5])
def test_other_texts_are_refused(text):
    with pytest.raises(InputError, match="five points"):
        read_points(text, (80, 90))


def test_points_outside_are_refused():
    for text in ("30,40 50,41 40,52 33,62 48,81", "-1,40 50,41 40,52 33,62 48,61"):
        with pytest.raises(InputError, match="picture of 90 x 80"):
            read_points(text, (80, 90))


def mediapipe(points, score=0.9):
    """Return a face as ComfyUI's node gives it."""
    landmarks = np.full((478, 2), 45.0, np.float32)
    landmarks[[468, 473, 1, 61, 291]] = points
    landmarks[10] = (45, 20)  # top of the forehead
    return {"landmarks_xy": landmarks, "score": score, "transformation_matrix": np.eye(4)}


def test_five_of_the_478_landmarks_are_taken_the_largest_face_first():
    small = (np.array(FACE) / 4 + 60).tolist()
    found = {"frames": [[], [mediapipe(small), mediapipe(FACE, 0.7)]], "image_size": (80, 90)}
    assert faces_of_landmarks(found, 0) == []
    first, second = faces_of_landmarks(found, 1)
    assert torch.equal(second.points.float(), torch.tensor(FACE)) or torch.equal(
        first.points.float(), torch.tensor(FACE)
    )
    sizes = [float((f.box[2:] - f.box[:2]).prod()) for f in (first, second)]
    assert sizes[0] >= sizes[1]
    assert {round(f.score, 3) for f in (first, second)} == {0.7, 0.9}


@pytest.mark.parametrize(
    "found",
    [None, [], {}, {"frames": []}, {"frames": 3}, {"frames": [[1]]}, {"frames": [[{}]]}]
    + [{"frames": [[{"landmarks_xy": "x"}]]}, {"frames": [[{"landmarks_xy": np.zeros((68, 2))}]]}],
)
def test_anything_else_is_refused(found):
    with pytest.raises(InputError, match="landmarks"):
        faces_of_landmarks(found)
