import pytest
import torch
from PIL import Image

from freestyle_core.errors import FileFormatError, ShapeError
from freestyle_core.files.media.image import MARGIN, contact_sheet, load_image, save_image


def test_png_round_trip_is_exact_for_byte_values(tmp_path):
    image = torch.arange(3 * 5 * 7).reshape(3, 5, 7).float() / 255
    save_image(tmp_path / "i.png", image)
    assert Image.open(tmp_path / "i.png").size == (7, 5)
    torch.testing.assert_close(load_image(tmp_path / "i.png"), image, atol=1e-7, rtol=0)


def test_values_outside_are_clamped_and_halves_rounded(tmp_path):
    # 0.5 * 255 = 127.5 rounds to the even 128
    image = torch.tensor([-1.0, 0.5, 2.0])[:, None, None].expand(3, 2, 2)
    save_image(tmp_path / "i.png", image)
    assert Image.open(tmp_path / "i.png").getpixel((0, 0)) == (0, 128, 255)


def test_transparent_pixels_load_as_white(tmp_path):
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "i.png")
    assert torch.equal(load_image(tmp_path / "i.png"), torch.ones(3, 2, 2))


@pytest.mark.parametrize("shape", [(3, 4), (1, 4, 4), (4, 4, 3)])
def test_wrong_shape_is_refused(tmp_path, shape):
    with pytest.raises(ShapeError, match=r"\[N,3,H,W\]"):
        save_image(tmp_path / "i.png", torch.zeros(shape))


def test_nan_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ShapeError, match="NaN"):
        save_image(tmp_path / "i.png", torch.full((3, 4, 4), float("nan")))
    assert list(tmp_path.iterdir()) == []


def test_foreign_and_missing_pictures_are_refused(tmp_path):
    (tmp_path / "i.png").write_text("no picture")
    with pytest.raises(FileFormatError, match="no readable picture"):
        load_image(tmp_path / "i.png")
    with pytest.raises(FileFormatError, match="is not there"):
        load_image(tmp_path / "none.png")


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


def test_contact_sheet_refuses_nothing():
    with pytest.raises(ShapeError, match="at least one"):
        contact_sheet([])
    with pytest.raises(ShapeError, match="at least one"):
        contact_sheet([("x", torch.zeros(0, 3, 8, 8))])
