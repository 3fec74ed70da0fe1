import math

import pytest
import torch
import trimesh
from torch import nn

from freestyle_core.errors import InputError
from freestyle_core.geometry.isosurface import (
    density_lattice,
    extract_surface,
    largest_component,
    lattice_axis,
    raw_level,
    signed_volume,
)
from freestyle_core.geometry.triplane import fold_planes, sample_folded
from freestyle_core.mesh import MeshSettings, extract_mesh
from freestyle_core.models.config import PLANE_AXES, EG3DConfig
from freestyle_core.models.eg3d import EG3D, EG3DRenderer
from freestyle_core.types import Mesh, Portrait, Triplane

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
    return extract_mesh(make_sphere(), settings=MeshSettings(resolution=65, level=0.3, head_height_m=0))


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
        z_dim=8, w_dim=8, plane_resolution=8, plane_channels=4, channel_base=64, channel_max=8,
        decoder_hidden=8, feature_channels=4, image_resolution=16, neural_resolution=8,
        superresolution="2X", sr_channels=(4, 4), sr_input_resolution=8,
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


def test_empty_field_is_a_clear_error():
    with pytest.raises(InputError, match="no surface.*lower level"):
        extract_surface(torch.zeros(5, 5, 5), 3.0, 1.0)


@pytest.mark.parametrize("bad", [{"resolution": 4}, {"level": 0.0}, {"level": float("nan")}])
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
