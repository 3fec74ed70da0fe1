"""Planes that come as near as planes can to what is mixed by region."""

from dataclasses import replace

import torch

from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.method.flatten import _least_squares, flattened
from freestyle_core.method.render import render_views
from freestyle_core.types import Region, Triplane
from tests.tiny import tiny_eg3d, tiny_portrait


def test_least_squares_finds_what_a_solver_finds():
    generator = torch.Generator().manual_seed(0)
    matrix, wanted = torch.randn(12, 5, generator=generator), torch.randn(12, generator=generator)
    got = _least_squares(lambda x: matrix @ x, wanted, torch.zeros(5))
    # the damping of 1e-3 is part of what is asked for
    normal = matrix.T @ matrix + 1e-3 * torch.eye(5)
    torch.testing.assert_close(
        got, torch.linalg.solve(normal, matrix.T @ wanted), atol=1e-4, rtol=0
    )


def mixed(weights):
    eg3d = tiny_eg3d()
    portrait = tiny_portrait(eg3d)
    added = 3 * torch.randn(
        portrait.triplane.planes.shape, generator=torch.Generator().manual_seed(1)
    )
    triplane = replace(portrait.triplane, regions=(Region(weights, added),))
    return replace(portrait, triplane=triplane), added


def test_a_region_of_everything_is_planes_exactly():
    portrait, added = mixed(torch.ones(3, 3, 3))
    got = flattened(portrait)
    assert got.triplane.regions == ()
    whole = replace(portrait, triplane=Triplane(portrait.triplane.planes + added, 1.0))
    cameras = grid_cameras(2, portrait.renderer.config.rig())
    views = [render_views(p, cameras).image for p in (got, whole)]
    assert float((views[0] - views[1]).abs().max()) < 0.01  # without it: 0.1


def test_half_a_head_comes_nearer_than_none_of_it():
    weights = torch.zeros(9, 9, 9)
    weights[:4] = 1
    portrait, _ = mixed(weights)
    cameras = grid_cameras(2, portrait.renderer.config.rig())
    plain = replace(portrait, triplane=replace(portrait.triplane, regions=()))
    wanted, without, near = (
        render_views(p, cameras).image for p in (portrait, plain, flattened(portrait))
    )
    assert float((near - wanted).square().mean()) < 0.2 * float((without - wanted).square().mean())


def test_it_works_in_inference_mode_and_leaves_others_alone():
    portrait, _ = mixed(torch.ones(3, 3, 3))
    outside = flattened(portrait).triplane.planes
    with torch.inference_mode():
        inside = flattened(portrait).triplane.planes
    assert torch.equal(inside, outside)
    plain = tiny_portrait(tiny_eg3d())
    assert flattened(plain) is plain
