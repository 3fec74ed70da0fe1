"""Ip2p SDEdit Stylize: pictures of a head, restyled as a few words say."""

import logging
from dataclasses import replace

from comfy_api.latest import io

from ..freestyle_core.files.finetune_cache import open_store
from ..freestyle_core.kept_edits import KeptEdits
from ..freestyle_core.method.prompts import prompt_notes
from ..freestyle_core.method.stylize import (
    StylizeSettings,
    bytes_per_view,
    stylize_views,
)
from ..freestyle_core.presets import PRESETS
from . import adapt
from .schema import (
    ADVANCED,
    DEFAULT_PRESET,
    EditorSocket,
    preset_input,
    schema,
    seed_input,
)

SHEET = 16  # finished pictures shown side by side while restyling
_STYLIZE = StylizeSettings()


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
                *editing_inputs(),
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
    def validate_inputs(cls, style, template=_STYLIZE.template):
        return check_words(style, template)

    @classmethod
    def execute(
        cls,
        editor,
        images,
        style,
        batch_size=_STYLIZE.batch_size,
        preset=DEFAULT_PRESET,
        **options,
    ):
        node_id = cls.hidden.unique_id
        views = adapt.images_in(images)
        per_view = bytes_per_view(editor, views)
        settings = edit_settings(preset=preset, batch_size=batch_size, **options)
        for line in prompt_notes(style, editor):
            adapt.note(node_id, line)
        kept = KeptEdits(open_store(adapt.store_folder()), editor, views, style, settings)
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


def editing_inputs():
    """Return the inputs that say how pictures are edited."""
    return [
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
            display_name="steps (0: auto)",
            default=0,
            min=0,
            max=100,
            tooltip="Denoising steps for tau 1; a smaller tau skips the first of them. "
            "More is slower. The embedded editor is as good with 10; full size wants about "
            "20. 0: what the preset says.",
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
            tooltip="The sentence given to the editor; {style} and {decorative} are filled in.",
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
        preset_input(),
    ]


def edit_settings(*, preset, steps=0, image_guidance, text_guidance, **options):
    """Return the settings of an edit: what is set by hand, else what preset and editor say."""
    return StylizeSettings(
        steps=steps or PRESETS[preset].steps,
        image_guidance=image_guidance or None,
        text_guidance=text_guidance or None,
        **options,
    )


def check_words(style, template):
    """Return True, or what is wrong with the words; None comes from another node."""
    if style is not None and not style.strip():
        return "style is empty: say in a few words what the head shall look like"
    if template is not None and "{style}" not in template:
        return (
            "template has no {style}: write {style} where the style's words belong, as in "
            f'"{_STYLIZE.template}"'
        )
    return True
