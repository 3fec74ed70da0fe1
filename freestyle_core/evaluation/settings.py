"""The protocol of an evaluation: which cameras, which pairs of views, which words.

Everything here is printed with the scores; equal settings make scores comparable. Read
`EvaluateSettings.held_out`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..checks import check_numbers
from ..errors import InputError
from ..geometry.cameras import orbit_cameras, turntable_cameras
from ..types import CameraBatch, CameraRig

EDGE_DEG = 25.0  # of the held-out views, to each side
# between the rows of every usual grid: 1.3 degrees at least from grids of 2 to 8 and of 10 views
PITCHES_DEG = (-22.5, -12.0, -1.5, 9.0, 19.5)
PATH_YAW_DEG, PATH_PITCH_DEG = 30.0, 10.0


@dataclass(frozen=True)
class EvaluateSettings:
    """How to measure. The defaults are the protocol; other numbers are another one.

    The 5 x 5 held-out views lie within +-25 degrees. The yaws of a row are such that two pairs in
    it are exactly `short_deg` and two exactly `long_deg` apart; every other row is mirrored, so
    that both sides are seen alike.
    """

    short_deg: float = 6.0  # between the two views of a pair, about the point they look at
    long_deg: float = 30.0
    tolerance: float = 0.01  # of the camera's distance: two depths of one point may differ so much
    path_frames: int = 36  # once round an ellipse, for what is measured from frame to frame
    most_pairs: int = 40  # of an angle, each pair counted both ways round
    most_views: int = 50  # of the edited views, evenly chosen where there are more
    template: str = "a photo of {style}"  # t1
    neutral: str = "a photo of a person"  # t0
    pictures: int = 8  # views in each row of the picture

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 0 < self.short_deg < self.long_deg <= 35:
            raise InputError(
                "the angles of pairs must be above 0, rising and at most 35 degrees, got "
                f"{self.short_deg} and {self.long_deg}"
            )
        if not 0 < self.tolerance < 1:
            raise InputError(f"tolerance must lie between 0 and 1, got {self.tolerance}; try 0.01")
        for name, least in (("path_frames", 3), ("most_pairs", 2), ("most_views", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 2 <= self.pictures <= 12:
            raise InputError(f"pictures must be 2 to 12, got {self.pictures}")
        if "{style}" not in self.template:
            raise InputError(f"template must contain {{style}}, got {self.template!r}")

    def held_out(self, rig: CameraRig) -> CameraBatch:
        """Return the 25 cameras on which nothing was trained, row by row from the lowest."""
        yaws: list[float] = []
        for row, pitch in enumerate(PITCHES_DEG):
            side = -1 if row % 2 else 1
            short, far = (_yaw_apart(x, pitch) for x in (self.short_deg, self.long_deg))
            own = (-EDGE_DEG, short - EDGE_DEG, far - EDGE_DEG, far + short - EDGE_DEG, EDGE_DEG)
            yaws += [side * yaw for yaw in own]
        return orbit_cameras(yaws, [pitch for pitch in PITCHES_DEG for _ in range(5)], rig)

    def path(self, rig: CameraRig) -> CameraBatch:
        """Return the cameras of the closed path."""
        return turntable_cameras(
            self.path_frames,
            rig,
            kind="ellipse",
            yaw_range_deg=PATH_YAW_DEG,
            pitch_range_deg=PATH_PITCH_DEG,
        )

    def texts(self, prompt: str) -> tuple[str, str]:
        """Return what a styled and an unstyled head are called."""
        return self.template.replace("{style}", prompt.strip()), self.neutral


def evenly(count: int, most: int) -> list[int]:
    """Return `most` of `count` indices, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(x) for x in torch.linspace(0, count - 1, most).tolist()]


def _yaw_apart(degrees: float, pitch_deg: float) -> float:
    """Return the yaw between two views of one pitch that are so many degrees apart."""
    half = math.sin(math.radians(degrees / 2)) / math.cos(math.radians(pitch_deg))
    return math.degrees(2 * math.asin(half))
