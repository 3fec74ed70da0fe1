"""Style Sweep: the pictures of a video in which one style turns into another, or through four."""

from comfy_api.latest import io

from ..freestyle_core.visualize.mix_video import render_sweep
from . import adapt
from .schema import CamerasSocket, PortraitSocket, further_portrait, schema, space_input


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
                    "to B once. With C and D: through all of them.",
                ),
                space_input(),
                further_portrait("portrait_c", "Comes after B, on the way on or back to A."),
                further_portrait("portrait_d", "Comes after B, and after C where there is one."),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", tooltip="One picture per camera, for Create Video."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        portrait_a,
        portrait_b,
        cameras,
        there_and_back,
        space="auto",
        portrait_c=None,
        portrait_d=None,
    ):
        progress = adapt.NodeProgress(cls.hidden.unique_id, "mixing, picture")
        portraits = [portrait_a, portrait_b, portrait_c, portrait_d]
        portraits = [portrait for portrait in portraits if portrait is not None]
        with adapt.on_device(*portraits) as device:
            there = [portrait.to(device, networks=False) for portrait in portraits]
            pictures = render_sweep(
                there[0],
                there[1],
                cameras.to(device),
                others=there[2:],
                there_and_back=there_and_back,
                space=space,
                progress=progress,
            )
        return io.NodeOutput(adapt.images_out(pictures))
