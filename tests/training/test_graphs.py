"""Steps that are recorded and replayed, without a card: recorded by a stand-in that keeps to what
a CUDA graph does (the same memory every time, nothing computed while it is recorded).
"""

import logging

import pytest
import torch

from freestyle_core.training.graphs import (
    MOST_SHAPES,
    WARM_UPS,
    CudaRecorder,
    RecordedStep,
    recordable_adam,
    set_rate,
)

CPU = torch.device("cpu")


class StandIn:
    """Records by keeping the inputs, and replays by computing into the first results."""

    def __init__(self):
        self.warmed = self.recorded = self.replayed = 0

    def warm_up(self, step, inputs):
        self.warmed += 1
        return step(*inputs)

    def record(self, step, inputs):
        self.recorded += 1
        outputs = torch.zeros_like(inputs[0])

        def replay():
            self.replayed += 1
            outputs.copy_(step(*inputs))

        return replay, outputs


def double(x):
    return 2 * x


def test_after_its_warm_ups_a_step_is_recorded_once_and_replayed_with_new_inputs():
    recorder = StandIn()
    step = RecordedStep(double, CPU, recorder=recorder)
    mine = torch.zeros(3)
    for index in range(WARM_UPS + 4):
        mine.fill_(index)  # the caller's tensor is not the recorded one
        assert step(mine).tolist() == [2 * index] * 3
    assert (recorder.warmed, recorder.recorded, recorder.replayed) == (WARM_UPS, 1, 4)
    kept = step(torch.tensor([1.0, 2.0, 3.0]))
    assert step(torch.zeros(3)) is kept  # one memory for all results
    assert mine.tolist() == [WARM_UPS + 3] * 3


def test_every_shape_has_a_recording_of_its_own_up_to_a_few():
    recorder = StandIn()
    step = RecordedStep(double, CPU, recorder=recorder, warm_ups=0)
    for count in range(1, MOST_SHAPES + 3):
        x = torch.ones(count, 3)
        assert step(x).shape[-1] == 3
    assert recorder.recorded == MOST_SHAPES
    step(torch.ones(1, 3))
    assert recorder.recorded == MOST_SHAPES and recorder.replayed == MOST_SHAPES + 1
    step.close()
    step(torch.ones(MOST_SHAPES + 2, 3))
    assert recorder.recorded == MOST_SHAPES + 1


def test_a_step_that_cannot_be_recorded_runs_as_it_is_and_says_so_once(caplog):
    class Refuses(StandIn):
        def record(self, step, inputs):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    step = RecordedStep(double, CPU, recorder=Refuses(), warm_ups=1)
    with caplog.at_level(logging.WARNING):
        got = [step(torch.full((3,), float(i))).tolist() for i in range(4)]
    assert got == [[2.0 * i] * 3 for i in range(4)]
    assert [r.getMessage() for r in caplog.records] == [
        "steps run one kernel at a time, they cannot be recorded: operation not permitted when "
        "stream is capturing"
    ]
    assert not step.records


def test_an_error_of_the_step_itself_is_not_taken_for_a_failed_recording():
    class Calls(StandIn):
        def record(self, step, inputs):
            step(*inputs)

    def wrong(x):
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        RecordedStep(wrong, CPU, recorder=Calls(), warm_ups=0)(torch.ones(3))


def test_without_a_card_steps_run_as_they_are_and_inputs_are_brought_there():
    step = RecordedStep(lambda x, y: (x + y, x.device), CPU)
    total, device = step(torch.ones(2), torch.ones(2))
    assert total.tolist() == [2.0, 2.0] and device == CPU and not step.records
    step = RecordedStep(lambda x: x.device.type, torch.device("meta"))
    assert step(torch.ones(2)) == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_a_recorded_training_on_a_card_ends_where_the_same_steps_end():
    device = torch.device("cuda")

    def trained(recorder):
        torch.manual_seed(0)
        layer = torch.nn.Linear(8, 8).to(device)
        adam = recordable_adam(layer.parameters(), device, learning_rate=0.01, betas=(0.0, 0.99))

        def one(x):
            adam.zero_grad(set_to_none=True)
            loss = layer(x).square().mean()
            loss.backward()
            adam.step()
            return loss.detach()

        step = RecordedStep(one, device, recorder=recorder)
        losses = []
        for index in range(20):
            set_rate(adam, 0.01 / (1 + index))
            x = torch.randn(4, 8, generator=torch.Generator().manual_seed(index))
            losses.append(step(x).item())
        return losses, step

    class Eager(StandIn):
        def record(self, step, inputs):
            raise RuntimeError("stays as it is")

    losses, step = trained(CudaRecorder(device))
    assert step.records
    assert losses == pytest.approx(trained(Eager())[0], rel=1e-5)


def test_adam_on_a_cpu_is_the_usual_one_and_its_rate_follows_scales():
    weight = torch.nn.Parameter(torch.ones(2))
    other = torch.nn.Parameter(torch.ones(2))
    groups = [{"params": [weight]}, {"params": [other], "scale": 0.1}]
    adam = recordable_adam(groups, CPU, learning_rate=0.5, betas=(0.0, 0.99))
    set_rate(adam, 0.5)
    (weight.sum() + other.sum()).backward()
    adam.step()  # the first step of Adam is the rate times the sign
    assert weight.tolist() == pytest.approx([0.5, 0.5]) and other.tolist() == pytest.approx(
        [0.95] * 2
    )


def test_a_rate_on_the_card_is_filled_in_place():
    weight = torch.nn.Parameter(torch.ones(2))
    rate = torch.tensor(0.5)
    adam = torch.optim.Adam([weight], lr=rate)
    set_rate(adam, 0.25)
    assert adam.param_groups[0]["lr"] is rate and rate.item() == 0.25
