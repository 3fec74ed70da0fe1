"""Photographs of every kind, and what is none."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from freestyle_core.errors import FileFormatError, InputError
from freestyle_core.files.media.photo import load_photo

W, H = 90, 70


def corners():
    """Return a picture whose left upper quarter is red, the right one green, below blue."""
    a = np.zeros((H, W, 3), np.uint8)
    a[: H // 2, : W // 2, 0] = a[: H // 2, W // 2 :, 1] = a[H // 2 :, :, 2] = 255
    return Image.fromarray(a)


def read(tmp_path, picture, name="p.png", **how):
    picture.save(tmp_path / name, **how)
    image = load_photo(tmp_path / name)
    assert image.dtype == torch.uint8 and image.shape[0] == 3 and image.is_contiguous()
    return image


def test_bytes_come_as_they_are(tmp_path):
    image = read(tmp_path, corners())
    assert image.shape == (3, H, W)
    assert torch.equal(image.permute(1, 2, 0), torch.from_numpy(np.array(corners())))


@pytest.mark.parametrize(
    ("tag", "size", "top_left"),
    [(1, (H, W), 0), (3, (H, W), 2), (6, (W, H), 2), (8, (W, H), 1)],
)
def test_the_camera_s_turn_is_undone(tmp_path, tag, size, top_left):
    # 3: half a turn; 6: the picture lies on its left side, 8: on its right
    exif = Image.Exif()
    exif[0x0112] = tag
    image = read(tmp_path, corners(), exif=exif)
    assert image.shape[1:] == size
    assert image[:, 3, 3].argmax() == top_left


def test_what_is_transparent_shows_white(tmp_path):
    half = Image.new("RGBA", (W, H), (0, 0, 0, 51))  # a fifth
    assert read(tmp_path, half)[:, 0, 0].tolist() == [204, 204, 204]
    grey = Image.new("LA", (W, H), (10, 0))
    assert bool((read(tmp_path, grey) == 255).all())
    listed = corners().quantize(8)
    index = listed.getpixel((2, 2))
    assert read(tmp_path, listed, transparency=index)[:, 2, 2].tolist() == [255, 255, 255]


def test_grey_of_8_and_16_bits_and_of_one(tmp_path):
    assert bool((read(tmp_path, Image.new("L", (W, H), 77)) == 77).all())
    deep = Image.fromarray(np.full((H, W), 257 * 77, np.uint16))
    assert bool((read(tmp_path, deep) == 77).all())
    assert bool((read(tmp_path, deep, "p.tif") == 77).all())
    floats = Image.fromarray(np.full((H, W), 0.2, np.float32))
    assert bool((read(tmp_path, floats, "p.tif") == 51).all())
    assert bool((read(tmp_path, Image.new("1", (W, H), 1)) == 255).all())


def test_cmyk_becomes_rgb(tmp_path):
    image = read(tmp_path, Image.new("CMYK", (W, H), (0, 255, 255, 0)), "p.jpg", quality=95)
    assert image[0].float().mean() > 245 and image[1:].float().mean() < 10  # red


def test_a_colour_profile_counts(tmp_path):
    lab = ImageCms.createProfile("LAB")
    buffer = io.BytesIO(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    srgb = read(tmp_path, Image.new("RGB", (W, H), (10, 200, 90)), icc_profile=buffer.getvalue())
    assert srgb[:, 0, 0].tolist() == [10, 200, 90]
    # one that cannot be used for RGB, and one that is none, are left aside
    for data in (ImageCms.ImageCmsProfile(lab).tobytes(), b"no profile"):
        image = read(tmp_path, Image.new("RGB", (W, H), (10, 200, 90)), icc_profile=data)
        assert image[:, 0, 0].tolist() == [10, 200, 90]


def test_heic_is_named_and_other_files_are_no_pictures(tmp_path):
    path = tmp_path / "phone.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(400))
    with pytest.raises(FileFormatError, match="HEIC.*JPEG"):
        load_photo(path)
    path.write_bytes(b"just words" * 30)
    with pytest.raises(FileFormatError, match="no picture"):
        load_photo(path)
    with pytest.raises(FileFormatError, match="not there"):
        load_photo(tmp_path / "none.jpg")
    with pytest.raises(FileFormatError, match="not there"):
        load_photo(tmp_path)


def test_a_torn_file_is_refused(tmp_path):
    corners().resize((300, 300)).save(tmp_path / "p.jpg", quality=95)
    data = (tmp_path / "p.jpg").read_bytes()
    (tmp_path / "p.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(FileFormatError, match="no readable picture"):
        load_photo(tmp_path / "p.jpg")


def test_sizes_have_limits(tmp_path):
    Image.new("RGB", (63, 500)).save(tmp_path / "p.png")
    with pytest.raises(InputError, match="63 x 500.*at least 64"):
        load_photo(tmp_path / "p.png")
    Image.new("1", (16385, 64)).save(tmp_path / "p.png")
    with pytest.raises(InputError, match="at most 16384"):
        load_photo(tmp_path / "p.png")
    Image.new("1", (12000, 9000)).save(tmp_path / "p.png")  # refused before it is unpacked
    with pytest.raises(InputError, match="100 million"):
        load_photo(tmp_path / "p.png")
