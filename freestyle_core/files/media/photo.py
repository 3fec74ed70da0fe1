"""Photographs as a camera or a phone writes them, and as people pass them on."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from ...errors import FileFormatError, FreeStyleError, InputError
from .image import eight_bits, has_deep_grey

LEAST_SIDE, MOST_SIDE = 64, 16384  # pixels
MOST_PIXELS = 100_000_000  # 10,000 x 10,000
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


def load_photo(path: Path | str) -> Tensor:
    """Return the picture at `path` as uint8 [3,H,W], the right way up, in sRGB.

    Rotation and colour profile of the file count; transparency shows white; grey, CMYK and 16 bits
    are brought to 8-bit RGB; of an animation the first frame is taken. Raises FileFormatError for
    what is no picture, InputError for one that is too small or too large.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"{path} is not there; check the name and the folder")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `_check_size` is it
            with Image.open(path) as file:
                _check_size(path, file.size)
                picture = _srgb(_flat(ImageOps.exif_transpose(file)))
    except FreeStyleError:
        raise
    except UnidentifiedImageError:
        raise FileFormatError(_unknown(path)) from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FileFormatError(
            f"{path} is no readable picture ({reason}); save it again as JPEG or PNG"
        ) from None
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def _check_size(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if min(size) < LEAST_SIDE:
        raise InputError(
            f"{path} is {width} x {height} pixels; a photograph needs at least "
            f"{LEAST_SIDE} each way"
        )
    if max(size) > MOST_SIDE or width * height > MOST_PIXELS:
        raise InputError(
            f"{path} is {width} x {height} pixels; at most {MOST_SIDE} a side and "
            f"{MOST_PIXELS // 10**6} million in all are read: make it smaller"
        )


def _flat(picture: Image.Image) -> Image.Image:
    """Return a picture of any kind as RGB, or as CMYK, over white."""
    if has_deep_grey(picture):  # of more than 8 bits Pillow only knows grey
        return _with(eight_bits(picture).convert("RGB"), None)
    profile = picture.info.get("icc_profile")
    if picture.mode == "CMYK":
        return _with(picture.copy(), profile)
    if picture.mode in ("L", "1"):
        return picture.convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    elif picture.mode not in ("RGB", "P"):  # YCbCr, LAB, HSV: the profile is of RGB
        profile = None
    return _with(picture.convert("RGB"), profile)


def _with(picture: Image.Image, profile: bytes | None) -> Image.Image:
    picture.info["icc_profile"] = profile
    return picture


def _srgb(picture: Image.Image) -> Image.Image:
    """Return the picture in sRGB; a profile that cannot be used is left aside."""
    profile = picture.info.get("icc_profile")
    if profile:
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            made = ImageCms.profileToProfile(
                picture, own, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
        except (ImageCms.PyCMSError, OSError, ValueError):
            made = None
        if made is not None:
            return made
    return picture.convert("RGB")


def _unknown(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return (
            f"{path} is a HEIC picture, which is not read here; save it as JPEG or PNG (on a "
            "phone: share it as JPEG, or choose 'most compatible' in the camera's settings)"
        )
    return f"{path} is no picture; give a JPEG, PNG, WebP or TIFF"
