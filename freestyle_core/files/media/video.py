"""Videos as MP4: H.264 with 4:2:0 colour and the index first, which every player and browser shows.

`save_video` writes exactly one frame per image. When this PyAV has no H.264 encoder it falls back
to MPEG-4, which desktop players show and some browsers do not.
"""

from __future__ import annotations

import logging
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...errors import FileFormatError, InputError, ShapeError, WriteError
from ..bundle import write_atomically
from .image import to_bytes

log = logging.getLogger(__name__)

# encoder and its options, best first
ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"crf": "16", "preset": "medium"}),
    ("libopenh264", {"b": "6000000"}),
    ("h264_videotoolbox", {"b": "6000000"}),
    ("mpeg4", {"qscale": "3", "b": "8000000"}),
)
MIN_FPS, MAX_FPS = 0.01, 1000.0
MAX_TERM = 65535  # of the fraction that MPEG-4 keeps a rate in
BT709 = 1  # colour matrix, primaries and transfer of HD video, in FFmpeg's numbering
LIMITED_RANGE = 1  # 16..235, what players expect of yuv420p


def save_video(
    path: Path | str,
    images: Tensor,  # [F,3,H,W] in [0,1]
    *,
    fps: float = 24.0,
    scale: int = 1,
) -> str:
    """Write an MP4 of exactly F frames and return the encoder used.

    `scale` enlarges each frame by a whole factor (Lanczos), so that small models are watchable.
    Odd sizes grow by one repeated row or column, because 4:2:0 colour needs even ones.
    """
    rate = frame_rate(fps)
    if images.ndim == 4 and images.shape[0] == 0:
        raise ShapeError("a video needs at least one frame, got none")
    frames = [_prepared(frame, scale) for frame in to_bytes(images)]
    name, options = _best_encoder()
    with write_atomically(path) as temporary:
        try:
            _encode(temporary, frames, rate, name, options)
        except av.error.FFmpegError as error:
            raise WriteError(
                f"cannot write {path}: {error.strerror}; free some space or choose another folder"
            ) from error
    return name


def frame_rate(fps: float) -> Fraction:
    """Return the rate as it is stored in a video, or say that it lies outside 0.01 to 1000."""
    if not MIN_FPS <= fps <= MAX_FPS:
        raise InputError(f"fps must be {MIN_FPS:g} to {MAX_FPS:g}, got {fps}; 24 is usual")
    # the 1001 of the rates of television; MPEG-4 takes no numerator above 65535
    return Fraction(fps).limit_denominator(min(1001, MAX_TERM // math.ceil(fps)))


def load_video(path: Path | str) -> tuple[Tensor, float]:
    """Return the frames [F,3,H,W] in [0,1] and the frame rate of a video file."""
    path = Path(path)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0)
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    except (av.error.FFmpegError, IndexError) as error:
        raise FileFormatError(f"{path} is not a readable video ({error}); save it again") from None
    if not frames:
        raise FileFormatError(f"{path} holds no frames; save it again")
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255, rate


def _best_encoder() -> tuple[str, dict[str, str]]:
    for name, options in ENCODERS:
        try:
            av.codec.Codec(name, "w")
        except ValueError:
            continue
        if name == "mpeg4":
            log.warning("no H.264 encoder here: writing MPEG-4, which browsers may not show")
        return name, options
    raise WriteError("this PyAV cannot write MP4 video; install a newer one: pip install -U av")


def _encode(
    path: Path, frames: list[np.ndarray], rate: Fraction, name: str, options: dict[str, str]
) -> None:
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream(name, rate=rate, options=dict(options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts = index
            frame.time_base = 1 / rate
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _prepared(frame: np.ndarray, scale: int) -> np.ndarray:
    if scale > 1:
        picture = Image.fromarray(frame)
        size = (picture.width * scale, picture.height * scale)
        frame = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
