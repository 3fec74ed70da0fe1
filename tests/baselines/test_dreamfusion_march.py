"""How the distilled field is seen, against slow loops and closed forms."""

import math

import pytest
import torch

from freestyle_core.baselines.dreamfusion.field import Field
from freestyle_core.baselines.dreamfusion.march import CELLS, Look, Occupancy, march
from freestyle_core.geometry.rays import Rays


class Fog(Field):
    """Density by a function of the place, one colour."""

    def __init__(self, density, colour=(0.2, 0.4, 0.8)):
        super().__init__(2, (4,), 4, 2)
        self.made, self.colour, self.asked = density, torch.tensor(colour), 0

    def density(self, planes, points):
        self.asked += len(points)
        return self.made(points)

    def decode(self, planes, points):
        return self.made(points), self.colour.expand(len(points), 3)


def ray(origin, direction):
    make = torch.tensor([[origin]]), torch.tensor([[direction]])
    return Rays(*(x.float() for x in make))


EVERYWHERE = torch.ones(CELLS, CELLS, CELLS, dtype=torch.bool)
AHEAD = ray((0.0, 0.0, 3.0), (0.0, 0.0, -1.0))


def seen(density, rays=AHEAD, samples=200, look=None, filled=EVERYWHERE, **rest):
    field = Fog(density)
    return march(field, field.folded(), filled, rays, samples, look or Look(), **rest)


def test_even_fog_lets_through_e_to_the_minus_its_thickness():
    out = seen(lambda p: torch.full((len(p),), 0.7))
    # the box is 2 long: 1 - exp(-1.4)
    assert out.alpha.item() == pytest.approx(1 - math.exp(-1.4), rel=1e-5)
    assert out.colour[0].tolist() == pytest.approx([x * out.alpha.item() for x in (0.2, 0.4, 0.8)])
    # mean depth 2 + (1/0.7 - 2 e^-1.4 / (1 - e^-1.4)), the mean of an exponential cut off at 2
    mean = 2 + 1 / 0.7 - 2 * math.exp(-1.4) / (1 - math.exp(-1.4))
    assert out.depth.item() == pytest.approx(mean, abs=6e-3)
    assert out.weights.sum().item() == pytest.approx(out.alpha.item())


def test_a_wall_is_seen_where_it_stands_and_nothing_behind_it_is_asked_for():
    def wall(p):
        return torch.where(p[:, 2] < 0.25, torch.tensor(1e4), torch.tensor(0.0))

    field = Fog(wall)
    out = march(
        field, field.folded(), EVERYWHERE, AHEAD, 400, Look("lambertian", 0.5, AHEAD.origins[0] / 3)
    )
    assert out.depth.item() == pytest.approx(2.75, abs=0.006) and out.alpha.item() == 1
    # one sample shows all; the 400 of the first pass, and six places for its normal
    assert len(out.shown) == 1 and field.asked == 400 + 6
    # the wall faces the camera, whence the light comes
    assert out.normal.tolist() == [[0, 0, 1]]
    assert out.colour[0].tolist() == pytest.approx([0.2, 0.4, 0.8])


def test_a_ray_that_misses_the_box_shows_nothing_at_its_far_end():
    out = seen(lambda p: torch.ones(len(p)), ray((0.0, 5.0, 3.0), (0.0, 0.0, -1.0)))
    assert out.alpha.item() == 0 and out.colour.tolist() == [[0, 0, 0]]
    assert math.isfinite(out.depth.item()) and out.depth.item() > 0


def test_cells_that_are_empty_are_passed_over():
    filled = EVERYWHERE.clone()
    filled[CELLS // 2 :] = False  # z above 0
    out = seen(lambda p: torch.full((len(p),), 0.7), filled=filled)
    assert out.alpha.item() == pytest.approx(1 - math.exp(-0.7), rel=1e-4)
    filled = EVERYWHERE.clone()
    filled[:, :, : CELLS // 2] = False  # x below 0: this ray passes at x = 0.1
    shifted = ray((0.1, 0.0, 3.0), (0.0, 0.0, -1.0))
    out = seen(lambda p: torch.full((len(p),), 0.7), shifted, filled=filled)
    assert out.alpha.item() == pytest.approx(1 - math.exp(-1.4), rel=1e-4)


def test_gradients_are_those_of_a_slow_loop():
    rays = Rays(torch.tensor([[[0.1, 0.2, 3.0], [0.0, 0.0, 3.0]]]), torch.zeros(1, 2, 3))
    rays.directions[..., 2] = -1.0
    torch.manual_seed(0)
    field = Field(3, (4, 8), 8, 2)
    jitter = torch.rand(2, 20)
    out = march(field, field.folded(), EVERYWHERE, rays, 20, Look(), jitter)
    (out.colour.sum() + 2 * out.alpha.sum()).backward()
    fast = [weight.grad.clone() for weight in (*field.planes, *field.net.parameters())]
    field.zero_grad()
    total = torch.zeros(())
    for m in range(2):
        passed = torch.ones(())
        for i in range(20):
            z = 3 - (2 + (i + jitter[m, i]) * 0.1)
            at = torch.stack([*rays.origins[0, m, :2], z])[None]
            density, albedo = field.decode(field.folded(), at)
            weight = passed * (1 - torch.exp(-density[0] * 0.1))
            total = total + (weight * albedo[0]).sum() + 2 * weight
            passed = passed * torch.exp(-density[0] * 0.1)
    total.backward()
    for one, weight in zip(fast, (*field.planes, *field.net.parameters()), strict=True):
        # what shows less than one part in 10,000 is left out
        assert (one - weight.grad).norm() < 0.02 * weight.grad.norm()
    assert fast[0].abs().max() > 1e-3


def test_occupancy_remembers_fades_and_grows_by_a_cell():
    occupancy, centre = Occupancy(), torch.full((CELLS**3, 3), 0.5)

    def ball(p):
        return torch.where(p.norm(dim=-1) < 0.02 + 2 / CELLS, torch.tensor(40.0), torch.tensor(1.0))

    occupancy.look(Fog(ball), None, centre)
    assert occupancy.density.max() == 40 and occupancy.density.min() == 1
    filled = occupancy.filled()
    # the centres of 8 cells are so near to the middle; one more on each side
    inside = occupancy.density > 10
    assert inside.sum() == 8 and filled.sum() == 4**3
    occupancy.look(Fog(lambda p: torch.zeros(len(p))), None, centre)
    assert occupancy.density.max().item() == pytest.approx(38.0)


def test_the_threshold_is_the_mean_but_never_more_than_ten():
    occupancy = Occupancy()
    occupancy.density.fill_(11.0)
    occupancy.density[0, 0, 0] = 1e9
    assert occupancy.filled().all()
    occupancy.density.fill_(1.0)
    occupancy.density[10, 20, 30] = 5.0
    filled = occupancy.filled()
    assert filled.sum() == 27 and filled[9:12, 19:22, 29:32].all()


def test_places_are_looked_at_where_the_jitter_says():
    occupancy, places = Occupancy(), []

    def note(p):
        places.append(p)
        return p[:, 0] + 2

    jitter = torch.zeros(CELLS**3, 3)
    jitter[:, 0] = 0.75
    occupancy.look(Fog(note), None, jitter)
    # x of the first cell: -1 + 0.75 * 2 / 48, y and z at its corner
    assert torch.cat(places)[0].tolist() == pytest.approx([-1 + 1.5 / CELLS, -1, -1])
    assert occupancy.density[5, 7, 0].item() == pytest.approx(1 + 1.5 / CELLS)
    assert occupancy.density[0, 0, -1] > 2.9
