"""What the tests of kept results share."""

from dataclasses import asdict, replace
from pathlib import Path

import torch

from freestyle_core.files.finetune_cache import (
    finetune_key,
)
from freestyle_core.method.finetune import (
    FinetuneSettings,
)
from freestyle_core.types import StyleCode, Triplane
from tests.tiny import tiny_i2t

ROOT = Path(__file__).resolve().parents[3]


SETTINGS = FinetuneSettings(train="i2t", iterations=2, density_points=16, preview_every=0)


def key_of(portraits, sets, **changes):
    described = {"perceptual": "off", "settings": asdict(SETTINGS), **changes}
    return finetune_key(described.pop("parent", "parent"), portraits, sets, **described)


def prompts(sets):
    return [s.prompt for s in sets]


def without_network(result):
    """Return the portraits as learnt without an I2T: planes alone."""
    return [replace(p, style=None) for p in result.portraits]


def with_residuals(result, *values):
    """Return the portraits as learnt with residuals on top, each of one value; None: without."""
    made = []
    for portrait, value in zip(result.portraits, values, strict=True):
        planes = portrait.triplane.planes
        residual = None if value is None else torch.full_like(planes, value)
        style = replace(portrait.style, residual=residual)
        triplane = Triplane(planes + (value or 0.0), portrait.triplane.box_size)
        made.append(replace(portrait, triplane=triplane, style=style))
    return made


RESIDUALS = {"residual_gains": (5.0, 5.0), "residual_smooth": 0.0}


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "flipped bit":
        data[-5] ^= 1
    elif how == "empty":
        data = b""
    path.write_bytes(bytes(data))


def made_up(portraits, number):
    """Return a result of the shape that fine-tuning gives, without the time it takes."""
    network = tiny_i2t(number)
    with torch.no_grad():
        w_s = network.encode(torch.rand(1, 3, 16, 16))
        planes = network.decode(w_s)
    style = StyleCode(w_s, network, "parent")
    portrait = replace(portraits[0], triplane=Triplane(planes, 1.0), style=style)
    return [portrait], {"plane": [float(number)] * 3}
