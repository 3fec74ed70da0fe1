"""Style Mix: two portraits become one between."""

from comfy_api.latest import io

from ..freestyle_core.method.mix import mix_portraits
from . import adapt
from .schema import PortraitSocket, schema, space_input


class StyleMix(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "StyleMix",
            display_name="Style Mix",
            description="Makes a portrait between any two of one generator: two styles, two heads, "
            "or a head and its restyled self.",
            search_aliases=["blend", "interpolate", "morph", "style", "mix"],
            inputs=[
                PortraitSocket.Input("portrait_a", tooltip="The portrait at amount 0."),
                PortraitSocket.Input("portrait_b", tooltip="The portrait at amount 1."),
                io.Float.Input(
                    "amount",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 is A, 1 is B, 0.5 lies half-way.",
                ),
                space_input(),
            ],
            outputs=[PortraitSocket.Output(display_name="portrait", tooltip="The mixed portrait.")],
        )

    @classmethod
    def execute(cls, portrait_a, portrait_b, amount, space="auto"):
        with adapt.on_device(portrait_a, portrait_b) as device:
            mixed = mix_portraits(
                portrait_a.to(device, networks=False),
                portrait_b.to(device, networks=False),
                amount,
                space=space,
            )
        return io.NodeOutput(adapt.portrait_home(mixed))
