"""What a training run needs to continue to the same result: a record of plain tensors.

`pack` and `unpack` turn networks, an optimiser, losses and a random generator into named
tensors and back. Everything is copied, so a checkpoint does not change when the run goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import MismatchError

ADAM_MOMENTS = ("exp_avg", "exp_avg_sq")
_OPTIMIZER, _LOSSES, _RANDOM = "optimizer", "losses", "random"


@dataclass(frozen=True)
class TrainingState:
    """A checkpoint: with the same inputs it continues to the same result, bit by bit on a CPU."""

    step: int  # finished iterations
    tensors: dict[str, Tensor]  # "<network>.*", "optimizer.*", "losses.*" [step], "random"
    task: str  # says which run it belongs to


def pack(
    step: int,
    task: str,
    networks: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    losses: Mapping[str, Sequence[float]],
    generator: torch.Generator | None = None,
) -> TrainingState:
    """Return a copy of all that changes from step to step."""
    tensors: dict[str, Tensor] = {}
    for prefix, network in networks.items():
        tensors |= {f"{prefix}.{k}": v.clone() for k, v in network.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"{_OPTIMIZER}.{index}.{k}": v.clone() for k, v in values.items()}
    for name, values in losses.items():
        tensors[f"{_LOSSES}.{name}"] = torch.tensor(list(values), dtype=torch.float32)
    if generator is not None:
        tensors[_RANDOM] = generator.get_state()
    return TrainingState(step, tensors, task)


def unpack(
    state: TrainingState,
    task: str,
    networks: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator | None = None,
    *,
    losses: Iterable[str],  # names
    moments: Iterable[str] = ADAM_MOMENTS,  # what the optimiser keeps for each weight
) -> dict[str, list[float]]:
    """Load what `pack` kept into the same objects and return the losses.

    Raises MismatchError, before anything is changed, for a checkpoint that does not fit them.
    """
    if state.task != task:
        raise MismatchError(
            "this checkpoint belongs to another training run (other settings, networks or "
            f"pictures): it is of {state.task!r}, this is {task!r}; start again without it"
        )
    random = {} if generator is None else {_RANDOM: tuple(generator.get_state().shape)}
    numbers = {f"{_LOSSES}.{name}": (state.step,) for name in losses}
    _check_fit(state, networks, optimizer, random | numbers, tuple(moments))
    for prefix, network in networks.items():
        network.load_state_dict(_under(state, prefix))
    saved = optimizer.state_dict()
    for name, value in _under(state, _OPTIMIZER).items():
        index, key = name.split(".")
        saved["state"].setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(saved)
    if generator is not None:
        generator.set_state(state.tensors[_RANDOM].clone())
    return {name: value.tolist() for name, value in _under(state, _LOSSES).items()}


def _check_fit(
    state: TrainingState,
    networks: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    others: Mapping[str, tuple[int, ...]],
    moments: tuple[str, ...],
) -> None:
    """Raise unless the tensors are those of these networks and this optimiser of their weights."""
    expected = dict(others)
    for prefix, network in networks.items():
        expected |= {f"{prefix}.{k}": tuple(v.shape) for k, v in network.state_dict().items()}
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    trained = {name.split(".")[0] for name in _under(state, _OPTIMIZER)}
    for index, weight in enumerate(weights):
        if str(index) in trained:  # a weight that never had a gradient has no statistics
            for key in moments:
                expected[f"{_OPTIMIZER}.{index}.{key}"] = tuple(weight.shape)
            expected[f"{_OPTIMIZER}.{index}.step"] = ()
    found = {name: tuple(value.shape) for name, value in state.tensors.items()}
    wrong = sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
    if wrong:
        has, needs = (shapes.get(wrong[0], "no such tensor") for shapes in (found, expected))
        raise MismatchError(
            f"this checkpoint does not fit its training run: {wrong[0]} is {has}, expected "
            f"{needs}; it is damaged or from another version, delete it to start again"
        )


def _under(state: TrainingState, prefix: str) -> dict[str, Tensor]:
    start = prefix + "."
    return {
        name.removeprefix(start): value.clone()
        for name, value in state.tensors.items()
        if name.startswith(start)
    }
