"""The matrix: every method on every style and head, each cell made once and kept.

A matrix may be stopped at any moment and go on; several processes may work on one folder, pair by
pair; a cell that fails is named at the end and loses no other. Pairs go outermost, all methods of
one before the next, so that a matrix that was stopped early compares methods on equal ground. Read
`Matrix`, then `run_pairs`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from .. import interrupts
from ..errors import Cancelled
from ..files.bundle import weights_hash
from ..files.media.image import save_image
from ..method.render import render_views
from ..method.sample import sample_portrait
from ..progress import Portion, Progress, no_progress
from ..types import CameraBatch, Rendering
from .cells import CellStore, Pair, cell_inputs, fit_inputs, key_of
from .evaluate import evaluate_portrait
from .fits import Fit, load_fit, save_fit
from .methods import PSI, Method
from .rivals import rival_record
from .runners import RUNNERS, Workshop
from .settings import EvaluateSettings
from .strips import strip
from .world import Truth, World

FIT_SHARE = 0.8  # of the progress of a cell
# fewer pairs of views than the protocol's, where every model change asks for a matrix
SHORT_EVALUATION = EvaluateSettings(most_pairs=12, most_views=26)

T = TypeVar("T")
Report = Callable[[int, float], None]  # number of a cell, and how much of it is done, 0 to 1


class Measure(Protocol):
    """Runs a piece of work and says the most memory it held, in MiB above what was held before."""

    def __call__(self, work: Callable[[], T], /) -> tuple[T, float | None]: ...


def unmeasured(work: Callable[[], T]) -> tuple[T, float | None]:
    """Run the work and look at no memory."""
    return work(), None


@dataclass(frozen=True)
class Failure:
    """A cell that could not be made."""

    method: str
    pair: str
    reason: str


@dataclass(frozen=True)
class Matrix:
    """What is to be made, with what, and where it is kept."""

    shop: Workshop
    methods: Sequence[Method]
    pairs: Sequence[Pair]
    store: CellStore
    world: World | None = None  # None: nobody knows the true heads
    settings: EvaluateSettings = field(default_factory=EvaluateSettings)
    about: Mapping[str, Any] = field(default_factory=dict)  # kept with every cell: commit, machine
    measure: Measure = unmeasured

    def runnable(self) -> list[Method]:
        """Return the methods that lack nothing."""
        return [method for method in self.methods if self.shop.missing(method) is None]

    def cells(self) -> list[tuple[Method, Pair]]:
        """Return all cells that are to be made, in their order."""
        return [(m, pair) for pair in self.pairs for m in self.runnable() if self.asks(m, pair)]

    def asks(self, method: Method, pair: Pair) -> bool:
        """Return whether a method is to be tried on a pair."""
        return method.pairs is None or self.pairs.index(pair) < method.pairs

    def keys(self, method: Method, pair: Pair) -> tuple[dict[str, Any], str, str]:
        """Return the inputs of a cell, the hash of its fit and the hash of itself."""
        rival = rival_record(method, pair.seed)
        fitted = fit_inputs(method, pair, self.shop.hashes(method), rival)
        inputs = cell_inputs(fitted, self._protocol(pair))
        return inputs, key_of(fitted), key_of(inputs)

    def _protocol(self, pair: Pair) -> dict[str, Any]:
        shop = self.shop
        networks = {"clip": shop.clip, "dino": shop.dino}
        return {
            "settings": asdict(self.settings),
            "prompt": pair.prompt,
            "truth": None if self.world is None else [self.world.name, pair.style],
            "perceptual": shop.models.hashes["perceptual"],
            **{name: None if x is None else _named(x) for name, x in networks.items()},
        }


def run_pairs(matrix: Matrix, report: Report) -> list[Failure]:
    """Make every cell that is not there and return those that failed.

    Pairs on which another process is working are left to it. What `report` raises ends the run.
    """
    failed: list[Failure] = []
    numbers = {(m.name, pair): number for number, (m, pair) in enumerate(matrix.cells())}
    for pair in matrix.pairs:
        with matrix.store.claimed(pair) as mine:
            if mine:
                failed += _run_pair(matrix, pair, numbers, report)
    return failed


class Tally:
    """Reports of cells as one progress: how many are finished, in whole cells and shares."""

    def __init__(self, cells: int, progress: Progress = no_progress) -> None:
        self.cells, self.progress = cells, progress
        self.shares: dict[int, float] = {}
        progress(0, max(cells, 1))

    def __call__(self, cell: int, share: float) -> None:
        """Take note of a report."""
        self.shares[cell] = share
        self.progress(min(sum(self.shares.values()), self.cells), max(self.cells, 1))


def _run_pair(
    matrix: Matrix, pair: Pair, numbers: Mapping[tuple[str, Pair], int], report: Report
) -> list[Failure]:
    failed, looks = [], _Looks(matrix, pair)
    for method in matrix.runnable():
        if not matrix.asks(method, pair):
            continue
        progress = _cell_progress(report, numbers[method.name, pair])
        progress(0, 1)
        keys = matrix.keys(method, pair)
        if matrix.store.load(keys[2]) is not None:
            progress(1, 1)
            continue
        try:
            _make_cell(matrix, method, pair, keys, looks, progress)
        except Cancelled:
            raise
        except Exception as error:  # whatever it is, the other cells are worth having
            if interrupts.received() is not None:
                raise
            reason = (str(error).splitlines() or [""])[0]
            failed.append(Failure(method.name, pair.name, f"{type(error).__name__}: {reason}"))
        progress(1, 1)
    return failed


def _cell_progress(report: Report, cell: int) -> Progress:
    def shown(done: float, total: int, preview: Tensor | None = None) -> None:
        report(cell, done / total if total else 1.0)

    return shown


def _make_cell(
    matrix: Matrix,
    method: Method,
    pair: Pair,
    keys: tuple[dict[str, Any], str, str],  # of `Matrix.keys`
    looks: _Looks,
    progress: Progress,
) -> None:
    shop, store, (inputs, fit_key, key) = matrix.shop, matrix.store, keys
    made = _fitted(matrix, method, pair, fit_key, Portion(progress, 0.0, FIT_SHARE))
    rig = shop.models.eg3d.config.rig()
    begun = time.process_time()
    scored = evaluate_portrait(
        made.render,
        rig=rig,
        distance=shop.models.perceptual,
        clip=shop.clip,
        dino=shop.dino,
        prompt=pair.prompt,
        original=looks.original,
        edited=made.edited,
        truth=looks.truth,
        settings=matrix.settings,
        progress=Portion(progress, FIT_SHARE, 1.0),
    )
    save_image(store.picture(key), scored.picture)
    save_image(store.strip(key), strip(made, rig))
    finite = {name: float(x) for name, x in scored.scores.items() if math.isfinite(x)}
    unknown = {name: "no number came out" for name in scored.scores if name not in finite}
    cell = {
        "method": method.name,
        "pair": asdict(pair),
        "scores": {name: round(value, 6) for name, value in finite.items()},
        "missing": {**unknown, **scored.missing},
        "protocol": dict(scored.protocol),
        "cost": made.cost.record(),
        "evaluation_processor_seconds": round(time.process_time() - begun, 2),
        "notes": list(made.notes),
        "about": dict(matrix.about),
        "inputs": inputs,
    }
    store.save(key, cell)  # last: it says that all is there


def _fitted(matrix: Matrix, method: Method, pair: Pair, key: str, progress: Progress) -> Fit:
    """Return what a method makes of a pair: kept from before, or made and kept now."""
    eg3d, path = matrix.shop.models.eg3d, matrix.store.fit(key)
    kept = load_fit(path, key, eg3d)
    if kept is not None:
        return kept
    runner = RUNNERS[method.runner]
    made, memory = matrix.measure(partial(runner, matrix.shop, method, pair, progress))
    made = replace(made, cost=replace(made.cost, memory_mb=memory))
    save_fit(path, key, made, eg3d)
    return made


class _Looks:
    """The unstyled head and the truth of a pair, each view made once for all methods."""

    def __init__(self, matrix: Matrix, pair: Pair) -> None:
        self._eg3d, self._pair = matrix.shop.models.eg3d, pair
        self._head: Any = None
        self._seen: dict[tuple[str, bytes], Any] = {}
        world = matrix.world
        self.truth: Truth | None = None
        if world is not None:
            drawn = world.truth(pair.style, pair.seed)
            self.truth = partial(self._once, "truth", drawn)

    def original(self, cameras: CameraBatch) -> Rendering:
        """Return views of the head before it was restyled."""
        return self._once("original", self._rendered, cameras)

    def _rendered(self, cameras: CameraBatch) -> Rendering:
        if self._head is None:
            self._head = sample_portrait(self._eg3d, self._pair.seed, psi=PSI)
        return render_views(self._head, cameras)

    def _once(self, what: str, make: Callable[[CameraBatch], Any], cameras: CameraBatch) -> Any:
        key = what, cameras.label().cpu().numpy().tobytes()
        if key not in self._seen:
            self._seen[key] = make(cameras)
        return self._seen[key]


def _named(network: Any) -> list[str]:
    """Return a network's name and, where it has weights, their hash."""
    state: dict[str, Tensor] = network.state_dict() if isinstance(network, torch.nn.Module) else {}
    return [network.name, weights_hash(state)[:16]]
