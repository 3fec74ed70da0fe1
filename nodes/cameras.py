"""MultiView Camera Grid and Turntable Cameras: where the pictures are taken from."""

from comfy_api.latest import io

from ..freestyle_core.geometry.cameras import EASINGS, grid_cameras, turntable_cameras, with_front
from ..freestyle_core.pipeline import PortraitSettings
from .schema import ADVANCED, CamerasSocket, PortraitSocket, schema

_PORTRAIT_TOOLTIP = (
    "Whose model the cameras are for: it decides their distance and lens, not their angles."
)


class MultiViewCameraGrid(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "MultiViewCameraGrid",
            display_name="MultiView Camera Grid",
            description="Places the exact front view first, then a grid of views around it: "
            "the pictures that are stylised and learnt from.",
            search_aliases=["camera", "multi view", "angles", "views"],
            inputs=[
                PortraitSocket.Input("portrait", tooltip=_PORTRAIT_TOOLTIP),
                io.Int.Input(
                    "views_per_side",
                    default=PortraitSettings.views,
                    min=2,
                    max=16,
                    tooltip="Views per row and per column: n gives n x n + 1 pictures. More "
                    "is steadier from every side; time grows with the square.",
                ),
                io.Float.Input(
                    "yaw_range_deg",
                    default=30.0,
                    min=0.0,
                    max=90.0,
                    step=1.0,
                    tooltip="How far the views go to each side, in degrees. Most models know "
                    "faces up to about 30.",
                ),
                io.Float.Input(
                    "pitch_range_deg",
                    default=30.0,
                    min=0.0,
                    max=80.0,
                    step=1.0,
                    tooltip="How far the views go up and down, in degrees.",
                ),
                CamerasSocket.Input(
                    "front",
                    optional=True,
                    tooltip="The camera of the first view, in place of the exact front: that of a "
                    "photograph, from Align Photo.",
                ),
            ],
            outputs=[
                CamerasSocket.Output(
                    display_name="cameras",
                    tooltip="The cameras, front view first. Use the same ones for Triplane Render "
                    "and I2T Finetune.",
                ),
                io.Int.Output(display_name="views", tooltip="Number of cameras."),
            ],
        )

    @classmethod
    def execute(cls, portrait, views_per_side, yaw_range_deg, pitch_range_deg, front=None):
        cameras = grid_cameras(
            views_per_side,
            portrait.renderer.config.rig(),
            yaw_range_deg=yaw_range_deg,
            pitch_range_deg=pitch_range_deg,
        )
        if front is not None:
            cameras = with_front(cameras, front.cam_to_world[0].flatten().tolist())
        return io.NodeOutput(cameras, len(cameras))


class TurntableCameras(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "TurntableCameras",
            display_name="Turntable Cameras",
            description="Places the cameras of a video that turns around the head.",
            search_aliases=["camera", "orbit", "video", "animation", "rotate"],
            inputs=[
                PortraitSocket.Input("portrait", tooltip=_PORTRAIT_TOOLTIP),
                io.Int.Input(
                    "frames",
                    default=72,
                    min=2,
                    max=1000,
                    tooltip="Pictures on the path. At 24 per second, 72 last 3 seconds.",
                ),
                io.Combo.Input(
                    "path",
                    options=["sweep", "ellipse", "orbit"],
                    default="sweep",
                    tooltip="sweep: from side to side and back. ellipse: an oval around the front "
                    "view. orbit: all the way round, for models that know the back of the head.",
                ),
                io.Float.Input(
                    "yaw_range_deg",
                    default=30.0,
                    min=0.0,
                    max=90.0,
                    step=1.0,
                    tooltip="How far sweep and ellipse go to each side, in degrees; orbit ignores "
                    "it.",
                ),
                io.Float.Input(
                    "pitch_range_deg",
                    default=10.0,
                    min=0.0,
                    max=60.0,
                    step=1.0,
                    tooltip="How far an ellipse goes up and down, in degrees; the other paths "
                    "ignore it.",
                ),
                io.Combo.Input(
                    "easing",
                    options=list(EASINGS),
                    default=EASINGS[0],
                    optional=True,
                    tooltip="How the time passes. smooth: a sweep slows down where it turns back. "
                    "even: the same angle every frame. slow ends: the head starts and stops "
                    "gently.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                CamerasSocket.Output(
                    display_name="cameras",
                    tooltip="One camera per frame; the last leads back to the first, so the video "
                    "loops.",
                )
            ],
        )

    @classmethod
    def execute(cls, portrait, frames, path, yaw_range_deg, pitch_range_deg, easing=EASINGS[0]):
        cameras = turntable_cameras(
            frames,
            portrait.renderer.config.rig(),
            kind=path,
            yaw_range_deg=yaw_range_deg,
            pitch_range_deg=pitch_range_deg,
            easing=easing,
        )
        return io.NodeOutput(cameras)
