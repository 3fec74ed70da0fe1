"""Sheets of many pictures."""

import pytest
import torch

from freestyle_core.errors import ShapeError
from freestyle_core.visualize.contact_sheet import MARGIN, contact_sheet, plain_sheet, square_sheet


def test_contact_sheet_places_every_view_in_its_row():
    red = torch.tensor([1.0, 0, 0])[None, :, None, None].expand(3, 3, 8, 8)
    blue = torch.tensor([0.0, 0, 1])[None, :, None, None].expand(2, 3, 16, 16)
    sheet = contact_sheet([("original", red), ("edited", blue)], tile=32)
    height, width = sheet.shape[1:]
    assert height == MARGIN + 2 * (32 + MARGIN)
    left = width - 3 * (32 + MARGIN)
    for column in range(3):
        x = left + column * (32 + MARGIN) + 16
        assert sheet[:, MARGIN + 16, x].tolist() == [1.0, 0.0, 0.0]
        if column < 2:
            assert sheet[:, 2 * MARGIN + 32 + 16, x].tolist() == [0.0, 0.0, 1.0]
    paper = sheet[:, 0, 0]
    label = sheet[:, MARGIN : MARGIN + 32, :left]
    assert (label != paper[:, None, None]).any()


def test_a_view_on_a_contact_sheet_is_160_pixels_with_8_around():
    one, two = (contact_sheet([("a", torch.zeros(n, 3, 4, 4))]) for n in (1, 2))
    assert one.shape[1] == 8 + 160 + 8
    assert two.shape[2] - one.shape[2] == 160 + 8


def test_contact_sheet_refuses_nothing():
    with pytest.raises(ShapeError, match="at least one"):
        contact_sheet([])
    with pytest.raises(ShapeError, match="at least one"):
        contact_sheet([("x", torch.zeros(0, 3, 8, 8))])


def test_square_sheet_fills_rows_from_the_left_and_pads_with_black():
    views = [torch.full((3, 1, 2), float(n)) for n in (1, 2, 3)]
    sheet = square_sheet(views)
    expected = torch.tensor([[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 0.0, 0.0]])
    assert torch.equal(sheet, expected.expand(3, 2, 4))
    assert torch.equal(square_sheet(views[:1]), views[0])
    assert square_sheet(views[:2]).shape == (3, 1, 4)  # one row of two


def test_plain_sheet_has_one_row_per_batch():
    rows = [torch.zeros(2, 3, 4, 5), torch.ones(2, 3, 4, 5)]
    sheet = plain_sheet(rows)
    assert sheet.shape == (3, 8, 10)
    assert sheet[:, :4].eq(0).all() and sheet[:, 4:].eq(1).all()
