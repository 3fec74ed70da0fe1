"""EG3D Sampler, Triplane Render and Ip2p SDEdit Stylize: a head, its pictures, their restyling."""

import logging
from dataclasses import replace

from comfy_api.latest import io

from ..freestyle_core.geometry.cameras import front_camera, viewer_camera
from ..freestyle_core.method.prompts import prompt_notes
from ..freestyle_core.method.render import RenderSettings, render_views
from ..freestyle_core.method.sample import sample_portrait
from ..freestyle_core.method.stylize import StylizeSettings, bytes_per_view, stylize_views
from ..freestyle_core.progress import Portion
from ..freestyle_core.visualize.depth_normals import depth_pictures, normal_pictures
from . import adapt
from .kept_edits import KeptEdits
from .schema import (
    ADVANCED,
    CamerasSocket,
    EditorSocket,
    EG3DSocket,
    PortraitSocket,
    schema,
    seed_input,
)

LEAST_SAMPLES, MOST_SAMPLES = 4, 256  # per ray; the library needs 4 to find a surface
RENDERING = 0.9  # of the time of Triplane Render, the rest makes the normals
SHEET = 16  # finished pictures shown side by side while restyling
_RENDER = RenderSettings()
_STYLIZE = StylizeSettings()


class EG3DSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "EG3DSampler",
            display_name="EG3D Sampler",
            description="Invents a head: one seed, one identity, as a triplane that can be "
            "rendered from any side.",
            search_aliases=["random face", "identity", "seed", "person", "character"],
            inputs=[
                EG3DSocket.Input("eg3d", tooltip="The generator, from Load EG3D."),
                seed_input("Which head. The same seed gives the same head on every machine."),
                io.Float.Input(
                    "truncation",
                    default=0.7,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 to 1. Lower is closer to the average head and cleaner; higher is "
                    "more individual, with more flaws.",
                ),
            ],
            outputs=[
                PortraitSocket.Output(
                    display_name="portrait",
                    tooltip="The head: for Triplane Render, the camera nodes and I2T Finetune.",
                )
            ],
        )

    @classmethod
    def execute(cls, eg3d, seed, truncation):
        with adapt.on_device(eg3d):
            portrait = sample_portrait(eg3d, seed, psi=truncation)
        return io.NodeOutput(adapt.portrait_home(portrait))


class TriplaneRender(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "TriplaneRender",
            display_name="Triplane Render",
            description="Takes one picture of a portrait per camera, with alpha, depth and "
            "normals.",
            search_aliases=["render", "views", "turntable", "depth", "normals", "picture", "video"],
            inputs=[
                PortraitSocket.Input("portrait", tooltip="The head to render."),
                CamerasSocket.Input(
                    "cameras",
                    optional=True,
                    tooltip="One picture each, in this order; from MultiView Camera Grid or "
                    "Turntable Cameras. Left open, the front view is taken.",
                ),
                io.Load3DCamera.Input(
                    "camera_info",
                    optional=True,
                    tooltip="One view from ComfyUI's 3D nodes (Create Camera Info, Preview 3D), "
                    "in place of cameras. Its direction, roll and zoom count; distance and lens "
                    "stay the model's own, the only ones it knows.",
                ),
                io.Int.Input(
                    "samples_per_ray",
                    display_name="samples_per_ray (0: auto)",
                    default=0,
                    min=0,
                    max=MOST_SAMPLES,
                    optional=True,
                    tooltip="Points per ray in each of the two passes; 0 takes the model's own "
                    "number. More is cleaner and slower.",
                    extra_dict=ADVANCED,
                ),
                io.Int.Input(
                    "memory_mb",
                    default=_RENDER.memory_mb,
                    min=64,
                    max=65536,
                    optional=True,
                    tooltip="Working memory in MiB at most; less is taken when little is free. "
                    "Less renders in smaller pieces: slower, the same picture.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="One picture per camera, at the model's full size.",
                ),
                io.Mask.Output(
                    display_name="alpha",
                    tooltip="How solid the head is at each pixel: 1 on it, 0 where rays pass by.",
                ),
                io.Image.Output(
                    display_name="depth",
                    tooltip="Grey, nearest point white, empty pixels black; one scale for all "
                    "pictures. Fits depth ControlNets.",
                ),
                io.Image.Output(
                    display_name="normals",
                    tooltip="Which way the surface looks, seen from the camera: red right, green "
                    "up, blue towards you.",
                ),
                io.Mask.Output(
                    display_name="background",
                    tooltip="The opposite of alpha: 1 where the head is not. Join Image with Alpha "
                    "takes it for a transparent picture.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, samples_per_ray=0):
        if samples_per_ray is not None and not (
            samples_per_ray == 0 or LEAST_SAMPLES <= samples_per_ray <= MOST_SAMPLES
        ):
            return (
                f"samples_per_ray is {samples_per_ray}: set 0 for the model's own number, or "
                f"{LEAST_SAMPLES} to {MOST_SAMPLES}"
            )
        return True

    @classmethod
    def execute(
        cls,
        portrait,
        cameras=None,
        camera_info=None,
        samples_per_ray=0,
        memory_mb=_RENDER.memory_mb,
    ):
        rig = portrait.renderer.config.rig()
        if camera_info is not None:
            cameras = viewer_camera(camera_info, rig)
        elif cameras is None:
            cameras = front_camera(rig)
        progress = adapt.NodeProgress(cls.hidden.unique_id, "rendering, view")
        with adapt.on_device(portrait, work_mb=2 * memory_mb) as device:
            portrait = portrait.to(device, networks=False)
            settings = RenderSettings(
                depth_samples=samples_per_ray or None,
                importance_samples=samples_per_ray or None,
                memory_mb=adapt.memory_mb(memory_mb, device),
            )
            rendering = render_views(
                portrait,
                cameras.to(device),
                settings=settings,
                progress=Portion(progress, 0.0, RENDERING),
            )
            normals = normal_pictures(
                portrait, rendering, progress=Portion(progress, RENDERING, 1.0)
            )
        images = adapt.images_out(rendering.image)
        alpha = adapt.mask_out(rendering.alpha, images.shape[1:3])
        return io.NodeOutput(
            images,
            alpha,
            adapt.images_out(depth_pictures(rendering)),
            adapt.images_out(normals),
            1 - alpha,
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
                    default=_STYLIZE.steps,
                    min=1,
                    max=100,
                    tooltip="Denoising steps for tau 1; a smaller tau skips the first of them. "
                    "More is slower, and past about 20 hardly better.",
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
        if style is not None and not style.strip():  # None: it comes from another node
            return "style is empty: say in a few words what the head shall look like"
        if template is not None and "{style}" not in template:
            return (
                "template has no {style}: write {style} where the style's words belong, as in "
                f'"{_STYLIZE.template}"'
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
        **options,
    ):
        node_id = cls.hidden.unique_id
        views = adapt.images_in(images)
        per_view = bytes_per_view(editor, views)
        settings = StylizeSettings(
            image_guidance=image_guidance or None,
            text_guidance=text_guidance or None,
            batch_size=batch_size,
            **options,
        )
        for line in prompt_notes(style, editor):
            adapt.note(node_id, line)
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
