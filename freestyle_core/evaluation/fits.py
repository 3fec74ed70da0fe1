"""What a method made of a style and a head, in memory and on disk.

Portraits are kept with the renderer they need, for some methods train that too. Read `Fit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import FileFormatError
from ..files.bundle import load_bundle, save_bundle, weights_hash
from ..method.render import render_views
from ..models.eg3d import EG3D
from ..types import CameraBatch, FewShotSet, Portrait, Rendering, Triplane

KIND = "ablation-fit"
_RENDERER = "renderer."


@dataclass(frozen=True)
class Cost:
    """What a fit took. Edited views that were made for another cell count as if made for this."""

    seconds: dict[str, float]  # by stage, of the clock on the wall
    processor_seconds: dict[str, float]  # by stage, of all threads
    memory_mb: float | None = None  # at most, above what was held before; None: nobody can tell

    def plus(self, other: Cost) -> Cost:
        """Return both together; the memory is the larger one."""
        memories = [x for x in (self.memory_mb, other.memory_mb) if x is not None]
        return Cost(
            _added(self.seconds, other.seconds),
            _added(self.processor_seconds, other.processor_seconds),
            max(memories, default=None),
        )

    def scaled(self, share: float) -> Cost:
        """Return what a share of the work takes."""
        return Cost(
            {name: share * x for name, x in self.seconds.items()},
            {name: share * x for name, x in self.processor_seconds.items()},
            self.memory_mb,
        )

    def record(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "seconds": {name: round(x, 2) for name, x in self.seconds.items()},
            "processor_seconds": {n: round(x, 2) for n, x in self.processor_seconds.items()},
            "memory_mb": None if self.memory_mb is None else round(self.memory_mb),
        }


@dataclass(frozen=True)
class Fit:
    """A head in a style, however it was made."""

    result: Portrait | Any  # or anything with `render(cameras) -> Rendering`
    edited: FewShotSet  # what it was learnt from, or what the full method would learn from
    cost: Cost
    notes: tuple[str, ...] = field(default=())  # where a rival's run was not as published

    def render(self, cameras: CameraBatch) -> Rendering:
        """Return views of the result."""
        if isinstance(self.result, Portrait):
            return render_views(self.result, cameras)
        return self.result.render(cameras)


def save_fit(path: Path, key: str, fit: Fit, eg3d: EG3D) -> None:
    """Keep a fit whose result is a portrait; of another kind nothing is kept."""
    portrait = fit.result
    if not isinstance(portrait, Portrait):
        return
    renderer: Any = portrait.renderer
    own = weights_hash(renderer.state_dict())
    is_tuned = own != weights_hash(eg3d.renderer().state_dict())
    state: dict[str, Tensor] = {"planes": portrait.triplane.planes, "w": portrait.w}
    state |= {"edited": fit.edited.images, "cam_to_world": fit.edited.cameras.cam_to_world}
    state["intrinsics"] = fit.edited.cameras.intrinsics
    if is_tuned:
        state |= {_RENDERER + name: value for name, value in renderer.state_dict().items()}
    described = {
        "key": key,
        "front": fit.edited.front,
        "prompt": fit.edited.prompt,
        "cost": fit.cost.record(),
        "notes": list(fit.notes),
        "provenance": portrait.provenance,
    }
    save_bundle(path, KIND, {"box_size": portrait.triplane.box_size}, state, described)


def load_fit(path: Path, key: str, eg3d: EG3D) -> Fit | None:
    """Return what was kept under `key` on the device of `eg3d`; None if there is nothing fit."""
    if not path.is_file():
        return None
    try:
        bundle = load_bundle(path, KIND)
        extra, state = bundle.extra, bundle.state
        if extra["key"] != key:
            return None
        device = next(eg3d.parameters()).device
        cameras = CameraBatch(state["cam_to_world"], state["intrinsics"])
        edited = FewShotSet(state["edited"], cameras, extra["front"], extra["prompt"])
        triplane = Triplane(state["planes"], bundle.config["box_size"])
        made = Portrait(
            _renderer(state, eg3d), triplane, state["w"], provenance=extra["provenance"]
        )
        cost = Cost(**extra["cost"])
        return Fit(made.to(device), edited, cost, tuple(extra["notes"]))
    except (FileFormatError, KeyError, TypeError, RuntimeError):
        return None  # damaged, or of another version: it is made again


def _added(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, float]:
    return {name: a.get(name, 0.0) + b.get(name, 0.0) for name in {**a, **b}}


def _renderer(state: Mapping[str, Tensor], eg3d: EG3D) -> Any:
    own = {k.removeprefix(_RENDERER): v for k, v in state.items() if k.startswith(_RENDERER)}
    if not own:
        return eg3d.renderer()
    renderer = EG3D(eg3d.config).renderer()
    renderer.load_state_dict(own)
    return renderer.eval()
