"""The camera path of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..checks import check_numbers
from ..errors import InputError
from ..files.media.video import frame_rate
from ..geometry.cameras import turntable_cameras
from ..types import CameraBatch, CameraRig

MAX_FRAMES = 10_000
Path = Literal["sweep", "orbit", "ellipse"]


@dataclass(frozen=True)
class TurntableSettings:
    """The camera path of the video."""

    path: Path = "ellipse"
    frames: int = 72
    fps: float = 24.0
    yaw_range_deg: float = 30.0
    pitch_range_deg: float = 10.0  # ellipse only

    def __post_init__(self) -> None:
        check_numbers(self)
        if not 1 <= self.frames <= MAX_FRAMES:
            raise InputError(
                f"a video needs at least 1 frame, got {self.frames}, and at most {MAX_FRAMES}"
            )
        frame_rate(self.fps)

    def cameras(self, rig: CameraRig) -> CameraBatch:
        """Return one camera per frame."""
        return turntable_cameras(
            self.frames,
            rig,
            kind=self.path,
            yaw_range_deg=self.yaw_range_deg,
            pitch_range_deg=self.pitch_range_deg,
        )
