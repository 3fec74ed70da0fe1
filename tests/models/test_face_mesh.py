"""The face mesh beside TensorFlow Lite on the file that its weights come from."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from skimage import data

from freestyle_core.errors import ShapeError
from freestyle_core.files.bundle import load_header
from freestyle_core.files.networks import face_mesh_file, load_face_mesh
from freestyle_core.models.config import PublishedConfig
from freestyle_core.models.face_mesh import LANDMARKS, FaceMesh

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def net():
    return load_face_mesh()


def astronaut(top, left):
    """Return a square [1,3,192,192] of the photograph of a person that scikit-image brings."""
    photo = torch.from_numpy(data.astronaut()).permute(2, 0, 1) / 255
    return photo[None, :, top : top + 192, left : left + 192]


def test_landmarks_are_those_of_tensorflow_lite(net):
    """Made by `tensorflow-cpu` 2.21 on `face_landmark.tflite` of `mediapipe` 0.10.21."""
    golden = load_file(GOLDEN / "face_mesh.safetensors")
    face, suit = astronaut(60, 130), astronaut(300, 100)
    with torch.no_grad():
        landmarks, certainty = net(torch.cat([face, face.flip(3), suit]))
    torch.testing.assert_close(landmarks[:2], golden["landmarks"], atol=1e-3, rtol=0)
    torch.testing.assert_close(certainty, golden["certainty"], atol=1e-5, rtol=0)
    assert certainty[0] > 0.99 and certainty[2] < 0.3


def test_a_crop_of_another_size_is_refused(net):
    with pytest.raises(ShapeError, match=r"\[N,3,192,192\], got \(1, 3, 128, 128\)"):
        net(torch.zeros(1, 3, 128, 128))


def test_the_file_says_where_its_weights_come_from(net):
    header = load_header(face_mesh_file())
    assert header.kind == "face_mesh" and header.config["licence"].startswith("Apache-2.0")
    assert "mediapipe-0.10.21" in header.extra["converted_from"]
    assert sum(p.numel() for p in net.parameters()) == 604_685


def test_the_usual_face_looks_ahead(net):
    """Its nose is nearest, and its eyes lie above its mouth, at one height and depth."""
    usual = net.usual
    assert usual.shape == (LANDMARKS, 3)
    nose, left, right, mouth = usual[[1, 33, 263, 13]]
    assert usual[:, 2].argmax() in (1, 4) and abs(float(nose[0])) < 0.02
    assert left[0] < -0.5 < 0.5 < right[0] and (left - right)[1:].abs().max() < 0.03
    assert left[1] > nose[1] > mouth[1]
    assert FaceMesh(PublishedConfig()).usual.abs().max() == 0
