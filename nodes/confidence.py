"""Mesh Confidence: a mesh that says which of its parts were seen, and a picture of that."""

from comfy_api.latest import io

from ..freestyle_core.files.media.mesh import save_mesh
from ..freestyle_core.files.names import output_prefix
from ..freestyle_core.method.confidence import with_confidence
from ..freestyle_core.method.fewshot import few_shot_set
from ..freestyle_core.method.mesh import MeshSettings, extract_mesh, metres_per_unit
from ..freestyle_core.progress import Portion
from ..freestyle_core.visualize.heat import heat_picture
from . import adapt
from .rules import refusal
from .schema import ADVANCED, CamerasSocket, PortraitSocket, file_outputs, schema

_MESH = MeshSettings()
MESHED = 0.5  # of the time


class MeshConfidence(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "MeshConfidence",
            display_name="Mesh Confidence",
            description="Says of every part of a portrait's mesh how far to trust it: whether the "
            "views it was learnt from showed it, and whether the edited pictures agreed there.",
            search_aliases=["heat map", "uncertainty", "coverage", "visibility", "quality", "mesh"],
            is_output_node=True,
            inputs=[
                PortraitSocket.Input("portrait", tooltip="The portrait to mesh and to judge."),
                CamerasSocket.Input(
                    "cameras", tooltip="The cameras it was learnt from, of MultiView Camera Grid."
                ),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip="The edited pictures it was learnt from, in the order of the cameras. "
                    "Left open, only what was seen counts, not whether the edits agreed.",
                ),
                io.Int.Input(
                    "resolution",
                    default=_MESH.resolution,
                    min=32,
                    max=512,
                    step=16,
                    tooltip="Grid cells per side of the cube around the head. More is finer; time "
                    "and memory grow with the cube.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="mesh/confidence",
                    tooltip="Folder and start of the GLB's name inside ComfyUI's output folder; a "
                    "number is added, so nothing is overwritten.",
                ),
                io.Float.Input(
                    "density_level",
                    default=_MESH.level,
                    min=0.1,
                    max=1000.0,
                    step=0.5,
                    optional=True,
                    tooltip="Density at which the surface lies. Lower is a fuller shape with more "
                    "loose bits, higher a tighter one with holes.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="heat",
                    tooltip="The mesh from both sides, the front and the back: blue is sure, red "
                    "is made up.",
                ),
                io.Float.Output(
                    display_name="confidence",
                    tooltip="Mean of all vertices, from 0 to 1.",
                ),
                io.String.Output(
                    display_name="glb_path",
                    tooltip="A GLB with the attribute _CONFIDENCE at every vertex, relative to the "
                    "output folder.",
                ),
                *file_outputs("glb", "The GLB file, for nodes that take 3D files."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None):
        return True if filename_prefix is None else refusal(output_prefix, filename_prefix)

    @classmethod
    def execute(
        cls,
        portrait,
        cameras,
        resolution,
        filename_prefix,
        images=None,
        density_level=_MESH.level,
    ):
        progress = adapt.NodeProgress(cls.hidden.unique_id, "density, slab")
        views = cameras
        if images is not None:
            views = few_shot_set(portrait, adapt.images_in(images), cameras, "edited")
        settings = MeshSettings(resolution=resolution, level=density_level)
        with adapt.on_device(portrait) as device:
            portrait = portrait.to(device, networks=False)
            mesh = extract_mesh(portrait, settings=settings, progress=Portion(progress, 0, MESHED))
            mesh = with_confidence(
                mesh,
                portrait,
                views,
                head_height_m=settings.head_height_m,
                progress=Portion(progress, MESHED, 1),
            )
        rig = portrait.renderer.config.rig()
        heat = heat_picture(mesh, rig, scale=metres_per_unit(rig, settings.head_height_m))
        path, relative = adapt.new_output_path(filename_prefix, ".glb")
        save_mesh(path, mesh)
        assert mesh.confidence is not None
        mean = float(mesh.confidence.mean())
        adapt.say(cls.hidden.unique_id, adapt.tr("confidence {} in the mean", f"{mean:.2f}"))
        return io.NodeOutput(adapt.images_out(heat[None]), mean, relative, *adapt.files_out(path))
