"""The paper's own numbers (Tables 1 and 2), to stand beside ours; none was measured here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A row as printed: CLIP score, time. The user study's columns cannot be repeated here."""

    label: str
    clip: float
    minutes: float | None = None


TABLE_1 = {
    "dreamfusion": Published("DreamFusion", 0.304, 40),
    "3dgan-inv": Published("3DGAN-Inv", 0.229, 3),
    "hfgi3d": Published("HFGI3D", 0.310, 10),
    "full": Published("Ours", 0.332, 3),
}
TABLE_2 = {
    "no-i2t": Published("w/o I2T", 0.251),
    "no-pretraining": Published("w/o I2T pre-training", 0.113),
    "no-spatial": Published("w/o w_s spatial dimension", 0.282),
    "full": Published("Ours", 0.332),
}
