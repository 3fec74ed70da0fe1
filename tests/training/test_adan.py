"""Adan against its formulas, worked out by hand."""

import math

import pytest
import torch

from freestyle_core.errors import InputError
from freestyle_core.training.adan import Adan


def weight(*values):
    return torch.nn.Parameter(torch.tensor(values, dtype=torch.float64))


def take(optimizer, param, *gradient):
    param.grad = torch.tensor(gradient, dtype=torch.float64)
    optimizer.step()


def test_the_first_step_goes_one_rate_against_the_sign():
    param = weight(1.0, -2.0, 3.0)
    take(Adan([param], 0.1), param, 4.0, -0.5, 0.0)
    # m = g, v = 0, n = g^2 after the corrections; 0 / eps is 0
    assert param.tolist() == pytest.approx([0.9, -1.9, 3.0], abs=1e-8)


def test_the_second_step_is_the_papers():
    b1, b2, b3, rate = 0.98, 0.92, 0.99, 0.1
    param = weight(1.0)
    optimizer = Adan([param], rate, betas=(b1, b2, b3))
    take(optimizer, param, 2.0)
    take(optimizer, param, 3.0)
    # d = 1; m = .02 * 2 * .98 + .02 * 3 = .0992, over 1 - .98^2 = .0396
    mean = 0.0992 / 0.0396
    # v = .08 * 1, over 1 - .92^2 = .1536
    change = 0.08 / 0.1536
    # n = .99 * .01 * 4 + .01 * (3 + .92)^2 = .0396 + .153664, over 1 - .99^2 = .0199
    spread = math.sqrt((0.0396 + 0.153664) / 0.0199)
    assert param.item() == pytest.approx(0.9 - rate * (mean + 0.92 * change) / spread, rel=1e-6)


def test_a_constant_gradient_moves_by_the_rate_at_every_step():
    param = weight(0.0, 0.0)
    optimizer = Adan([param], 0.05)
    for _ in range(7):
        take(optimizer, param, 3.0, -1e-3)
    assert param.tolist() == pytest.approx([-0.35, 0.35], rel=1e-4)


def test_decay_divides_after_the_step():
    param = weight(2.0)
    take(Adan([param], 0.1, weight_decay=0.5), param, 1.0)
    assert param.item() == pytest.approx(1.9 / 1.05, rel=1e-7)


def test_a_long_gradient_is_shortened_as_a_whole():
    # |g| over both weights is 10: the statistics see half of it with a limit of 5
    one, two = weight(0.0), weight(0.0)
    optimizer = Adan([one, two], 0.1, max_norm=5.0)
    one.grad, two.grad = torch.full_like(one, 6.0), torch.full_like(two, 8.0)
    optimizer.step()
    assert optimizer.state[one]["before"].item() == pytest.approx(3.0)
    assert optimizer.state[two]["before"].item() == pytest.approx(4.0)
    one.grad, two.grad = torch.full_like(one, 0.6), torch.full_like(two, 0.8)
    optimizer.step()
    assert optimizer.state[one]["before"].item() == pytest.approx(0.6)


def test_groups_have_rates_of_their_own_and_weights_without_a_gradient_stay():
    slow, fast, still = weight(0.0), weight(0.0), weight(5.0)
    optimizer = Adan([{"params": [slow]}, {"params": [fast, still], "lr": 0.5}], 0.05)
    slow.grad, fast.grad = torch.ones_like(slow), torch.ones_like(fast)
    optimizer.step()
    assert [slow.item(), fast.item(), still.item()] == pytest.approx([-0.05, -0.5, 5.0])


def test_it_finds_the_bottom_of_a_bowl():
    param = weight(3.0, -4.0)
    optimizer = Adan([param], 0.05)
    for _ in range(400):
        take(optimizer, param, *(2 * param.detach() * torch.tensor([1.0, 30.0])).tolist())
    assert param.abs().max() < 0.1  # two steps


def test_a_saved_state_goes_on_alike():
    gradients = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).tolist()
    whole, first, second = weight(1.0, 2.0, 3.0), weight(1.0, 2.0, 3.0), weight(0.0, 0.0, 0.0)
    optimizer = Adan([whole], 0.1)
    for gradient in gradients:
        take(optimizer, whole, *gradient)
    before = Adan([first], 0.1)
    for gradient in gradients[:3]:
        take(before, first, *gradient)
    second.data.copy_(first.data)
    after = Adan([second], 0.1)
    after.load_state_dict(before.state_dict())
    for gradient in gradients[3:]:
        take(after, second, *gradient)
    assert torch.equal(whole, second)


@pytest.mark.parametrize(
    "wrong",
    [{"lr": 0.0}, {"lr": math.nan}, {"betas": (0.9, 0.9)}, {"betas": (0.9, 1.0, 0.9)},
     {"eps": 0.0}, {"weight_decay": -1.0}, {"max_norm": -1.0}],
)  # fmt: skip
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(InputError, match="Adan"):
        Adan([weight(1.0)], **{"lr": 0.1, **wrong})
