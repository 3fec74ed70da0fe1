"""What a page of styles shows, read from its text."""

import base64
import io
import json
import re

import numpy as np
import torch
from PIL import Image


def page_data(text):
    """Return what the page's script is given: how many views, and its styles."""
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(data)


def strip(style):
    """Return the pictures of a style side by side [3,H,N*W], in [0,1]."""
    kind, _, packed = style["strip"].partition(";base64,")
    assert kind == "data:image/jpeg"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(packed))).convert("RGB"))
    return torch.from_numpy(picture.copy()).permute(2, 0, 1) / 255
