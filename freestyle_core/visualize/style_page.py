"""One head in many styles, as a page that turns it and flips through them. Read `style_page`.

The page is one file: it needs no server and nothing from elsewhere. Every style is a strip of
pictures from the left to the right; the page lays the two that are nearest over each other.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..errors import InputError, ShapeError
from ..files.media.image import to_bytes
from ..geometry.cameras import orbit_cameras
from ..types import CameraBatch, CameraRig

TEMPLATE = Path(__file__).with_name("style_page.html")
YAW_DEG = 32.0  # to each side: most generators know faces up to about 30
MOST_VIEWS = 61
QUALITY = 90  # of a JPEG, of 100


@dataclass(frozen=True)
class ShownStyle:
    """What the page shows of a style; of the plain head too, which has no words."""

    name: str
    words: str
    views: Tensor  # [N,3,H,W], in [0,1], by `page_cameras`


def page_cameras(views: int, rig: CameraRig) -> CameraBatch:
    """Return the cameras of a page, from the left to the right; an odd number has the front.

    Raises InputError unless `views` is an odd number from 3 to 61.
    """
    if views % 2 == 0 or not 3 <= views <= MOST_VIEWS:
        raise InputError(f"views must be an odd number from 3 to {MOST_VIEWS}, got {views}")
    yaws = torch.linspace(-YAW_DEG, YAW_DEG, views)
    return orbit_cameras(yaws, torch.zeros(views), rig)


def style_page(title: str, styles: Sequence[ShownStyle]) -> str:
    """Return the text of a page that shows styles of one head, in this order, the first at first.

    Raises ShapeError unless all have as many pictures of one size.
    """
    shapes = {tuple(style.views.shape) for style in styles}
    if len(shapes) != 1:
        raise ShapeError(f"a page needs styles with views of one size, got {sorted(shapes)}")
    shown = [
        {"name": style.name, "words": style.words, "strip": _strip(style.views)} for style in styles
    ]
    # no text of a pack may end the script element it stands in
    data = json.dumps({"views": shapes.pop()[0], "styles": shown}).replace("<", "\\u003c")
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=html.escape(title), data=data)


def _strip(views: Tensor) -> str:  # [N,3,H,W]
    """Return the pictures side by side, as an address that holds them."""
    wide = rearrange(to_bytes(views), "n h w c -> h (n w) c")
    file = io.BytesIO()
    Image.fromarray(wide).save(file, format="JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
