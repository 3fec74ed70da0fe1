"""The records: what they refuse, and how cameras are chosen and labelled."""

import pytest
import torch

from freestyle_core.errors import ShapeError
from freestyle_core.types import CameraBatch, FewShotSet, Triplane

CAMERAS = CameraBatch(torch.arange(48.0).view(3, 4, 4), torch.arange(27.0).view(3, 3, 3))


@pytest.mark.parametrize(
    ("poses", "lenses"), [((3, 4, 4), (2, 3, 3)), ((3, 3, 4), (3, 3, 3)), ((3, 4, 4), (3, 4, 4))]
)
def test_cameras_of_unequal_number_or_shape_are_refused(poses, lenses):
    with pytest.raises(ShapeError, match="cam_to_world"):
        CameraBatch(torch.zeros(poses), torch.zeros(lenses))


def test_a_chosen_camera_is_a_batch_of_one():
    assert len(CAMERAS) == 3 and len(CAMERAS[1]) == 1
    assert torch.equal(CAMERAS[1].cam_to_world, CAMERAS.cam_to_world[1:2])
    assert torch.equal(CAMERAS[[2, 0]].intrinsics, CAMERAS.intrinsics[[2, 0]])


def test_a_label_is_the_pose_row_by_row_then_the_lens():
    assert CAMERAS.label()[1].tolist() == [*range(16, 32), *range(9, 18)]


@pytest.mark.parametrize("shape", [(3, 4, 8, 8), (1, 2, 4, 8, 8), (1, 3, 4, 8, 7)])
def test_planes_must_be_three_and_square(shape):
    with pytest.raises(ShapeError, match=r"\[B,3,C,R,R\]"):
        Triplane(torch.zeros(shape), 1.0)


def test_a_set_has_a_camera_per_image():
    with pytest.raises(ShapeError, match="2 images but 3 cameras"):
        FewShotSet(torch.zeros(2, 3, 4, 4), CAMERAS, 0, "gold")
