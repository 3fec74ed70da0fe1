"""A head of the embedded generator as splats, at a size that takes seconds."""

import pytest
import torch

from freestyle_core.errors import InputError
from freestyle_core.files.networks import embedded, load_eg3d
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.geometry.splats import render_splats
from freestyle_core.method.mesh import MeshSettings, extract_mesh, metres_per_unit
from freestyle_core.method.render import render_views
from freestyle_core.method.sample import sample_portrait
from freestyle_core.method.splat import (
    FRONT_DEG,
    SplatSettings,
    extract_splats,
    fitting_cameras,
)
from freestyle_core.metrics.image import psnr

QUICK = SplatSettings(resolution=64, steps=0, views=8, head_height_m=0.0)


@pytest.fixture(scope="module")
def head():
    return sample_portrait(load_eg3d(embedded("eg3d")), 10_000, psi=1.0)


@pytest.fixture(scope="module")
def views(head):
    cameras = orbit_cameras([0.0, 20.0], [0.0, 10.0], head.renderer.config.rig())
    return render_views(head, cameras)


def likeness(splats, views):
    shown = [render_splats(splats, views.cameras[i], 128).image for i in range(2)]
    return float(psnr(torch.stack(shown).clamp(0, 1), views.image).mean())


def test_fitting_brings_the_splats_to_the_pictures_from_new_cameras(head, views):
    planes = head.triplane.planes.clone()
    said = []

    def reports(done, total, preview=None):
        said.append(done / total)

    sampled = extract_splats(head, settings=QUICK)
    settings = SplatSettings(resolution=64, steps=16, views=8, head_height_m=0.0)
    # as inside a host that switches gradients off
    with torch.inference_mode():
        fitted = extract_splats(head, settings=settings, progress=reports)
    before, after = likeness(sampled, views), likeness(fitted, views)
    assert before > 24 and after > before + 1
    assert torch.equal(planes, head.triplane.planes)
    assert said == sorted(said) and said[-1] == pytest.approx(1)
    # none of those inside the head is left, and every number is one that a file can hold
    assert 1000 < len(fitted) < len(sampled)
    assert 0 <= float(fitted.colors.min()) and float(fitted.colors.max()) <= 1
    torch.testing.assert_close(fitted.rotations.norm(dim=1), torch.ones(len(fitted)))


def test_splats_lie_on_the_mesh_in_its_unit(head):
    scaled = extract_splats(head, settings=SplatSettings(resolution=64, steps=0, views=8, level=10))
    mesh = extract_mesh(
        head, settings=MeshSettings(resolution=64, level=10, flat_base=False, largest_only=False)
    )
    torch.testing.assert_close(scaled.positions, mesh.vertices)
    plain = extract_splats(
        head, settings=SplatSettings(resolution=64, steps=0, views=8, level=10, head_height_m=0)
    )
    metres = metres_per_unit(head.renderer.config.rig())
    torch.testing.assert_close(scaled.scales, plain.scales * metres)


def test_the_views_are_in_front_and_all_round(head):
    rig = head.renderer.config.rig()
    cameras = fitting_cameras(rig, 16, 3)
    again, other = fitting_cameras(rig, 16, 3), fitting_cameras(rig, 16, 4)
    assert torch.equal(cameras.cam_to_world, again.cam_to_world)
    assert not torch.equal(cameras.cam_to_world, other.cam_to_world)
    x, _, z = cameras.cam_to_world[:, :3, 3].unbind(1)
    yaw = torch.rad2deg(torch.atan2(x, z))
    assert len(cameras) == 16 and float(yaw[:12].abs().max()) <= FRONT_DEG[0]
    torch.testing.assert_close(yaw[12:], torch.tensor([45.0, 135.0, -135.0, -45.0]))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"resolution": 8}, "splat resolution must be 16 to 512, got 8"),
        ({"steps": -1}, "steps must be 0 to"),
        ({"views": 3}, "views must be 4 to 1000, got 3"),
        ({"level": -1.0}, "density level must not be negative"),
        ({"head_height_m": -0.1}, "head height must not be negative"),
        ({"level": float("nan")}, "level must be a finite number"),
    ],
)
def test_settings_out_of_range_are_refused(given, says):
    with pytest.raises(InputError, match=says):
        SplatSettings(**given)


def test_a_stop_between_two_steps_stops(head):
    class Stop(Exception):
        pass

    def progress(done, total, preview=None):
        if done / total > 0.5:
            raise Stop

    settings = SplatSettings(resolution=48, steps=10, views=4)
    with pytest.raises(Stop):
        extract_splats(head, settings=settings, progress=progress)
