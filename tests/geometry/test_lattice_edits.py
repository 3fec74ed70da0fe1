"""Density lattices made fit for meshing, on solids small enough to count."""

import numpy as np
import torch

from freestyle_core.geometry.lattice_edits import bust_base, cut, inside_of


def test_only_the_largest_piece_counts_and_the_outermost_points_are_empty():
    field = torch.zeros(8, 8, 8)
    field[0:4, 2:5, 2:5] = 1.0  # touches the wall: 3 * 3 * 3 points are left
    field[6, 6, 6] = 1.0
    inside = inside_of(field, 0.5)
    assert inside.sum() == 27 and inside[1:4, 2:5, 2:5].all()
    assert inside_of(field, 1.0).sum() == 0  # above the level, not at it


def bust(*widths):
    """A solid whose cross-sections from below are squares of these widths."""
    inside = np.zeros((16, len(widths) + 2, 16), dtype=bool)
    for level, width in enumerate(widths, start=1):
        inside[1 : 1 + width, level, 1 : 1 + width] = True
    return inside


def test_the_bust_ends_where_it_is_four_fifths_of_the_shoulders():
    # shoulders 100 at level 3, a neck of 16, a head of 64; 81 is above 80, 64 is not
    assert bust_base(bust(8, 9, 10, 4, 4, 8, 8, 8)) == 2
    assert bust_base(bust(8, 8, 10, 4, 4, 8, 8, 8)) == 3


def test_shoulders_are_a_quarter_wider_than_the_neck_or_there_are_none():
    assert bust_base(bust(10, 10, 9, 9, 9, 9)) is None  # 100 < 1.25 * 81
    assert bust_base(bust(10, 10, 8, 8, 9, 9)) == 1  # 100 > 1.25 * 64
    assert bust_base(np.zeros((4, 4, 4), dtype=bool)) is None


def test_a_cut_is_a_plane_half_a_density_per_step():
    field = torch.full((4, 4, 4), 9.0)
    made = cut(field, 2.0, 1, 1.5)
    # level + 0.5 * (y - 1.5)
    expected = torch.tensor([1.25, 1.75, 2.25, 2.75])
    assert torch.equal(made, expected.view(1, 4, 1).expand(4, 4, 4))
    assert torch.equal(cut(torch.zeros(4, 4, 4), 2.0, 1, 1.5).amax(), torch.tensor(0.0))
