"""Save Portrait, Load Portrait and Portrait Mesh: what leaves the graph, and comes back."""

from comfy_api.latest import io

from ..freestyle_core.files.media.mesh import save_mesh
from ..freestyle_core.files.names import output_prefix
from ..freestyle_core.files.portrait import load_portrait, save_portrait
from ..freestyle_core.method.mesh import PIECE, MeshSettings, extract_mesh, share_of_head
from . import adapt
from .rules import refusal
from .schema import (
    ADVANCED,
    EG3DSocket,
    PortraitSocket,
    file_outputs,
    head_height_input,
    schema,
)

_MESH = MeshSettings()


class SavePortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "SavePortrait",
            display_name="Save Portrait",
            description="Writes a portrait as one file, from which Load Portrait gives it back "
            "exactly.",
            search_aliases=["export", "save", "file"],
            is_output_node=True,
            inputs=[
                PortraitSocket.Input("portrait", tooltip="The portrait to keep."),
                io.String.Input(
                    "filename_prefix",
                    default="portraits/portrait",
                    tooltip="Folder and start of the name inside ComfyUI's output folder; a number "
                    "is added, so nothing is overwritten.",
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="path", tooltip="The file, relative to the output folder."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix):
        return True if filename_prefix is None else refusal(output_prefix, filename_prefix)

    @classmethod
    def execute(cls, portrait, filename_prefix):
        path, relative = adapt.new_output_path(filename_prefix, ".safetensors")
        save_portrait(path, adapt.portrait_to_save(portrait))
        adapt.say(cls.hidden.unique_id, adapt.tr("saved {}", relative))
        return io.NodeOutput(relative)


class LoadPortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "LoadPortrait",
            display_name="Load Portrait",
            description="Reads a portrait that Save Portrait wrote.",
            search_aliases=["import", "open", "file"],
            inputs=[
                io.Combo.Input(
                    "portrait",
                    options=adapt.portrait_choices(),
                    tooltip="A portrait in ComfyUI's output or input folder, newest first. Press R "
                    "after saving a new one.",
                ),
                EG3DSocket.Input(
                    "eg3d",
                    optional=True,
                    tooltip="The generator the portrait was made with. Left open, it is looked for "
                    "among the embedded one and ComfyUI/models/eg3d.",
                ),
            ],
            outputs=[
                PortraitSocket.Output(
                    display_name="portrait", tooltip="The portrait, exactly as it was saved."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, portrait):
        return True if portrait is None else refusal(adapt.portrait_path, portrait)

    @classmethod
    def fingerprint_inputs(cls, portrait, **_):
        if portrait is None:  # its name comes from another node: any file may be meant
            return adapt.portraits_state()
        return adapt.portrait_path(portrait).stat().st_mtime_ns

    @classmethod
    def execute(cls, portrait, eg3d=None):
        known = adapt.model_files("eg3d")
        return io.NodeOutput(load_portrait(adapt.portrait_path(portrait), eg3d=eg3d, known=known))


class PortraitMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "PortraitMesh",
            display_name="Portrait Mesh",
            description="Cuts the surface out of a portrait's density: a coloured mesh for Save 3D "
            "Model, and a GLB file for Preview 3D, Blender and game engines.",
            search_aliases=[
                "marching cubes",
                "glb",
                "geometry",
                "3d print",
                "mesh",
                "stl",
                "sculpt",
            ],
            is_output_node=True,
            inputs=[
                PortraitSocket.Input("portrait", tooltip="The portrait to mesh."),
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
                    default="mesh/portrait",
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
                io.Float.Input(
                    "cut_back",
                    default=_MESH.cut_back,
                    min=0.0,
                    max=0.9,
                    step=0.05,
                    optional=True,
                    tooltip="Share of the depth to cut off the back, which no picture showed: 0 "
                    "keeps the whole head, 0.5 leaves face and ears on a flat back.",
                ),
                io.Int.Input(
                    "max_faces",
                    display_name="max_faces (0: all)",
                    default=_MESH.max_faces,
                    min=0,
                    max=5_000_000,
                    step=1000,
                    optional=True,
                    tooltip="Simplify to about so many triangles, at least 100; 0 keeps all. The "
                    "shape stays, colours get coarser.",
                ),
                io.Boolean.Input(
                    "watertight",
                    default=_MESH.watertight,
                    optional=True,
                    tooltip="For 3D printing: hollows are filled, and the surface is one closed "
                    "piece even after simplifying.",
                ),
                io.Boolean.Input(
                    "flat_base",
                    default=_MESH.flat_base,
                    optional=True,
                    tooltip="End the bust below the shoulders in a flat, closed face. Off keeps "
                    "what the model grew further down.",
                    extra_dict=ADVANCED,
                ),
                head_height_input(_MESH.head_height_m),
            ],
            outputs=[
                io.Mesh.Output(
                    display_name="mesh",
                    tooltip="The mesh in metres, y up, face towards +z, unlit vertex colours.",
                ),
                io.String.Output(
                    display_name="glb_path",
                    tooltip="The GLB file, relative to the output folder; connect it to Preview "
                    "3D's model_file.",
                ),
                *file_outputs("glb", "The GLB file, for nodes that take 3D files."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, max_faces=0, filename_prefix=None):
        if max_faces is not None and max_faces != 0 and max_faces < 100:
            return f"max_faces is {max_faces}: use at least 100, or 0 to keep all triangles"
        return True if filename_prefix is None else refusal(output_prefix, filename_prefix)

    @classmethod
    def execute(cls, portrait, resolution, filename_prefix, density_level=_MESH.level, **options):
        settings = MeshSettings(resolution=resolution, level=density_level, **options)
        progress = adapt.NodeProgress(cls.hidden.unique_id, "density, slab")
        with adapt.on_device(portrait) as device:
            portrait = portrait.to(device, networks=False)
            mesh = extract_mesh(portrait, settings=settings, progress=progress)
        path, relative = adapt.new_output_path(filename_prefix, ".glb")
        save_mesh(path, mesh)
        share = share_of_head(mesh, portrait.renderer.config.rig(), settings)
        if share < PIECE:
            adapt.note(
                cls.hidden.unique_id,
                f"only a piece of the head is left, {share:.0%} of its height: lower density_level "
                "or cut_back",
            )
        said = adapt.tr("{} triangles in {}", len(mesh.faces), relative)
        adapt.say(cls.hidden.unique_id, said)
        return io.NodeOutput(adapt.mesh_out(mesh), relative, *adapt.files_out(path))
