"""Apply Style and Save Style: a style as a small file that restyles any head of its generator."""

from comfy_api.latest import io

from ..freestyle_core.files.names import output_prefix
from ..freestyle_core.files.style_pack import SUFFIX, load_style_pack, save_style_pack
from ..freestyle_core.method.prompts import prompt_notes
from ..freestyle_core.packs.apply import MOST, apply_style_pack
from ..freestyle_core.packs.learn import MOST_HEADS, PackSettings, make_style_pack
from . import adapt
from .rules import refusal
from .schema import (
    ADVANCED,
    EditorSocket,
    EG3DSocket,
    PortraitSocket,
    StyleSocket,
    schema,
    seed_input,
)

_DEFAULTS = PackSettings()


class ApplyStyle(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        packs = adapt.pack_choices()
        return schema(
            "ApplyStyle",
            display_name="Apply Style",
            description="Restyles a head with a style pack, in a moment: no editor, no training. "
            "A pack fits every head of its generator, restyled and mixed ones too.",
            search_aliases=["style", "pack", "preset", "lora", "fast", "restyle"],
            inputs=[
                PortraitSocket.Input(
                    "portrait", tooltip="The head to restyle, from EG3D Sampler or Load Portrait."
                ),
                io.Combo.Input(
                    "pack",
                    options=packs,
                    default=packs[0],
                    tooltip="The style: one that comes with this pack, for the embedded EG3D, or "
                    "one in ComfyUI's output or input folder. Press R after making a new one.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=MOST,
                    step=0.05,
                    tooltip="How much of the style: 0 leaves the head as it is, 1 is the style as "
                    "it was learnt, above 1 overdoes it.",
                ),
                StyleSocket.Input(
                    "style",
                    optional=True,
                    tooltip="A pack from Save Style, taken in place of the one chosen above.",
                ),
            ],
            outputs=[
                PortraitSocket.Output(
                    display_name="portrait", tooltip="The restyled head, ready to render."
                ),
                io.String.Output(display_name="words", tooltip="The words of the style."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, pack):
        return True if pack is None else refusal(adapt.pack_path, pack)

    @classmethod
    def fingerprint_inputs(cls, pack, **_):
        if pack is None:  # its name comes from another node: any file may be meant
            return adapt.packs_state()
        return adapt.pack_path(pack).stat().st_mtime_ns

    @classmethod
    def execute(cls, portrait, pack, strength, style=None):
        chosen = style if style is not None else load_style_pack(adapt.pack_path(pack))
        with adapt.on_device(portrait, chosen) as device:
            restyled = apply_style_pack(chosen, portrait.to(device, networks=False), strength)
        adapt.say(cls.hidden.unique_id, chosen.prompt)
        return io.NodeOutput(adapt.portrait_home(restyled), chosen.prompt)


class SaveStyle(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "SaveStyle",
            display_name="Save Style",
            description="Learns a style on several heads at once and writes it as a small file, a "
            "style pack: Apply Style then restyles every other head with it in a moment.",
            search_aliases=["style", "pack", "preset", "lora", "train", "export"],
            is_output_node=True,
            inputs=[
                EG3DSocket.Input("eg3d", tooltip="The generator whose heads the pack is for."),
                EditorSocket.Input("editor", tooltip="The editor that shows the style."),
                io.String.Input(
                    "style",
                    default="a bronze statue",
                    tooltip="The style in a few words, as in Ip2p SDEdit Stylize.",
                ),
                io.Int.Input(
                    "heads",
                    default=_DEFAULTS.heads,
                    min=1,
                    max=MOST_HEADS,
                    tooltip="How many heads the style is learnt on. More fits new heads better; "
                    "editing takes in proportion longer.",
                ),
                io.Int.Input(
                    "views",
                    default=_DEFAULTS.views,
                    min=2,
                    max=32,
                    tooltip="views x views pictures of each head are edited, and its front.",
                ),
                io.Int.Input(
                    "iterations",
                    default=_DEFAULTS.iterations,
                    min=1,
                    max=100_000,
                    tooltip="Training steps, for all heads together. More is closer to the edits; "
                    "time grows in proportion.",
                ),
                seed_input("Which heads are taken, the edit's noise, and the training."),
                io.String.Input(
                    "filename_prefix",
                    default="styles/style",
                    tooltip="Folder and start of the name inside ComfyUI's output folder; a number "
                    "is added, so nothing is overwritten.",
                ),
                io.String.Input(
                    "licence",
                    default="",
                    optional=True,
                    tooltip="The licence under which you pass the pack on; it is written into it.",
                    extra_dict=ADVANCED,
                ),
                io.Combo.Input(
                    "perceptual",
                    options=adapt.PERCEPTUAL_CHOICES,
                    default=adapt.PERCEPTUAL_AUTO,
                    optional=True,
                    tooltip="The features by which pictures are compared, as in I2T Finetune.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                StyleSocket.Output(display_name="style", tooltip="The pack, for Apply Style."),
                io.String.Output(
                    display_name="file", tooltip="Its file inside ComfyUI's output folder."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, style, filename_prefix):
        if style is not None and not style.strip():  # None: it comes from another node
            return "style is empty: say in a few words what the heads shall become"
        return True if filename_prefix is None else refusal(output_prefix, filename_prefix)

    @classmethod
    def execute(
        cls,
        eg3d,
        editor,
        style,
        heads,
        views,
        iterations,
        seed,
        filename_prefix,
        licence="",
        perceptual=adapt.PERCEPTUAL_AUTO,
    ):
        node_id = cls.hidden.unique_id
        path, relative = adapt.new_output_path(filename_prefix, SUFFIX)
        settings = PackSettings(heads=heads, views=views, iterations=iterations, seed=seed)
        for remark in prompt_notes(style, editor):
            adapt.note(node_id, remark)
        distance = adapt.perceptual_distance(perceptual, eg3d.config.image_resolution)
        progress = adapt.NodeProgress(node_id, "learning the style")
        work_mb = adapt.TRAIN_MB + adapt.TRAIN_VIEW_MB * settings.batch_size
        with adapt.on_device(eg3d, editor, distance, work_mb=work_mb):
            pack = make_style_pack(
                eg3d,
                editor,
                distance,
                style,
                settings=settings,
                licence=licence,
                progress=progress,
            )
        pack.network.to("cpu")
        save_style_pack(path, pack)
        adapt.say(node_id, adapt.tr("saved {}", relative))
        return io.NodeOutput(pack, relative)
