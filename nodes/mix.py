"""Style Mix and Style Mix of Many: portraits become one between them."""

from comfy_api.latest import io

from ..freestyle_core.errors import InputError
from ..freestyle_core.method.areas import PARTS, LiftSettings, masked_area, named_area
from ..freestyle_core.method.mix import mix_many, mix_portraits
from . import adapt
from .schema import ADVANCED, PortraitSocket, further_portrait, schema, space_input

NO_REGION = "off"
_NO_WEIGHT = "all weights are 0: give at least one of the connected portraits a weight"


class StyleMix(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "StyleMix",
            display_name="Style Mix",
            description="Makes a portrait between any two of one generator: two styles, two heads, "
            "or a head and its restyled self. Everywhere, or only where a mask is painted.",
            search_aliases=["blend", "interpolate", "morph", "style", "mix", "region", "inpaint"],
            inputs=[
                PortraitSocket.Input(
                    "portrait_a",
                    tooltip="The portrait at amount 0, and outside the mask or region.",
                ),
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
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Mix only where this is white: painted on A's front view, at its size "
                    "or a whole number of times as large. It takes hold on the head's surface and "
                    "shows from every side.",
                ),
                io.Combo.Input(
                    "region",
                    options=[NO_REGION, *PARTS],
                    default=NO_REGION,
                    optional=True,
                    tooltip="Mix only in this part of the head, all round; off for all of it. With "
                    "a mask, only where both are. Ears belong to the hair.",
                ),
                io.Boolean.Input(
                    "through",
                    default=False,
                    optional=True,
                    tooltip="The mask goes through to the back of the head, instead of ending "
                    "below the surface that the front view shows.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[PortraitSocket.Output(display_name="portrait", tooltip="The mixed portrait.")],
        )

    @classmethod
    def execute(
        cls,
        portrait_a,
        portrait_b,
        amount,
        space="auto",
        mask=None,
        region=NO_REGION,
        through=False,
    ):
        with adapt.on_device(portrait_a, portrait_b) as device:
            a, b = (p.to(device, networks=False) for p in (portrait_a, portrait_b))
            area = _area([a, b], mask, region, through)
            mixed = mix_portraits(a, b, amount, space=space, area=area)
        return io.NodeOutput(adapt.portrait_home(mixed))


class StyleMixMany(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "StyleMixMany",
            display_name="Style Mix of Many",
            description="Makes one portrait of up to four of one generator, each with a weight.",
            search_aliases=["blend", "interpolate", "morph", "style", "mix", "weights"],
            inputs=[
                PortraitSocket.Input("portrait_a", tooltip="The first portrait."),
                PortraitSocket.Input("portrait_b", tooltip="The second portrait."),
                further_portrait("portrait_c", "A third portrait."),
                further_portrait("portrait_d", "A fourth portrait."),
                *(_weight(letter) for letter in "abcd"),
                space_input(),
            ],
            outputs=[PortraitSocket.Output(display_name="portrait", tooltip="The mixed portrait.")],
        )

    @classmethod
    def execute(
        cls,
        portrait_a,
        portrait_b,
        weight_a,
        weight_b,
        weight_c,
        weight_d,
        space="auto",
        portrait_c=None,
        portrait_d=None,
    ):
        given = zip(
            (portrait_a, portrait_b, portrait_c, portrait_d),
            (weight_a, weight_b, weight_c, weight_d),
            strict=True,
        )
        pairs = [(portrait, weight) for portrait, weight in given if portrait is not None]
        total = sum(weight for _, weight in pairs)
        if total <= 0:
            raise InputError(_NO_WEIGHT)
        with adapt.on_device(*(portrait for portrait, _ in pairs)) as device:
            mixed = mix_many(
                [portrait.to(device, networks=False) for portrait, _ in pairs],
                [weight / total for _, weight in pairs],
                space=space,
            )
        return io.NodeOutput(adapt.portrait_home(mixed))


def _weight(letter):
    return io.Float.Input(
        f"weight_{letter}",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.05,
        tooltip=f"How much of portrait {letter.upper()}, beside the other weights: 1, 1 and 0.5 "
        "are 40, 40 and 20 per cent. It counts where the portrait is connected.",
    )


def _area(portraits, mask, region, through):
    """Return where to mix, None for everywhere."""
    config, areas = portraits[0].renderer.config, []
    if mask is not None:
        settings = LiftSettings(through=through)
        areas.append(masked_area(adapt.mask_in(mask), portraits, settings=settings))
    if region != NO_REGION:
        areas.append(named_area(region, config.rig(), box_size=config.box_size))
    if not areas:
        return None
    return areas[0] if len(areas) == 1 else areas[0] & areas[1]
