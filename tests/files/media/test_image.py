import numpy as np
import pytest
import torch
from PIL import Image

from freestyle_core.errors import FileFormatError, ShapeError
from freestyle_core.files.media.image import load_image, load_mask, save_image


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


def test_pictures_and_masks_are_turned_as_their_file_says(tmp_path):
    """Orientation 6: what is to be the top is stored as the left-hand side."""
    upright = np.zeros((2, 3, 3), np.uint8)
    upright[0, 0] = 255  # one white corner, top left
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.rot90(upright)).save(tmp_path / "i.png", exif=exif)
    expected = torch.zeros(2, 3)
    expected[0, 0] = 1
    assert torch.equal(load_image(tmp_path / "i.png"), expected.expand(3, 2, 3))
    assert torch.equal(load_mask(tmp_path / "i.png"), expected)


def test_grey_of_16_bits_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257 * 100], [257 * 200, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "i.png")
    expected = torch.tensor([[0, 100], [200, 255]]) / 255
    torch.testing.assert_close(load_image(tmp_path / "i.png"), expected.expand(3, 2, 2))
    torch.testing.assert_close(load_mask(tmp_path / "i.png"), expected)


def test_a_torn_file_is_refused(tmp_path):
    save_image(tmp_path / "whole.png", torch.rand(3, 64, 64))
    (tmp_path / "i.png").write_bytes((tmp_path / "whole.png").read_bytes()[:3000])
    with pytest.raises(FileFormatError, match="no readable picture"):
        load_image(tmp_path / "i.png")


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
