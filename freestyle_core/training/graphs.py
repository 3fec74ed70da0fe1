"""A step recorded once as a CUDA graph and replayed, so that a card is not kept waiting for Python.

    step = RecordedStep(one_step, device)        # one_step(a, b) -> tensor or tuple of tensors
    for a, b in work:
        loss, picture = step(a, b)               # overwritten by the next call

The first calls of a shape run as they are, on a stream of their own, as a recording needs; they are
real steps. Then one call is recorded, and from there on inputs are copied into the recorded ones
and the graph is replayed. Without a graphics card, or where a recording fails, every call runs as
it is, and one line in the log says so: the results are the same.

What a step must keep to:
  - it takes and returns tensors only, on `device`, and reads none of them (`item`, `if`, `.cpu()`);
    all that changes from call to call is an input, random numbers too
  - the weights and buffers that it uses stay where they are: no model management may move them
  - gradients are made inside: `zero_grad(set_to_none=True)`, `backward` and the step of an
    optimizer from `recordable_adam`, whose rate is set outside with `set_rate`
  - autocast inside has `cache_enabled=False`
The memory of a recording is kept until `close`, or until the step is forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

WARM_UPS = 3  # calls before a recording, in which libraries choose and allocate what they need
MOST_SHAPES = 4  # recordings kept at a time; further shapes run as they are

_log = logging.getLogger(__name__)

Step = Callable[..., Any]  # tensors -> tensor, or tuple of tensors


class Recorder(Protocol):
    """How a device records; `CudaRecorder` is the real one."""

    def warm_up(self, step: Step, inputs: Sequence[Tensor]) -> Any:
        """Run the step as a recording needs to have it run before, and return its result."""

    def record(self, step: Step, inputs: Sequence[Tensor]) -> tuple[Callable[[], None], Any]:
        """Return what runs the step on these very inputs again, and the results it writes to.

        Nothing has been computed yet. Raises RuntimeError where the step cannot be recorded.
        """


@dataclass
class _Shape:
    """How far calls with inputs of one shape have come."""

    calls: int = 0
    inputs: tuple[Tensor, ...] = ()
    replay: Callable[[], None] | None = None
    outputs: Any = None


class RecordedStep:
    """A step that is called like the function it is made of; see the module."""

    def __init__(
        self,
        step: Step,
        device: torch.device,
        *,
        warm_ups: int = WARM_UPS,
        recorder: Recorder | None = None,  # None: CUDA's where `device` is such a card
    ) -> None:
        self.step, self.device, self.warm_ups = step, device, warm_ups
        if recorder is None and device.type == "cuda" and torch.cuda.is_available():
            recorder = CudaRecorder(device)
        self._recorder = recorder
        self._shapes: dict[tuple, _Shape] = {}
        if recorder is None:
            _log.debug("steps on %s run as they are: only CUDA records them", device)

    def __call__(self, *inputs: Tensor) -> Any:
        """Return what the step returns; the next call may overwrite it.

        Inputs may lie on the CPU; from pinned memory they are copied without waiting.
        """
        shape = self._shape_of(inputs)
        if self._recorder is None or shape is None:
            return self.step(*self._moved(inputs))
        shape.calls += 1
        if shape.replay is not None:
            for kept, new in zip(shape.inputs, inputs, strict=True):
                kept.copy_(new, non_blocking=True)
            shape.replay()
            return shape.outputs
        if shape.calls <= self.warm_ups:
            return self._recorder.warm_up(self.step, self._moved(inputs))
        return self._recorded(shape, inputs)

    @property
    def records(self) -> bool:
        """Whether steps are, or will be, replayed."""
        return self._recorder is not None

    def close(self) -> None:
        """Forget all recordings and free their memory; the step can go on being called."""
        self._shapes.clear()

    def _recorded(self, shape: _Shape, inputs: Sequence[Tensor]) -> Any:
        assert self._recorder is not None  # the caller has looked
        # copies: the recording reads from these very tensors for ever
        kept = tuple(x.detach().to(self.device, copy=True) for x in inputs)
        try:
            replay, outputs = self._recorder.record(self.step, kept)
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            _log.warning("steps run one kernel at a time, they cannot be recorded: %s", reason)
            self.close()
            self._recorder = None
            return self.step(*kept)
        shape.inputs, shape.replay, shape.outputs = kept, replay, outputs
        replay()
        return outputs

    def _shape_of(self, inputs: Sequence[Tensor]) -> _Shape | None:
        """Return the record of this shape; None where there are too many already."""
        key = tuple((tuple(x.shape), x.dtype) for x in inputs)
        if key not in self._shapes and len(self._shapes) == MOST_SHAPES:
            return None
        return self._shapes.setdefault(key, _Shape())

    def _moved(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return [x.to(self.device, non_blocking=True) for x in inputs]


class CudaRecorder:
    """Records CUDA graphs that share one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, step: Step, inputs: Sequence[Tensor]) -> Any:
        """Run the step on the stream that will record."""
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            outputs = step(*inputs)
        current.wait_stream(self._stream)
        for x in [*inputs, *(outputs if isinstance(outputs, tuple) else (outputs,))]:
            x.record_stream(current)  # its memory is not given away while it is used there
            x.record_stream(self._stream)
        return outputs

    def record(self, step: Step, inputs: Sequence[Tensor]) -> tuple[Callable[[], None], Any]:
        """Return the replay of the step and what it writes to."""
        graph = torch.cuda.CUDAGraph()
        # other threads, such as a server's, may go on using the card meanwhile
        mode: Any = {"capture_error_mode": "thread_local"}
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, **mode):
            outputs = step(*inputs)
        return graph.replay, outputs


def recordable_adam(
    parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
    device: torch.device,  # where they lie
    *,
    learning_rate: float,
    betas: tuple[float, float],
) -> torch.optim.Adam:
    """Return Adam; on a card its rate and counts lie there too, so that its step can be recorded.

    On a card all weights are changed by one kernel.
    """
    if device.type != "cuda":
        return torch.optim.Adam(parameters, lr=learning_rate, betas=betas)
    rate = torch.tensor(learning_rate, dtype=torch.float32, device=device)
    return torch.optim.Adam(parameters, lr=rate, betas=betas, capturable=True, fused=True)


def set_rate(
    optimizer: torch.optim.Optimizer,
    rate: float,  # times a group's own "scale", where it has one
) -> None:
    """Set the learning rate of the next step, without a copy that waits."""
    for group in optimizer.param_groups:
        wanted = rate * group.get("scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(wanted)
        else:
            group["lr"] = wanted
