"""Ip2p SDEdit Stylize: pictures of a head, restyled as a few words say."""

import logging
from dataclasses import replace

from comfy_api.latest import io

from ..freestyle_core.method.prompts import prompt_notes
from ..freestyle_core.method.stylize import (
    StylizeSettings,
    bytes_per_view,
    edit_notes,
    stylize_views,
)
from . import adapt
from .kept_edits import KeptEdits
from .schema import ADVANCED, EditorSocket, schema, seed_input

SHEET = 16  # finished pictures shown side by side while restyling
_STYLIZE = StylizeSettings()
_GUIDANCE_START = (
    "0 to 1, share of the steps. Before it, the words and the picture are followed without "
    "guidance, at a third of the time per step. 0: guided from the first step."
)
_GUIDANCE_END = (
    "0 to 1, share of the steps. From there on without guidance, as before guidance_start. 1: "
    "guided to the last step."
)
_REUSE_UNCONDITIONAL = (
    "Guided steps in a row that share the pull of the picture. 2 or 3 save a sixth or more of the "
    "time and change little; 1 shares nothing."
)
_REUSE_FEATURES = (
    "Steps in a row that share the deep features of the network. 2 saves a quarter of the time or "
    "more and changes little, 3 or more cost detail; 1 shares nothing."
)


class Ip2pSDEditStylize(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "Ip2pSDEditStylize",
            display_name="Ip2p SDEdit Stylize",
            description="Restyles pictures of a head as a few words say: InstructPix2Pix, started "
            "from the picture itself with noise added. Any other image editor may stand here.",
            search_aliases=[
                "instruct pix2pix",
                "style transfer",
                "edit",
                "style",
                "stylise",
                "restyle",
                "prompt",
                "text",
            ],
            inputs=[
                EditorSocket.Input("editor", tooltip="The editor, from Load Ip2p Editor."),
                io.Image.Input("images", tooltip="The pictures to restyle, from Triplane Render."),
                io.String.Input(
                    "style",
                    default="a bronze statue",
                    tooltip='The style in a few words: "a bronze statue", "an elf", "a pencil '
                    'sketch". It takes the place of {style} in the template.',
                ),
                io.Float.Input(
                    "tau",
                    default=_STYLIZE.tau,
                    min=0.05,
                    max=1.0,
                    step=0.05,
                    tooltip="How much noise the edit starts from, above 0 to 1. Lower keeps more "
                    "of the original picture; 1 starts from pure noise.",
                ),
                io.Int.Input(
                    "steps",
                    default=20,
                    min=1,
                    max=100,
                    tooltip="Denoising steps for tau 1; a smaller tau skips the first of them. "
                    "More is slower. The embedded editor is as good with 10; full size wants about "
                    "20.",
                ),
                io.Float.Input(
                    "image_guidance",
                    display_name="image_guidance (0: auto)",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="How closely the original picture is followed, up to 10. Higher keeps "
                    "the identity and the pose. 0: what suits the editor (full-size 1.5).",
                ),
                io.Float.Input(
                    "text_guidance",
                    display_name="text_guidance (0: auto)",
                    default=0.0,
                    min=0.0,
                    max=50.0,
                    step=0.5,
                    tooltip="How strongly the words are followed, up to 50. Too high gives harsh "
                    "colours. 0: what suits the editor (full-size 20).",
                ),
                seed_input("Which noise. One noise is shared by all pictures, so they agree."),
                io.String.Input(
                    "template",
                    default=_STYLIZE.template,
                    optional=True,
                    tooltip="The sentence given to the editor; {style} and {decorative} are filled "
                    "in.",
                    extra_dict=ADVANCED,
                ),
                io.String.Input(
                    "decorative",
                    default=_STYLIZE.decorative,
                    optional=True,
                    tooltip="Words about quality that are added to every style.",
                    extra_dict=ADVANCED,
                ),
                io.String.Input(
                    "negative",
                    default=_STYLIZE.negative,
                    optional=True,
                    tooltip="What the pictures should not show.",
                    extra_dict=ADVANCED,
                ),
                io.Int.Input(
                    "batch_size",
                    default=_STYLIZE.batch_size,
                    min=1,
                    max=64,
                    optional=True,
                    tooltip="Pictures edited at once, at most; fewer are taken when little memory "
                    "is free. The result is the same.",
                    extra_dict=ADVANCED,
                ),
                io.Float.Input(
                    "guidance_start",
                    default=_STYLIZE.guidance_interval[0],
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip=_GUIDANCE_START,
                    extra_dict=ADVANCED,
                ),
                io.Float.Input(
                    "guidance_end",
                    default=_STYLIZE.guidance_interval[1],
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip=_GUIDANCE_END,
                    extra_dict=ADVANCED,
                ),
                io.Int.Input(
                    "reuse_unconditional",
                    default=_STYLIZE.reuse_unconditional,
                    min=1,
                    max=100,
                    optional=True,
                    tooltip=_REUSE_UNCONDITIONAL,
                    extra_dict=ADVANCED,
                ),
                io.Int.Input(
                    "reuse_features",
                    default=_STYLIZE.reuse_features,
                    min=1,
                    max=100,
                    optional=True,
                    tooltip=_REUSE_FEATURES,
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="The restyled pictures, same order and size as the ones that came in.",
                ),
                io.String.Output(
                    display_name="style", tooltip="The style's words, for I2T Finetune."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls,
        style,
        template=_STYLIZE.template,
        guidance_start=_STYLIZE.guidance_interval[0],
        guidance_end=_STYLIZE.guidance_interval[1],
    ):
        if style is not None and not style.strip():  # None: it comes from another node
            return "style is empty: say in a few words what the head shall look like"
        if template is not None and "{style}" not in template:
            return (
                "template has no {style}: write {style} where the style's words belong, as in "
                f'"{_STYLIZE.template}"'
            )
        if None not in (guidance_start, guidance_end) and guidance_start > guidance_end:
            return (
                f"guidance_start is {guidance_start:g} and guidance_end {guidance_end:g}: the "
                "start must not lie behind the end; 0 and 1 guide all steps"
            )
        return True

    @classmethod
    def execute(
        cls,
        editor,
        images,
        style,
        image_guidance,
        text_guidance,
        batch_size=_STYLIZE.batch_size,
        guidance_start=_STYLIZE.guidance_interval[0],
        guidance_end=_STYLIZE.guidance_interval[1],
        **options,
    ):
        node_id = cls.hidden.unique_id
        views = adapt.images_in(images)
        per_view = bytes_per_view(editor, views)
        settings = StylizeSettings(
            image_guidance=image_guidance or None,
            text_guidance=text_guidance or None,
            batch_size=batch_size,
            guidance_interval=(guidance_start, guidance_end),
            **options,
        )
        for line in prompt_notes(style, editor):
            adapt.note(node_id, line)
        for line in edit_notes(settings, editor):
            adapt.note(node_id, line)
            settings = replace(settings, reuse_features=1)  # once said
        kept = KeptEdits(editor, views, style, settings)
        if kept.count:
            said = adapt.tr("{} of {} pictures taken from disk", kept.count, len(views))
            adapt.note(node_id, said, level=logging.INFO)
        if kept.missing or not kept.count:
            progress = adapt.NodeProgress(node_id, "restyling, step", sheet=SHEET)
            with adapt.on_device(editor, work_mb=2 * batch_size * per_view // adapt.MIB) as device:
                size = adapt.batch_size(batch_size, per_view, device)
                stylize_views(
                    editor,
                    views[kept.missing].to(device),
                    style,
                    settings=replace(settings, batch_size=size),
                    progress=kept.watched(progress),
                )
        return io.NodeOutput(adapt.images_out(kept.all()), style)
