"""The records: what they refuse, and how cameras are chosen and labelled."""

import pytest
import torch

from freestyle_core.errors import ShapeError
from freestyle_core.types import CameraBatch, FewShotSet, Portrait, StyleCode, Triplane

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


class Doubling:
    """Stands in for an I2T: its planes are twice its code, laid out as [1,3,1,2,2]."""

    def __init__(self):
        self.device = "cpu"

    def decode(self, w_s):
        return (2 * w_s).view(1, 3, 1, 2, 2)

    def to(self, device):
        self.device = device
        return self


CODE = torch.arange(12.0).view(1, 3, 2, 2)


def test_the_planes_of_a_style_are_its_networks_and_the_residual_on_top():
    residual = torch.full((1, 3, 1, 2, 2), 0.5)
    plain, refined = StyleCode(CODE, Doubling(), "p"), StyleCode(CODE, Doubling(), "p", residual)
    assert plain.residual is None
    assert plain.planes().flatten().tolist() == [2.0 * n for n in range(12)]
    assert refined.planes().flatten().tolist() == [2.0 * n + 0.5 for n in range(12)]


@pytest.mark.parametrize("shape", [(3, 4, 8, 8), (2, 3, 4, 8, 8), (1, 3, 4, 8, 7)])
def test_the_residual_of_a_style_is_three_square_planes(shape):
    with pytest.raises(ShapeError, match=r"residual needs planes \[1,3,C,R,R\]"):
        StyleCode(CODE, Doubling(), "p", torch.zeros(shape))


@pytest.mark.parametrize(("networks", "expected"), [(True, "meta"), (False, "cpu")])
def test_a_portrait_moves_with_all_it_owns(networks, expected):
    residual = torch.zeros(1, 3, 1, 2, 2)
    style = StyleCode(CODE, Doubling(), "p", residual)
    triplane = Triplane(torch.zeros(1, 3, 1, 2, 2), 1.0)
    portrait = Portrait(Doubling(), triplane, torch.zeros(1, 4, 8), style)
    moved = portrait.to("meta", networks=networks)
    own = (moved.triplane.planes, moved.w, moved.style.w_s, moved.style.residual)
    assert [value.device.type for value in own] == ["meta"] * 4
    assert moved.renderer.device == moved.style.network.device == expected
    assert portrait.style.residual is residual and residual.device.type == "cpu"


STYLED = StyleCode(CODE, Doubling(), "p")


@pytest.mark.parametrize(
    ("style", "provenance", "expected"),
    [
        (None, {}, False),
        (None, {"seed": 3, "mix": "no list"}, False),
        (STYLED, {}, True),
        (None, {"seed": 3, "prompt": "gold"}, True),
        (None, {"mix": [{"seed": 1}, {"seed": 2}], "amount": 0.5}, False),
        (None, {"mix": [{"seed": 1}, {"mix": [{}, {"prompt": "gold"}]}]}, True),
    ],
)
def test_a_portrait_is_stylized_by_its_code_or_by_the_words_in_its_history(
    style, provenance, expected
):
    triplane = Triplane(torch.zeros(1, 3, 1, 2, 2), 1.0)
    portrait = Portrait(Doubling(), triplane, torch.zeros(1, 4, 8), style, provenance)
    assert portrait.is_stylized is expected
