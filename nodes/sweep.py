"""Style Sweep: the pictures of a video in which one style turns into another."""

from comfy_api.latest import io

from ..freestyle_core.visualize.mix_video import render_sweep
from . import adapt
from .schema import CamerasSocket, PortraitSocket, schema, space_input


class StyleSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "StyleSweep",
            display_name="Style Sweep",
            description="Renders a video in which one portrait turns into another of the same "
            "generator: each picture from its own camera, of its own mix.",
            search_aliases=[
                "morph",
                "blend",
                "interpolate",
                "transition",
                "video",
                "animation",
                "style",
            ],
            inputs=[
                PortraitSocket.Input("portrait_a", tooltip="The portrait it starts from."),
                PortraitSocket.Input(
                    "portrait_b",
                    tooltip="The portrait it turns into: another style, another head, or the same "
                    "head before it was restyled.",
                ),
                CamerasSocket.Input(
                    "cameras",
                    tooltip="One picture each, from Turntable Cameras: the head turns while it "
                    "changes.",
                ),
                io.Boolean.Input(
                    "there_and_back",
                    default=True,
                    tooltip="From A to B and back again, so that the video loops. Off goes from A "
                    "to B once.",
                ),
                space_input(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", tooltip="One picture per camera, for Create Video."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, portrait_a, portrait_b, cameras, there_and_back, space="auto"):
        progress = adapt.NodeProgress(cls.hidden.unique_id, "mixing, picture")
        with adapt.on_device(portrait_a, portrait_b) as device:
            pictures = render_sweep(
                portrait_a.to(device, networks=False),
                portrait_b.to(device, networks=False),
                cameras.to(device),
                there_and_back=there_and_back,
                space=space,
                progress=progress,
            )
        return io.NodeOutput(adapt.images_out(pictures))
