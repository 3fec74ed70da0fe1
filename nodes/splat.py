"""Portrait to SPLAT: a portrait as Gaussian splats, for ComfyUI's own splat nodes and as a file."""

from typing import Any

from comfy_api.latest import Types, io

from ..freestyle_core.files.media.splat import AXES, SH_0, save_splats
from ..freestyle_core.files.names import output_prefix
from ..freestyle_core.geometry.splats import upside_down
from ..freestyle_core.method.splat import SplatSettings, extract_splats
from ..freestyle_core.types import Splats
from . import adapt
from .rules import refusal
from .schema import ADVANCED, PortraitSocket, head_height_input, schema

_SPLAT = SplatSettings()
# older versions of ComfyUI know neither: the socket is there all the same, so that saved graphs fit
SplatSocket = getattr(io, "Splat", None) or io.Custom("SPLAT")
PlySocket = getattr(io, "File3DSplatAny", None) or io.Custom("FILE_3D_SPLAT_ANY")
NO_SPLATS = "this ComfyUI knows no SPLAT type yet (0.33 does): take the PLY file, or update ComfyUI"


class PortraitToSplat(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "PortraitToSplat",
            display_name="Portrait to SPLAT",
            description="Turns a portrait into Gaussian splats: for Render Splat, Preview Splat "
            "and other splat nodes, and a PLY file for any viewer of splats.",
            search_aliases=["gaussian splatting", "3dgs", "splat", "ply", "gaussians"],
            is_output_node=True,
            inputs=[
                PortraitSocket.Input("portrait", tooltip="The portrait to turn into splats."),
                io.Int.Input(
                    "resolution",
                    default=_SPLAT.resolution,
                    min=16,
                    max=512,
                    step=16,
                    tooltip="Lattice points per side of the cube around the head; every one on "
                    "the surface becomes a splat. Twice as many are four times the splats.",
                ),
                io.Int.Input(
                    "steps",
                    default=_SPLAT.steps,
                    min=0,
                    max=5000,
                    tooltip="Steps in which the splats learn to look like the portrait's own "
                    "pictures. 0 leaves them as sampled: at once, but softer.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="splat/portrait",
                    tooltip="Folder and start of the PLY's name inside ComfyUI's output folder; a "
                    "number is added, so nothing is overwritten.",
                ),
                io.Int.Input(
                    "views",
                    default=_SPLAT.views,
                    min=4,
                    max=400,
                    optional=True,
                    tooltip="Pictures the splats are fitted to, three quarters of them from the "
                    "front.",
                    extra_dict=ADVANCED,
                ),
                io.Float.Input(
                    "density_level",
                    display_name="density_level (0: where it is seen)",
                    default=_SPLAT.level,
                    min=0.0,
                    max=1000.0,
                    step=0.5,
                    optional=True,
                    tooltip="Density of the surface that splats are sampled on. 0 takes the one "
                    "that the pictures show.",
                    extra_dict=ADVANCED,
                ),
                io.Combo.Input(
                    "axes",
                    options=list(AXES[::-1]),
                    default="3dgs",
                    optional=True,
                    tooltip="Of the PLY file. 3dgs: y down, as Preview Splat and most viewers "
                    "show it upright. mesh: y up, face towards +z, to lie on the GLB of Portrait "
                    "Mesh.",
                    extra_dict=ADVANCED,
                ),
                head_height_input(_SPLAT.head_height_m),
            ],
            outputs=[
                SplatSocket.Output(
                    display_name="splat",
                    tooltip="The splats, for Render Splat and other splat nodes. Needs a ComfyUI "
                    "that knows SPLAT (0.33 does).",
                ),
                io.String.Output(
                    display_name="ply_path",
                    tooltip="The PLY file, relative to the output folder.",
                ),
                PlySocket.Output(
                    display_name="ply",
                    tooltip="The PLY file, for Preview Splat and other nodes that take 3D files.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None):
        return True if filename_prefix is None else refusal(output_prefix, filename_prefix)

    @classmethod
    def execute(
        cls, portrait, resolution, steps, filename_prefix, density_level=0.0, axes="3dgs", **options
    ):
        settings = SplatSettings(resolution=resolution, steps=steps, level=density_level, **options)
        progress = adapt.NodeProgress(cls.hidden.unique_id, "fitting splats, step")
        with adapt.on_device(portrait) as device:
            portrait = portrait.to(device, networks=False)
            splats = extract_splats(portrait, settings=settings, progress=progress)
        path, relative = adapt.new_output_path(filename_prefix, ".ply")
        save_splats(path, splats, axes=axes)
        made = splat_out(splats)
        if made is None:
            adapt.note(cls.hidden.unique_id, NO_SPLATS)
        adapt.say(cls.hidden.unique_id, adapt.tr("{} splats in {}", len(splats), relative))
        file = adapt.files_out(path)
        return io.NodeOutput(made, relative, file[0] if file else None)


def splat_out(splats: Splats) -> Any:
    """Return a ComfyUI SPLAT, whose y axis points down; None where ComfyUI has no such type."""
    kind = getattr(Types, "SPLAT", None)
    if kind is None:
        return None
    turned = upside_down(splats)
    harmonics = (turned.colors[:, None] - 0.5) / SH_0  # [P,1,3]
    parts = (turned.positions, turned.scales, turned.rotations, turned.opacities[:, None])
    return kind(*(x[None].float().contiguous() for x in (*parts, harmonics)))
