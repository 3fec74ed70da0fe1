"""Random numbers of steps, drawn some steps ahead."""

import torch

from freestyle_core import seeds
from freestyle_core.training import drawn
from freestyle_core.training.drawn import Ahead, normal, uniform, whole

DRAWS = [uniform((2, 5)), whole(7, (2, 300)), normal((2, 300, 3))]
CPU = torch.device("cpu")


def one_by_one(steps):
    generator = seeds.generator(3)
    made = []
    for _ in range(steps):
        made.append(
            [
                torch.rand(2, 5, generator=generator),
                torch.randint(7, (2, 300), generator=generator),
                torch.randn(2, 300, 3, generator=generator),
            ]
        )
    return made, generator.get_state()


def chunked(generator, steps):
    """Return numbers that are drawn `steps` ahead, as for a card."""
    made = Ahead(DRAWS, generator, CPU)
    made.steps = made._next = steps
    made._buffers = [torch.empty(steps, *d.shape, dtype=d.dtype) for d in DRAWS]
    return made


def test_ahead_or_not_the_numbers_are_those_of_drawing_one_by_one():
    expected, _ = one_by_one(7)
    for steps in (1, 3):
        numbers = chunked(seeds.generator(3), steps)
        for step in expected:
            for got, want in zip(numbers.next(), step, strict=True):
                assert torch.equal(got, want) and got.dtype == want.dtype


def test_the_state_is_that_of_the_numbers_handed_out():
    numbers = chunked(seeds.generator(3), 3)
    assert torch.equal(numbers.state(), seeds.generator(3).get_state())
    for count in range(1, 6):
        numbers.next()
        assert torch.equal(numbers.state(), one_by_one(count)[1])


def test_a_generator_that_was_set_is_drawn_from_anew():
    generator = seeds.generator(3)
    numbers = chunked(generator, 3)
    numbers.next()
    generator.set_state(one_by_one(2)[1])
    numbers.forget()
    assert torch.equal(numbers.next()[0], one_by_one(3)[0][2][0])


def test_a_processor_draws_no_step_ahead_and_a_card_as_many_as_fit(monkeypatch):
    assert Ahead(DRAWS, seeds.generator(0), CPU).steps == 1
    bytes_of_a_step = 4 * 10 + 8 * 600 + 4 * 1800
    monkeypatch.setattr(drawn, "AHEAD_MB", 5 * bytes_of_a_step / 2**20 + 1e-6)
    assert drawn.steps_ahead(DRAWS, torch.device("cuda")) == 5
