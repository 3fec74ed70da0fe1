"""EG3D Sampler and Triplane Render: a head and its pictures."""

from comfy_api.latest import io

from ..freestyle_core.geometry.cameras import front_camera, viewer_camera
from ..freestyle_core.method.render import RenderSettings, render_views
from ..freestyle_core.method.sample import sample_portrait
from ..freestyle_core.progress import Portion
from ..freestyle_core.visualize.depth_normals import depth_pictures, normal_pictures
from . import adapt
from .schema import (
    ADVANCED,
    CamerasSocket,
    EG3DSocket,
    PortraitSocket,
    schema,
    seed_input,
)

LEAST_SAMPLES, MOST_SAMPLES = 4, 256  # per ray; the library needs 4 to find a surface
RENDERING = 0.9  # of the time of Triplane Render, the rest makes the normals
_RENDER = RenderSettings()


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
