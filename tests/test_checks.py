"""The numbers of every record of settings: finite, whole where they are counts, in their range."""

import importlib
import inspect
import math
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import freestyle_core
from freestyle_core.errors import InputError
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.method.finetune import FinetuneSettings
from freestyle_core.method.sample import sample_portrait
from freestyle_core.pretrain.train import PretrainSettings
from freestyle_core.training.loop import TrainSettings
from tests.tiny import tiny_eg3d

CORE = Path(freestyle_core.__file__).parent
SIZES = {"neural_resolution": 8, "depth_samples": 6, "importance_samples": 6}
NEEDED = {"PortraitSettings": {"prompts": ("an elf",)}, "ResolvedSettings": SIZES}


def records():
    """Return every dataclass of the library whose name ends in Settings."""
    found = {}
    for path in CORE.rglob("*.py"):
        if "Settings:" in path.read_text(encoding="utf-8"):
            parts = path.relative_to(CORE).with_suffix("").parts
            module = importlib.import_module(".".join(("freestyle_core", *parts)))
            for name, kind in inspect.getmembers(module, is_dataclass):
                if name.endswith("Settings") and kind.__module__ == module.__name__:
                    found[name] = kind
    return found


def number_fields():
    for name, kind in sorted(records().items()):
        for field in fields(kind):
            declared = str(field.type)
            if "float" in declared or "int" in declared:
                yield pytest.param(kind, field, id=f"{name}.{field.name}")


def test_the_records_are_found():
    expected = {"Finetune", "Mesh", "Portrait", "Pretrain", "Render", "Stylize", "Train"}
    assert {f"{name}Settings" for name in expected | {"Turntable"}} <= set(records())


@pytest.mark.parametrize("kind, field", list(number_fields()))
def test_no_number_is_nan_infinite_or_of_another_kind(kind, field):
    given = NEEDED.get(kind.__name__, {})
    kind(**given)
    wrong = [math.nan, math.inf, -math.inf, "1"]
    if "float" not in str(field.type):
        wrong.append(2.5)
    for value in wrong:
        pair = "tuple" in str(field.type)
        with pytest.raises(InputError, match=field.name):
            kind(**{**given, field.name: (0, value) if pair else value})


@pytest.mark.parametrize(
    "kind, wrong",
    [
        (FinetuneSettings, {"betas": (0.0, 1.0)}),  # Adam would divide by zero
        (FinetuneSettings, {"betas": (0.5,)}),
        (PretrainSettings, {"betas": (-0.1, 0.9)}),
        (PretrainSettings, {"psi": (1.0, 0.6)}),
        (TrainSettings, {"steps": 0}),
        (TrainSettings, {"batch_size": 0}),
    ],
)
def test_numbers_outside_their_range_are_refused(kind, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        kind(**wrong)


@pytest.mark.parametrize("angle", [math.nan, math.inf])
def test_angles_and_truncation_are_finite(angle):
    eg3d = tiny_eg3d()
    for yaw, pitch in ((angle, 0.0), (0.0, angle)):
        with pytest.raises(InputError, match="finite numbers of degrees|stay within"):
            orbit_cameras([yaw], [pitch], eg3d.config.rig())
    with pytest.raises(InputError, match="psi must be a finite number"):
        sample_portrait(eg3d, 0, psi=angle)
