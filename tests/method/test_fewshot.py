import pytest
import torch

from freestyle_core.errors import InputError, ShapeError
from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.method.fewshot import few_shot_set
from tests.tiny import tiny_eg3d, tiny_portrait

EG3D = tiny_eg3d()  # images of 16 pixels
CAMERAS = grid_cameras(2, EG3D.config.rig())  # 5 views


def build(images, *, prompt="sand painting", **options):
    return few_shot_set(tiny_portrait(EG3D), images, CAMERAS, prompt, **options)


def test_a_set_keeps_images_cameras_and_prompt():
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    got = build(images, front=2)
    assert torch.equal(got.images, images)
    assert got.cameras is CAMERAS and got.front == 2 and got.prompt == "sand painting"


def test_images_of_another_size_are_resized():
    images = torch.zeros(5, 3, 32, 32)
    images[:, :, :, 16:] = 0.5
    got = build(images).images
    assert got.shape == (5, 3, 16, 16)
    torch.testing.assert_close(got[:, :, :, :6], torch.zeros(5, 3, 16, 6))
    torch.testing.assert_close(got[:, :, :, 10:], torch.full((5, 3, 16, 6), 0.5))


def test_shrinking_leaves_no_moire():
    images = torch.zeros(5, 3, 64, 64)
    images[:, :, :, 1::4] = 1.0  # finer than the small image can show: only its mean is left
    got = build(images).images
    # away from the edges every pixel sums one column in four; unfiltered it would be 0.59
    torch.testing.assert_close(got[:, :, :, 3:13], torch.full((5, 3, 16, 10), 0.25))


def test_a_slight_overshoot_is_clamped():
    images = torch.full((5, 3, 16, 16), 1.01)
    assert build(images).images.max() == 1


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.zeros(4, 3, 16, 16), "4 images for 5 cameras"),
        (torch.zeros(5, 16, 16, 3), "must be square"),
        (torch.zeros(5, 3, 16, 8), "must be square"),
        (torch.full((5, 3, 16, 16), float("nan")), "NaN"),
        (torch.full((5, 3, 16, 16), 255.0), "divide 8-bit images"),
        (torch.full((5, 3, 16, 16), -1.0), r"lie in \[0,1\]"),
    ],
)
def test_wrong_images_are_refused(images, message):
    with pytest.raises(ShapeError, match=message):
        build(images)


def test_an_empty_prompt_or_a_front_view_that_is_not_there_is_refused():
    images = torch.zeros(5, 3, 16, 16)
    with pytest.raises(InputError, match="empty prompt"):
        build(images, prompt="  ")
    with pytest.raises(InputError, match="front view 5"):
        build(images, front=5)
