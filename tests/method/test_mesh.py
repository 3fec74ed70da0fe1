import math

import pytest
import torch
import trimesh
from torch import nn

from freestyle_core.errors import InputError
from freestyle_core.geometry.isosurface import (
    density_lattice,
    extract_surface,
    is_closed,
    largest_component,
    lattice_axis,
    raw_level,
    signed_volume,
)
from freestyle_core.geometry.lattice_edits import bust_base, cut, inside_of, without_hollows
from freestyle_core.geometry.triplane import fold_planes, sample_folded
from freestyle_core.method import mesh as mesh_module
from freestyle_core.method.mesh import MeshSettings, extract_mesh, metres_per_unit, share_of_head
from freestyle_core.models.config import PLANE_AXES, EG3DConfig
from freestyle_core.models.eg3d import EG3D, EG3DRenderer
from freestyle_core.types import CameraRig, Mesh, Portrait, Triplane

BOX = 2.0
CENTRE = (0.1, -0.2, 0.3)
RADIUS = 0.5


class SphereDecoder(nn.Module):
    """Reads channel 0 as the squared distance to the centre, 1..3 as colours (sums of 3 planes)."""

    def forward(self, features):
        colour = 3 * features[:, 1:4]
        return self.density(features), colour

    def density(self, features):
        # zero raw density on the sphere, rising inwards
        return 1000 * (RADIUS**2 - 3 * features[:, :1])


def make_sphere(resolution=256):
    """A sphere: squared distance and colour = position, both separable into planes."""
    texel = BOX / resolution
    centres = -BOX / 2 + texel * (torch.arange(resolution) + 0.5)
    high, wide = torch.meshgrid(centres, centres, indexing="ij")
    planes = torch.zeros(1, 3, 4, resolution, resolution)
    # plane 0 is (x, y), width first; plane 1 is (x, z); plane 2 is (z, x)
    planes[0, 0, 0] = (wide - CENTRE[0]) ** 2 + (high - CENTRE[1]) ** 2
    planes[0, 1, 0] = (high - CENTRE[2]) ** 2 / 2
    planes[0, 2, 0] = (wide - CENTRE[2]) ** 2 / 2
    planes[0, 0, 1] = wide / BOX + 0.5
    planes[0, 0, 2] = high / BOX + 0.5
    planes[0, 1, 3] = high / BOX + 0.5
    config = EG3DConfig(box_size=BOX, plane_channels=4, feature_channels=3)
    renderer = EG3DRenderer(config, SphereDecoder(), nn.Identity())
    return Portrait(renderer, Triplane(planes, BOX), torch.zeros(1, 1, 1))


def sphere_mesh():
    settings = MeshSettings(resolution=65, level=0.3, head_height_m=0)
    return extract_mesh(make_sphere(), settings=settings)


def test_sphere_has_its_radius_and_centre():
    mesh = sphere_mesh()
    distance = (mesh.vertices - torch.tensor(CENTRE)).norm(dim=1)
    # raw level of 0.3 is 1 + ln(e^0.3 - 1) = -0.05; at slope 1000 * 2r that is 5e-5 units outside.
    # Marching cubes is linear between lattice points: error below voxel^2 / 8r = 2.4e-4
    assert raw_level(0.3) == pytest.approx(1 + math.log(math.exp(0.3) - 1))
    torch.testing.assert_close(distance, torch.full_like(distance, RADIUS), atol=6e-4, rtol=0)


def test_sphere_is_closed_and_faces_look_outward():
    mesh = sphere_mesh()
    solid = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    assert solid.is_watertight and solid.is_winding_consistent
    # a sphere of radius 0.5 has volume pi / 6 = 0.5236
    assert solid.volume == pytest.approx(math.pi / 6, rel=0.01)
    outward = torch.from_numpy(solid.triangles_center.copy()).float() - torch.tensor(CENTRE)
    normals = torch.from_numpy(solid.face_normals.copy()).float()
    assert ((outward * normals).sum(1) > 0).all()


def test_vertex_colours_are_the_field_colours():
    mesh = sphere_mesh()
    # the field's colour is position mapped from [-1,1] to [0,1]
    torch.testing.assert_close(mesh.colors, mesh.vertices / BOX + 0.5, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axes", [PLANE_AXES, ("xy", "xz", "yz"), ("yx", "zy", "xz")])
def test_lattice_features_equal_point_sampling(axes):
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(1, 3, 2, 8, 8, generator=generator)
    folded = fold_planes(planes, axes, 0.7)
    weights = torch.tensor([1.5, -0.5])

    def decode(features):
        return torch.einsum("c,bcm->bm", weights, features)[:, None]

    field = density_lattice(folded, decode, 11, memory_mb=0)
    axis = lattice_axis(11, 0.7)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    expected = decode(sample_folded(folded, points.reshape(1, -1, 3))).view(11, 11, 11)
    torch.testing.assert_close(field, expected, atol=1e-5, rtol=1e-5)
    whole = density_lattice(folded, decode, 11, memory_mb=64)
    torch.testing.assert_close(whole, field, atol=1e-6, rtol=1e-6)


def test_lattice_is_what_the_real_decoder_says_at_points():
    config = EG3DConfig(
        z_dim=8,
        w_dim=8,
        plane_resolution=8,
        plane_channels=4,
        channel_base=64,
        channel_max=8,
        decoder_hidden=8,
        feature_channels=4,
        image_resolution=16,
        neural_resolution=8,
        superresolution="2X",
        sr_channels=(4, 4),
        sr_input_resolution=8,
    )
    torch.manual_seed(0)
    renderer = EG3D(config).renderer()
    planes = torch.randn(1, 3, 4, 8, 8)
    with torch.no_grad():
        field = density_lattice(renderer.fold(planes), renderer.decoder.density, 6)
        axis = lattice_axis(6, config.box_size)
        points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
        expected, _ = renderer.decode(planes, points.reshape(1, -1, 3))
    torch.testing.assert_close(field.flatten(), expected.flatten(), atol=1e-5, rtol=1e-5)


def test_solid_that_fills_the_cube_is_closed_at_its_faces():
    field = torch.ones(9, 9, 9)
    field[0, 0, 0] = 0
    vertices, faces = extract_surface(field, 0.5, 1.0)
    assert trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False).is_watertight
    assert signed_volume(vertices, faces) > 0.5
    assert float(vertices.abs().max()) <= 0.5


def test_largest_component_drops_floaters_and_bubbles():
    axis = torch.linspace(-1, 1, 41)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    shell = 0.6 - (x**2 + y**2 + z**2).sqrt()
    field = torch.minimum(shell, 0.35 - shell)  # a ball with a bubble of radius 0.25
    floater = 0.15 - ((x - 0.8) ** 2 + (y - 0.8) ** 2 + z**2).sqrt()
    vertices, faces = extract_surface(torch.maximum(field, floater), 0.0, 2.0)
    assert trimesh.Trimesh(vertices.numpy(), faces.numpy(), process=False).body_count == 3
    kept, kept_faces = largest_component(vertices, faces)
    assert trimesh.Trimesh(kept.numpy(), kept_faces.numpy(), process=False).is_watertight
    radius = kept.norm(dim=1)
    torch.testing.assert_close(radius, torch.full_like(radius, 0.6), atol=5e-3, rtol=0)
    assert signed_volume(kept, kept_faces) == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=0.02)


class LeapingDecoder(SphereDecoder):
    """The same sphere, but the density leaps inside: slope 10 outside, 10000 inside."""

    def density(self, features):
        depth = RADIUS**2 - 3 * features[:, :1]
        return torch.where(depth > 0, 10000 * depth, 10 * depth)


def test_vertices_lie_where_the_density_crosses_the_level_even_where_it_leaps():
    portrait = make_sphere()
    renderer = EG3DRenderer(portrait.renderer.config, LeapingDecoder(), nn.Identity())
    portrait = Portrait(renderer, portrait.triplane, portrait.w)
    settings = MeshSettings(resolution=33, level=0.3, head_height_m=0, flat_base=False)
    mesh = extract_mesh(portrait, settings=settings)
    distance = (mesh.vertices - torch.tensor(CENTRE)).norm(dim=1)
    # raw level -0.05 is at r^2 = 0.25 + 0.005. A lattice step is 1/16; half of 1/64 of it: 5e-4.
    # A straight line would err by most of a step, as its ends are about 300 and -0.3
    expected = torch.full_like(distance, math.sqrt(0.255))
    torch.testing.assert_close(distance, expected, atol=1e-3, rtol=0)


def test_empty_field_is_a_clear_error():
    # raw 0 is a density of log(1 + 1/e) = 0.313, raw 3 one of log(1 + e^2) = 2.127
    with pytest.raises(InputError, match="reaches 0.313 .* at 2.13; choose a lower density level"):
        extract_surface(torch.zeros(5, 5, 5), 3.0, 1.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"resolution": 4},
        {"level": 0.0},
        {"level": float("nan")},
        {"cut_back": 1.0},
        {"max_faces": 50},
        {"head_height_m": -1.0},
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(InputError):
        MeshSettings(**bad)


def test_progress_ends_at_its_total_and_can_cancel():
    reports = []
    settings = MeshSettings(resolution=17, level=0.3, memory_mb=0)

    def note(done, total, preview=None):
        reports.append((done, total))

    extract_mesh(make_sphere(32), settings=settings, progress=note)
    assert reports[-1] == (20, 20)
    assert [done for done, _ in reports] == list(range(1, 21))

    def stop(done, total, preview=None):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_mesh(make_sphere(32), settings=settings, progress=stop)


def test_portrait_is_left_unchanged():
    portrait = make_sphere(32)
    before = portrait.triplane.planes.clone()
    assert isinstance(extract_mesh(portrait, settings=MeshSettings(resolution=17, level=0.3)), Mesh)
    assert torch.equal(portrait.triplane.planes, before)


def test_a_processor_works_in_small_pieces_whatever_memory_is_allowed(monkeypatch):
    rows = []
    whole = mesh_module.density_lattice

    def spied(folded, decode, resolution, *, memory_mb, progress):
        rows.append(memory_mb)
        return whole(folded, decode, resolution, memory_mb=memory_mb, progress=progress)

    monkeypatch.setattr(mesh_module, "density_lattice", spied)
    meshes = [
        extract_mesh(make_sphere(32), settings=MeshSettings(resolution=17, level=0.3, memory_mb=mb))
        for mb in (1024, 1)
    ]
    assert rows == [mesh_module.CPU_MB, 1]
    torch.testing.assert_close(meshes[0].vertices, meshes[1].vertices)


def make_bust(resolution=64):
    """A ball on a neck on a wide slab, with a thin stump below: slab y 10..18, stump y 4..10."""
    axis = torch.arange(resolution, dtype=torch.float32)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    across = ((x - 32) ** 2 + (z - 32) ** 2).sqrt()
    ball = 14 - ((x - 32) ** 2 + (y - 44) ** 2 + (z - 32) ** 2).sqrt()
    slab = torch.minimum(24 - across, torch.minimum(y - 9.5, 18.5 - y))
    neck = torch.minimum(7 - across, torch.minimum(y - 14, 40 - y))
    stump = torch.minimum(4 - across, torch.minimum(y - 3.5, 12 - y))
    return torch.stack([ball, slab, neck, stump]).amax(dim=0)


def test_a_bust_ends_at_the_lower_edge_of_its_shoulders():
    field = make_bust()
    inside = inside_of(field, 0.0)
    # the slab's lowest level is 10; the stump below it has (4/24)^2 = 3 % of its area
    assert bust_base(inside) == 10
    vertices, faces = largest_component(*extract_surface(cut(field, 0.0, 1, 10.0), 0.0, 63.0))
    assert is_closed(faces)
    low = vertices[:, 1].min()  # scene units here are lattice steps, y 10 lies at 10 - 31.5
    torch.testing.assert_close(low, torch.tensor(-21.5), atol=1e-3, rtol=0)
    a, b, c = vertices[faces].unbind(1)
    flat = (vertices[faces][..., 1] - low).abs().amax(dim=1) < 1e-3
    # the base is a disc of radius 24: pi * 24^2 = 1810
    area = torch.linalg.cross(b - a, c - a)[flat].norm(dim=1).sum() / 2
    assert area.item() == pytest.approx(math.pi * 24**2, rel=0.05)


def test_without_shoulders_nothing_is_cut():
    axis = torch.linspace(-1, 1, 41)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    assert bust_base(inside_of(0.6 - (x**2 + y**2 + z**2).sqrt(), 0.0)) is None


def test_a_cut_back_is_flat_and_closed_at_its_share_of_the_depth():
    settings = MeshSettings(
        resolution=65, level=0.3, cut_back=0.25, flat_base=False, head_height_m=0
    )
    mesh = extract_mesh(make_sphere(128), settings=settings)
    assert is_closed(mesh.faces)
    # the sphere spans z -0.2 to 0.8; a quarter of the way in from the back is z = 0.05
    torch.testing.assert_close(mesh.vertices[:, 2].min(), torch.tensor(0.05), atol=0.02, rtol=0)
    # without a cap of height h = 0.25: pi h^2 (3 r - h) / 3 = 0.0818 of 0.5236
    assert signed_volume(mesh.vertices, mesh.faces) == pytest.approx(0.5236 - 0.0818, rel=0.06)
    flat = (mesh.vertices[:, 2] - mesh.vertices[:, 2].min()).abs() < 1e-3
    # one colour, that of the rim: its z is just above 0.05, and colour is z / 2 + 0.5
    colors = mesh.colors[flat]
    torch.testing.assert_close(colors, colors[:1].expand_as(colors))
    assert 0.525 <= float(colors[0, 2]) <= 0.6


def test_watertight_fills_hollows_that_only_a_pinhole_opens():
    axis = torch.arange(40, dtype=torch.float32)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    radius = ((x - 20) ** 2 + (y - 20) ** 2 + (z - 20) ** 2).sqrt()
    shell = 4 - (radius - 11).abs()  # 7 to 15
    pinhole = ((x - 20) ** 2 + (z - 20) ** 2).sqrt() - 1.6
    field = torch.minimum(shell, torch.where(y > 20, pinhole, shell))
    vertices, faces = largest_component(*extract_surface(field, 0.0, 39.0))
    hollow = 4 / 3 * math.pi * (15**3 - 7**3)
    assert signed_volume(vertices, faces) == pytest.approx(hollow, rel=0.03)
    filled = without_hollows(field, 0.0, inside_of(field, 0.0))
    vertices, faces = largest_component(*extract_surface(filled, 0.0, 39.0))
    assert signed_volume(vertices, faces) == pytest.approx(4 / 3 * math.pi * 15**3, rel=0.03)


def test_simplified_is_smaller_closed_and_the_same_shape():
    settings = MeshSettings(
        resolution=65, level=0.3, max_faces=1000, watertight=True, flat_base=False, head_height_m=0
    )
    mesh = extract_mesh(make_sphere(128), settings=settings)
    assert 800 <= len(mesh.faces) <= 1000 and is_closed(mesh.faces)
    assert signed_volume(mesh.vertices, mesh.faces) == pytest.approx(math.pi / 6, rel=0.02)
    # colours are those of the nearest vertex before, at most about half a lattice step (1/64) away
    torch.testing.assert_close(mesh.colors, mesh.vertices / BOX + 0.5, atol=0.012, rtol=0)


def test_an_open_or_pinched_surface_is_not_closed():
    tetrahedron = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    assert is_closed(tetrahedron)
    assert not is_closed(tetrahedron[:3])
    assert not is_closed(torch.cat([tetrahedron[:3], tetrahedron[3:].flip(1)]))  # one face inward
    assert not is_closed(torch.cat([tetrahedron, tetrahedron]))


def test_a_head_is_a_quarter_of_a_metre_high():
    rig = CameraRig(radius=2.7, pivot=(0.0, 0.0, 0.2), focal=4.2647)
    # at 2.5 units a picture shows 2.5 / 4.2647 = 0.58621 units, 77 % of them head: 0.45138 units
    assert metres_per_unit(rig) == pytest.approx(0.25 / 0.45138, rel=1e-4)
    small = extract_mesh(make_sphere(32), settings=MeshSettings(resolution=17, level=0.3))
    own = extract_mesh(
        make_sphere(32), settings=MeshSettings(resolution=17, level=0.3, head_height_m=0)
    )
    scale = metres_per_unit(make_sphere(32).renderer.config.rig())
    torch.testing.assert_close(small.vertices, own.vertices * scale)


@pytest.mark.parametrize("head_height_m", [0.0, 0.25])
def test_a_mesh_is_measured_by_the_height_of_a_head(head_height_m):
    portrait = make_sphere(32)
    rig = portrait.renderer.config.rig()
    settings = MeshSettings(resolution=65, level=0.3, head_height_m=head_height_m)
    # the sphere is 1 unit high, a head 0.77 of what a picture shows at the pivot
    distance = math.dist((0, 0, rig.radius), rig.pivot)
    expected = 1 / (0.77 * distance / rig.focal)
    share = share_of_head(extract_mesh(portrait, settings=settings), rig, settings)
    assert share == pytest.approx(expected, rel=0.02)
