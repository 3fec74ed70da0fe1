"""What was found in a photograph, drawn on it: numbered faces, the crop, the head's axes."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..files.media.image import to_bytes
from ..photo.align import Aligned

LEAST_SIDE, MOST_SIDE = 512, 1024  # pixels of the overlay's longer side
BEYOND = (214, 210, 204)  # where the crop reaches beyond the picture
CROP, BOX, POINT = (255, 170, 40), (120, 200, 255), (70, 255, 120)
AXES = (("x", (235, 70, 60)), ("y", (80, 200, 80)), ("z", (70, 120, 255)))
BAND = (24, 24, 24)
Font: TypeAlias = ImageFont.ImageFont | ImageFont.FreeTypeFont


def photo_overlay(
    photo: Tensor,  # [3,H,W] in [0,1], or uint8
    aligned: Aligned,
) -> Tensor:
    """Return [3,h,w] in [0,1]: the photograph with what was found in it, and the angles below."""
    left, top, side = aligned.crop
    height, width = photo.shape[1:]
    # the canvas holds the photograph and the crop, which may reach beyond it
    x0, y0 = min(0.0, left), min(0.0, top)
    x1, y1 = max(width, left + side), max(height, top + side)
    longest = max(x1 - x0, y1 - y0)
    scale = min(max(1.0, LEAST_SIDE / longest), MOST_SIDE / longest)
    line = max(2, round(longest * scale / 300))
    letters = max(14, round(longest * scale / 40))
    font = ImageFont.load_default(size=letters)
    band = 2 * letters + 12
    size = (round((x1 - x0) * scale), round((y1 - y0) * scale) + band)
    canvas = Image.new("RGB", size, BEYOND)
    canvas.paste(_resized(photo, scale), (round(-x0 * scale), round(-y0 * scale)))
    draw = ImageDraw.Draw(canvas)

    def at(x: float, y: float) -> tuple[float, float]:
        return (x - x0) * scale, (y - y0) * scale

    for number, face in enumerate(aligned.faces):
        chosen = number == aligned.index
        box = face.box.tolist()
        color = CROP if chosen else BOX
        draw.rectangle([at(*box[:2]), at(*box[2:])], outline=color, width=max(1, line // 2))
        draw.text(at(box[0], box[1]), f" {number}", fill=color, font=font, anchor="lb")
    draw.rectangle([at(left, top), at(left + side, top + side)], outline=CROP, width=line)
    face = aligned.faces[aligned.index]
    for x, y in face.points.tolist():
        u, v = at(x, y)
        draw.ellipse([u - line, v - line, u + line, v + line], fill=POINT)
    nose = at(*face.points[2].tolist())
    _draw_axes(draw, aligned.camera.cam_to_world[0], nose, 0.22 * side * scale, line, font)
    draw.rectangle([0, size[1] - band, *size], fill=BAND)
    for row, (text, color) in enumerate(_caption(aligned)):
        draw.text((8, size[1] - band + 4 + row * (letters + 2)), text, fill=color, font=font)
    picture = torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8)
    return picture.reshape(size[1], size[0], 3).permute(2, 0, 1).float() / 255


def _resized(photo: Tensor, scale: float) -> Image.Image:
    size = [max(1, round(length * scale)) for length in photo.shape[1:]]
    resized = F.interpolate(photo[None], size=size, mode="bilinear", antialias=True)
    if resized.dtype != torch.uint8:
        return Image.fromarray(to_bytes(resized)[0])
    return Image.fromarray(resized[0].permute(1, 2, 0).cpu().numpy())


def _draw_axes(
    draw: ImageDraw.ImageDraw,
    cam_to_world: Tensor,  # [4,4]
    start: tuple[float, float],
    length: float,  # pixels, of an axis that lies in the picture
    line: int,
    font: Font,
) -> None:
    """Draw where the head's right, its top and its face point to."""
    world_to_camera = cam_to_world[:3, :3].T
    for axis, (name, color) in enumerate(AXES):
        direction = world_to_camera[:, axis].tolist()
        end = (start[0] + length * direction[0], start[1] + length * direction[1])
        draw.line([start, end], fill=color, width=line)
        if math.dist(start, end) > 2 * line:
            draw.text(end, name, fill=color, font=font, anchor="mm")


def _caption(aligned: Aligned) -> list[tuple[str, tuple[int, int, int]]]:
    """Return the lines below the picture and their colours."""
    pose = aligned.pose
    angles = f"yaw {pose.yaw_deg:+.0f}  pitch {pose.pitch_deg:+.0f}  roll {pose.roll_deg:+.0f}"
    rest = f"face {aligned.index} of {len(aligned.faces)}"
    if aligned.is_turned_far:
        rest = "turned far: the other side is guessed"
    return [(angles, (255, 255, 255)), (rest, (255, 210, 120))]
