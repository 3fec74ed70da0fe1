"""Measuring the stages, and what is said and written of it. Read `measure`, then `lines`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...progress import Portion, Progress
from .meter import Meter, Sample, operations
from .stages import Stage

NAIVE, SAME, PRESET = "naive", "same", "preset"
ADDED = ("render", "edit", "finetune")  # what a portrait's time is added up of


@dataclass(frozen=True)
class Measured:
    """A stage, what its ways took, and how equal the results of equal work are."""

    stage: Stage
    samples: Mapping[str, Sequence[Sample]]
    alike: str
    flop: Mapping[str, float]  # operations of a unit; empty where they were not counted

    def seconds(self, way: str) -> list[float]:
        """Return the seconds of a unit, from the shortest run to the longest."""
        return sorted(s.seconds / self.stage.units for s in self.samples[self._taken(way)])

    def processor(self, way: str) -> float:
        """Return the median processor seconds of a unit."""
        taken = self.samples[self._taken(way)]
        return statistics.median(s.processor / self.stage.units for s in taken)

    def memory_mb(self, way: str) -> float | None:
        """Return the most memory that a run took besides what was held before."""
        found = [s.memory_mb for s in self.samples[self._taken(way)]]
        return max((m for m in found if m is not None), default=None)

    def portrait_seconds(self, way: str) -> tuple[float, float]:
        """Return what this stage of a whole portrait takes, its preparations included.

        Seconds, and seconds of processors.
        """
        taken, count = self.samples[self._taken(way)], self.stage.whole[way]
        ready = statistics.median(s.preparation for s in taken)
        busy = statistics.median(s.preparation_processor for s in taken)
        middle = statistics.median(self.seconds(way))
        return ready + middle * count, busy + self.processor(way) * count

    def _taken(self, way: str) -> str:
        return way if way in self.samples else SAME  # a preset with the paper's work


def measure(
    stage: Stage, meter: Meter, repeats: int, progress: Progress, *, warm_up: bool = True
) -> Measured:
    """Run every way `repeats` times, by turns and in alternating order, after a short warm-up."""
    ways = list(stage.ways)
    runs = [(way, False) for way in ways] if warm_up else []
    for turn in range(repeats):
        runs += [(way, True) for way in (ways if turn % 2 == 0 else reversed(ways))]
    samples: dict[str, list[Sample]] = {way: [] for way in ways}
    results: dict[str, Any] = {}
    for number, (way, counts) in enumerate(runs):
        part = Portion(progress, number / len(runs), (number + 1) / len(runs))
        units = stage.units if counts else min(2, stage.units)
        sample, result = meter.measure(_work(stage, way, units, part))
        if counts:
            samples[way].append(sample)
            results[way] = result
    alike = stage.alike(results[NAIVE], results[SAME]) if SAME in results else ""
    flop = {way: _flop(stage, way) for way in ways} if meter.on_card and warm_up else {}
    return Measured(stage, samples, alike, flop)


def lines(
    measured: Mapping[str, Measured], preset: str, rates: Mapping[str, float]
) -> Iterator[str]:
    """Yield the lines of the report.

    Processor seconds stand beside the time: where others use the machine too, they say more.
    """
    names = {NAIVE: "naive", SAME: "same work", PRESET: preset}
    for stage_name, found in measured.items():
        alike = f" (same work: {found.alike})" if found.alike else ""
        yield f"{stage_name}, seconds per {found.stage.unit}{alike}"
        for way in found.samples:
            yield f"  {names[way]:10} {', '.join(_parts(found, way, rates.get(stage_name)))}"
    added = portrait(measured)
    if added:
        yield "a portrait, by adding up"
    for way, (seconds, busy) in added.items():
        counts = ", ".join(
            f"{measured[name].stage.whole[way]} {measured[name].stage.unit}s" for name in ADDED
        )
        ratio = "" if way == NAIVE else _ratio(added[NAIVE], (seconds, busy))
        yield f"  {names[way]:10} {seconds:.1f} s, {busy:.1f} of processors, for {counts}{ratio}"


def _parts(found: Measured, way: str, rate: float | None) -> Iterator[str]:
    times, memory, busy = found.seconds(way), found.memory_mb(way), found.processor(way)
    middle = statistics.median(times)
    yield f"{middle:.3g} ({times[0]:.3g} to {times[-1]:.3g})"
    yield f"{busy:.3g} of processors"
    if memory is not None:
        yield f"{memory:.0f} MB"
    if rate is not None and way in found.flop:
        yield f"{found.flop[way] / middle / rate:.0%} of the card's rate for matrices"
    if way != NAIVE:
        naive = statistics.median(found.seconds(NAIVE)), found.processor(NAIVE)
        yield _ratio(naive, (middle, busy))[2:]


def _ratio(naive: tuple[float, float], ours: tuple[float, float]) -> str:
    (slow, slow_busy), (fast, fast_busy) = naive, ours
    return f", {slow / fast:.1f} times as fast ({slow_busy / max(fast_busy, 1e-9):.1f} in those)"


def portrait(measured: Mapping[str, Measured]) -> dict[str, tuple[float, float]]:
    """Return the seconds of a whole portrait each way, and those of processors.

    Nothing where a stage was left out.
    """
    if any(name not in measured for name in ADDED):
        return {}
    found = {}
    for way in (NAIVE, SAME, PRESET):
        parts = [measured[name].portrait_seconds(way) for name in ADDED]
        found[way] = sum(part[0] for part in parts), sum(part[1] for part in parts)
    return found


def record(measured: Mapping[str, Measured], rates: Mapping[str, float]) -> dict[str, Any]:
    """Return all numbers for JSON."""
    stages = {}
    for name, found in measured.items():
        stages[name] = {
            "unit": found.stage.unit,
            "units_measured": found.stage.units,
            "units_of_a_portrait": dict(found.stage.whole),
            "same_work": found.alike,
            "matrix_rate": rates.get(name),
            "ways": {way: _numbers(found, way) for way in found.samples},
        }
    added = {
        way: {"seconds": seconds, "processor_seconds": busy}
        for way, (seconds, busy) in portrait(measured).items()
    }
    return {"stages": stages, "portrait": added}


def _numbers(found: Measured, way: str) -> dict[str, Any]:
    times, samples = found.seconds(way), found.samples[way]
    return {
        "seconds_per_unit": {
            "median": statistics.median(times),
            "least": times[0],
            "most": times[-1],
        },
        "processor_seconds_per_unit": found.processor(way),
        "preparation_seconds": statistics.median(s.preparation for s in samples),
        "memory_mb": found.memory_mb(way),
        "operations_per_unit": found.flop.get(way),
        "runs": [s.seconds for s in samples],
    }


def _work(stage: Stage, way: str, units: int, progress: Progress) -> Callable[[Any], Any]:
    return lambda ready: stage.ways[way](units, ready, progress)


def _flop(stage: Stage, way: str) -> float:
    def counted(units: int) -> float:
        return operations(lambda: _work(stage, way, units, _silent)(_nothing))

    one, two = counted(1), counted(2)
    return float(two - one)


def _silent(done: float, total: int, preview: Any = None) -> None:
    pass


def _nothing() -> None:
    pass
