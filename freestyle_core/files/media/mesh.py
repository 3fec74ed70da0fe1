"""Meshes as GLB (for viewers, Blender, game engines), PLY, OBJ and STL, through trimesh.

A `Mesh` carries sRGB colours with the light already in them. GLB wants linear colours, so they are
converted, stored as floats, and the material is unlit: viewers show them as they are. PLY keeps
and OBJ keep the sRGB values. STL is for printing: millimetres, no colours. `save_mesh` picks the
format by the file name's ending; `load_mesh` reads GLB and PLY back. The confidence of vertices is
the PLY property `float confidence` and the GLB attribute `_CONFIDENCE`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from torch import Tensor
from trimesh.exchange.gltf import export_glb

from ...errors import FileFormatError, InputError
from ...geometry.color import linear_to_srgb, srgb_to_linear
from ...types import Mesh
from ..bundle import write_atomically
from ..names import ending

LINEAR_COLOR = "_COLOR_LINEAR"  # renamed to COLOR_0 in the written file
CONFIDENCE = {"glb": "_CONFIDENCE", "ply": "confidence"}
UNLIT = "KHR_materials_unlit"
MESH_SUFFIXES = (".glb", ".ply", ".obj", ".stl")
READABLE = ("glb", "ply")
MILLIMETRES = 1000.0  # per metre: what slicers read an STL in


def save_mesh(path: Path | str, mesh: Mesh) -> None:
    """Write `mesh` in the format that the ending of `path` says."""
    data = encode_mesh(mesh, mesh_format(path))
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)


def mesh_format(path: Path | str) -> str:
    """Return "glb", "ply", "obj" or "stl" from the ending of `path`."""
    suffix = ending(path)
    if suffix not in MESH_SUFFIXES:
        raise InputError(f"mesh file must end in .glb, .ply, .obj or .stl, got {Path(path).name!r}")
    return suffix[1:]


def encode_mesh(mesh: Mesh, file_format: str) -> bytes:
    """Return the bytes of a "glb", "ply", "obj" or "stl" file."""
    if file_format == "glb":
        return _encode_glb(mesh)
    if file_format == "stl":
        larger = Mesh(mesh.vertices * MILLIMETRES, mesh.faces, mesh.colors)
        data: Any = _as_trimesh(larger).export(file_type="stl")
        return data
    colors = (mesh.colors.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    attributes = _confidence(mesh, file_format)
    whole = _as_trimesh(mesh, vertex_colors=colors.numpy(), vertex_attributes=attributes)
    data = whole.export(file_type=file_format)
    return data.encode() if isinstance(data, str) else data


def load_mesh(path: Path | str) -> Mesh:
    """Return the mesh of a GLB or PLY file, colours as sRGB (white when the file has none)."""
    path = Path(path)
    file_format = mesh_format(path)
    if file_format not in READABLE:
        raise InputError(f"only .glb and .ply meshes are read back, got {path.name!r}")
    try:
        # trimesh raises many kinds of errors on damaged files
        loaded = _single_mesh(trimesh.load(path, file_type=file_format, process=False))
        vertices, faces = np.asarray(loaded.vertices), np.asarray(loaded.faces)
    except Exception as error:
        raise FileFormatError(
            f"cannot read {path} as a {file_format} mesh ({error}); save it again"
        ) from error
    return Mesh(
        torch.from_numpy(vertices.astype(np.float32)),
        torch.from_numpy(faces.astype(np.int64)),
        _colors_of(loaded, is_linear=file_format == "glb"),
        _confidence_of(loaded, file_format),
    )


def _encode_glb(mesh: Mesh) -> bytes:
    linear = srgb_to_linear(mesh.colors.detach().cpu().float().clamp(0, 1))
    attributes = {LINEAR_COLOR: linear.numpy(), **_confidence(mesh, "glb")}
    scene = trimesh.Scene()
    scene.add_geometry(_as_trimesh(mesh, vertex_attributes=attributes), geom_name="portrait")
    return export_glb(scene, include_normals=True, tree_postprocessor=_make_unlit)


def _confidence(mesh: Mesh, file_format: str) -> dict[str, np.ndarray]:
    name = CONFIDENCE.get(file_format)
    if mesh.confidence is None or name is None:
        return {}
    return {name: mesh.confidence.detach().cpu().float().clamp(0, 1).numpy()}


def _make_unlit(tree: dict[str, Any]) -> None:
    """Give every primitive the linear colours and one unlit white material."""
    material = {
        "name": "portrait",
        "pbrMetallicRoughness": {
            "baseColorFactor": [1.0, 1.0, 1.0, 1.0],
            "metallicFactor": 0.0,
            "roughnessFactor": 0.9,
        },
        "extensions": {UNLIT: {}},
    }
    tree["materials"] = [material]
    tree["extensionsUsed"] = sorted({*tree.get("extensionsUsed", []), UNLIT})
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            attributes = primitive["attributes"]
            attributes["COLOR_0"] = attributes.pop(LINEAR_COLOR)
            primitive["material"] = 0


def _single_mesh(loaded: Any) -> trimesh.Trimesh:  # a Trimesh or a Scene
    if not isinstance(loaded, trimesh.Scene):
        return loaded
    if len(loaded.geometry) != 1:
        return loaded.to_mesh()
    # to_mesh would drop the float colours
    (node,) = loaded.graph.nodes_geometry
    transform, name = loaded.graph[node]
    return loaded.geometry[name].apply_transform(transform)


def _as_trimesh(mesh: Mesh, **options: Any) -> trimesh.Trimesh:
    return trimesh.Trimesh(
        mesh.vertices.detach().cpu().numpy(),
        mesh.faces.detach().cpu().numpy(),
        process=False,
        **options,
    )


def _colors_of(loaded: trimesh.Trimesh, *, is_linear: bool) -> Tensor:
    visual: Any = loaded.visual  # with texture or vertex colours
    attributes = getattr(visual, "vertex_attributes", {})
    raw = attributes["color"] if "color" in attributes else None
    if raw is None and visual.kind == "vertex":
        raw = visual.vertex_colors
    if raw is None:
        return torch.ones(len(loaded.vertices), 3)
    raw = np.asarray(raw)[:, :3]
    scale = np.iinfo(raw.dtype).max if raw.dtype.kind == "u" else 1.0
    colors = torch.from_numpy((raw / scale).astype(np.float32))
    return linear_to_srgb(colors) if is_linear else colors


def _confidence_of(loaded: trimesh.Trimesh, file_format: str) -> Tensor | None:
    values = loaded.vertex_attributes.get(CONFIDENCE[file_format])
    if values is None and file_format == "ply":
        raw = loaded.metadata.get("_ply_raw", {}).get("vertex", {}).get("data")
        names = getattr(getattr(raw, "dtype", None), "names", None) or ()
        values = raw[CONFIDENCE["ply"]] if CONFIDENCE["ply"] in names else None
    return None if values is None else torch.from_numpy(np.array(values, np.float32).reshape(-1))
