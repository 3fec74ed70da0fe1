import json
import struct
from dataclasses import replace

import pytest
import torch
import trimesh

from freestyle_core.errors import FileFormatError, InputError, WriteError
from freestyle_core.files.media.mesh import load_mesh, save_mesh
from freestyle_core.geometry.color import linear_to_srgb, srgb_to_linear
from freestyle_core.types import Mesh


def make_tetrahedron():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    colors = torch.tensor([[0.0, 0.5, 1.0], [0.02, 0.03, 0.04], [0.2, 0.8, 0.4], [1.0, 1, 1]])
    return Mesh(vertices, faces, colors)


def read_glb_tree(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<I", data[12:16])
    return json.loads(data[20 : 20 + length]), data[20 + length + 8 :]


def test_transfer_function_has_the_published_values():
    # IEC 61966-2-1: 0.5 -> ((0.5 + 0.055) / 1.055)^2.4 = 0.214041, 0.04 -> 0.04 / 12.92
    got = srgb_to_linear(torch.tensor([0.0, 0.04, 0.5, 1.0]))
    torch.testing.assert_close(got, torch.tensor([0.0, 0.0030960, 0.2140411, 1.0]))
    ramp = torch.linspace(0, 1, 256)
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(ramp)), ramp, atol=1e-6, rtol=0)


def test_glb_round_trip_keeps_shape_and_colours(tmp_path):
    mesh = make_tetrahedron()
    save_mesh(tmp_path / "m.glb", mesh)
    again = load_mesh(tmp_path / "m.glb")
    torch.testing.assert_close(again.vertices, mesh.vertices)
    assert torch.equal(again.faces, mesh.faces)
    torch.testing.assert_close(again.colors, mesh.colors, atol=1e-6, rtol=0)


def test_glb_is_unlit_with_linear_float_colours(tmp_path):
    save_mesh(tmp_path / "m.glb", make_tetrahedron())
    tree, buffer = read_glb_tree(tmp_path / "m.glb")
    primitive = tree["meshes"][0]["primitives"][0]
    assert tree["extensionsUsed"] == ["KHR_materials_unlit"]
    assert "KHR_materials_unlit" in tree["materials"][primitive["material"]]["extensions"]
    assert set(primitive["attributes"]) == {"POSITION", "NORMAL", "COLOR_0"}
    accessor = tree["accessors"][primitive["attributes"]["COLOR_0"]]
    assert (accessor["componentType"], accessor["type"], accessor["count"]) == (5126, "VEC3", 4)
    start = tree["bufferViews"][accessor["bufferView"]]["byteOffset"] + accessor["byteOffset"]
    red, green, blue = struct.unpack("<3f", buffer[start : start + 12])
    assert (red, blue) == (0.0, 1.0)
    assert green == pytest.approx(0.2140411, abs=1e-6)


def test_ply_round_trip_is_within_half_a_byte(tmp_path):
    mesh = make_tetrahedron()
    save_mesh(tmp_path / "m.ply", mesh)
    again = load_mesh(tmp_path / "m.ply")
    torch.testing.assert_close(again.vertices, mesh.vertices)
    assert torch.equal(again.faces, mesh.faces)
    torch.testing.assert_close(again.colors, mesh.colors, atol=0.5 / 255 + 1e-6, rtol=0)


def test_plain_trimesh_reads_the_same_solid(tmp_path):
    # volume of the corner tetrahedron is 1/6; positive means the faces look outward
    for name in ("m.glb", "m.ply"):
        save_mesh(tmp_path / name, make_tetrahedron())
        solid = trimesh.load(tmp_path / name, force="mesh")
        assert solid.is_watertight
        assert solid.volume == pytest.approx(1 / 6)


def test_stl_is_in_millimetres_and_obj_has_colours(tmp_path):
    mesh = make_tetrahedron()
    for name in ("m.stl", "m.obj"):
        save_mesh(tmp_path / name, mesh)
    solid = trimesh.load(tmp_path / "m.stl", force="mesh")
    assert solid.volume == pytest.approx(1e9 / 6)  # a metre is 1000 mm
    text = (tmp_path / "m.obj").read_text()
    first = next(line for line in text.splitlines() if line.startswith("v ")).split()
    # the first vertex is the origin in colour 0, 0.5, 1
    assert [float(x) for x in first[1:4]] == [0, 0, 0]
    assert [float(x) for x in first[4:]] == pytest.approx([0, 0.5, 1], abs=0.003)
    with pytest.raises(InputError, match="glb and .ply"):
        load_mesh(tmp_path / "m.obj")


def test_unknown_ending_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.obj or \.stl, got 'm\.xyz'"):
        save_mesh(tmp_path / "m.xyz", make_tetrahedron())


@pytest.mark.parametrize("name", ["m.glb", "m.ply"])
@pytest.mark.parametrize("keep", [0, 20, 200])
def test_truncated_mesh_is_refused(tmp_path, name, keep):
    save_mesh(tmp_path / name, make_tetrahedron())
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:keep])
    with pytest.raises(FileFormatError, match="save it again"):
        load_mesh(tmp_path / name)


def test_failed_write_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(WriteError):
            save_mesh(tmp_path / "m.glb", make_tetrahedron())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_confidence_travels_in_glb_and_ply(tmp_path):
    sure = replace(make_tetrahedron(), confidence=torch.tensor([0.0, 0.25, 0.7, 1.0]))
    for name in ("m.glb", "m.ply"):
        save_mesh(tmp_path / name, sure)
        torch.testing.assert_close(load_mesh(tmp_path / name).confidence, sure.confidence)
        save_mesh(tmp_path / name, make_tetrahedron())
        assert load_mesh(tmp_path / name).confidence is None
    save_mesh(tmp_path / "m.ply", sure)
    assert b"\nproperty float confidence\n" in (tmp_path / "m.ply").read_bytes()
    save_mesh(tmp_path / "m.glb", sure)
    tree, _ = read_glb_tree(tmp_path / "m.glb")
    (attributes,) = (p["attributes"] for m in tree["meshes"] for p in m["primitives"])
    accessor = tree["accessors"][attributes["_CONFIDENCE"]]
    assert (accessor["componentType"], accessor["type"], accessor["count"]) == (5126, "SCALAR", 4)
    for name in ("m.obj", "m.stl"):  # which have no place for it
        save_mesh(tmp_path / name, sure)
