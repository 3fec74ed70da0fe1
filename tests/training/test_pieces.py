import pytest
import torch

from freestyle_core.training.pieces import Pieces

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB"


def batch_of(rows, most):
    """Return a weight, data, and losses that only `most` rows at a time fit into."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    seen = []

    def losses(part):
        some = x[part]
        seen.append(len(some))
        values = (some @ weight).square().mean(), some.mean()
        if len(some) > most:
            (some * weight).sum().backward()  # what a failed try leaves behind must not count
            raise torch.OutOfMemoryError(FULL)
        return values

    def clear():
        weight.grad = None

    return weight, x, losses, clear, seen


@pytest.mark.parametrize(
    "rows, most, sizes",
    [(4, 4, [4]), (4, 1, [4, 2, 1, 1, 1, 1]), (5, 2, [5, 3, 2, 2, 1]), (3, 1, [3, 2, 1, 1, 1])],
)
def test_pieces_add_up_to_the_gradient_and_the_losses_of_the_whole(rows, most, sizes):
    weight, x, losses, clear, seen = batch_of(rows, most)
    values = Pieces().backward(rows, losses, clear)
    assert seen == sizes
    assert not any(value.requires_grad for value in values)
    (expected,) = torch.autograd.grad((x @ weight).square().mean(), weight)
    torch.testing.assert_close(weight.grad, expected)
    torch.testing.assert_close(values[0], (x @ weight.detach()).square().mean())
    torch.testing.assert_close(values[1], x.mean())


def test_the_next_batch_is_split_at_once():
    pieces = Pieces()
    _, _, losses, clear, seen = batch_of(4, 2)
    pieces.backward(4, losses, clear)
    pieces.backward(4, losses, clear)
    assert seen == [4, 2, 2, 2, 2] and pieces.count == 2


def test_a_single_row_that_does_not_fit_and_other_errors_end_the_step():
    _, _, losses, clear, seen = batch_of(2, 0)
    with pytest.raises(torch.OutOfMemoryError):
        Pieces().backward(2, losses, clear)
    assert seen == [2, 1]

    def wrong(part):
        raise RuntimeError("another matter")

    with pytest.raises(RuntimeError, match="another matter"):
        Pieces().backward(2, wrong, clear)
