"""Splats on disk: the layout that viewers read, there and back, and what is refused."""

import math

import numpy as np
import pytest
import torch

from freestyle_core.errors import FileFormatError, InputError
from freestyle_core.files.media.mesh import save_mesh
from freestyle_core.files.media.splat import encode_splats, load_splats, save_splats
from freestyle_core.types import Mesh, Splats

HEADER = b"""ply
format binary_little_endian 1.0
element vertex 2
property float x
property float y
property float z
property float nx
property float ny
property float nz
property float f_dc_0
property float f_dc_1
property float f_dc_2
property float opacity
property float scale_0
property float scale_1
property float scale_2
property float rot_0
property float rot_1
property float rot_2
property float rot_3
end_header
"""


@pytest.fixture
def splats():
    return Splats(
        torch.tensor([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]),
        torch.tensor([[1.0, math.e, 0.5], [0.1, 0.2, 0.3]]),
        torch.tensor([[1.0, 0, 0, 0], [0.5, -0.5, 0.5, 0.5]]),
        torch.tensor([0.5, 0.9]),
        torch.tensor([[0.5, 1.0, 0.0], [0.2, 0.3, 0.4]]),
    )


def test_the_bytes_are_the_usual_layout(splats):
    data = encode_splats(splats)
    assert data.startswith(HEADER) and len(data) == len(HEADER) + 2 * 17 * 4
    first = np.frombuffer(data[len(HEADER) :], "<f4")[:17]
    half = 0.5 * 2 * math.sqrt(math.pi)  # half a colour, in the first spherical harmonic
    wanted = [1, 2, 3, 0, 0, 0, 0, half, -half, 0, 0, 1, -math.log(2), 1, 0, 0, 0]
    np.testing.assert_allclose(first, wanted, rtol=1e-6)


@pytest.mark.parametrize("axes", ["mesh", "3dgs"])
def test_they_come_back_as_they_were(splats, axes, tmp_path):
    save_splats(tmp_path / "s.ply", splats, axes=axes)
    back = load_splats(tmp_path / "s.ply", axes=axes)
    for name in ("positions", "scales", "opacities", "colors"):
        torch.testing.assert_close(getattr(back, name), getattr(splats, name))
    # a quaternion and its opposite are one rotation
    along = (back.rotations * splats.rotations).sum(1).abs()
    torch.testing.assert_close(along, torch.ones(2))


def test_in_the_axes_of_viewers_y_points_down(splats, tmp_path):
    save_splats(tmp_path / "s.ply", splats, axes="3dgs")
    as_stored = load_splats(tmp_path / "s.ply")
    assert as_stored.positions[0].tolist() == [1.0, -2.0, -3.0]


def test_opacities_of_0_and_1_stay_finite(splats, tmp_path):
    sure = Splats(
        splats.positions,
        splats.scales,
        splats.rotations,
        torch.tensor([0.0, 1.0]),
        splats.colors,
    )
    save_splats(tmp_path / "s.ply", sure)
    found = load_splats(tmp_path / "s.ply").opacities
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0]), atol=2e-6, rtol=0)


def test_more_harmonics_of_others_are_passed_over(splats, tmp_path):
    data = encode_splats(splats)
    rows = np.frombuffer(data[len(HEADER) :], "<f4").reshape(2, 17)
    wider = np.concatenate([rows[:, :9], np.full((2, 1), 7, "<f4"), rows[:, 9:]], axis=1)
    header = HEADER.replace(
        b"property float opacity", b"property float f_rest_0\nproperty float opacity"
    )
    (tmp_path / "s.ply").write_bytes(header + wider.astype("<f4").tobytes())
    torch.testing.assert_close(load_splats(tmp_path / "s.ply").opacities, splats.opacities)


def test_other_and_damaged_files_are_refused(splats, tmp_path):
    mesh = Mesh(torch.rand(3, 3), torch.tensor([[0, 1, 2]]), torch.rand(3, 3))
    save_mesh(tmp_path / "mesh.ply", mesh)
    with pytest.raises(FileFormatError, match="no Gaussian splats.*is it a mesh"):
        load_splats(tmp_path / "mesh.ply")
    (tmp_path / "cut.ply").write_bytes(encode_splats(splats)[:-4])
    with pytest.raises(FileFormatError, match="2 splats, 136 bytes, but has 132"):
        load_splats(tmp_path / "cut.ply")
    with pytest.raises(FileFormatError, match="cannot read .*none.ply"):
        load_splats(tmp_path / "none.ply")
    with pytest.raises(InputError, match=r"must end in \.ply, got 's.splat'"):
        save_splats(tmp_path / "s.splat", splats)
    with pytest.raises(InputError, match="axes must be mesh or 3dgs, got 'up'"):
        save_splats(tmp_path / "s.ply", splats, axes="up")
    with pytest.raises(InputError, match="no splats to save"):
        save_splats(tmp_path / "s.ply", splats.part(torch.tensor([], dtype=torch.long)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.ply", "mesh.ply"]
