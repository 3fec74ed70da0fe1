"""What every record of settings asks of its numbers, and how one is read back from JSON."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from .errors import InputError


def check_numbers(settings: Any) -> None:
    """Raise InputError unless each number of a dataclass is finite, and whole where it is an int.

    A comparison lets NaN pass (`nan < 0` is false), so this comes before them. The declared types
    are read as they stand in the source: `int`, `float`, `int | None`, `tuple[float, float]`.
    """
    for field in fields(settings):
        # a class where annotations are evaluated, its name where they are not
        declared = str(field.type).removeprefix("<class '")
        value = getattr(settings, field.name)
        if value is None and "None" in declared:
            continue
        values = value if isinstance(value, tuple | list) else (value,)
        if declared.startswith(("int", "tuple[int")):
            if not all(isinstance(x, numbers.Integral) for x in values):
                raise InputError(f"{field.name} must be a whole number, got {value!r}")
        elif declared.startswith(("float", "tuple[float")):
            if not all(isinstance(x, numbers.Real) and math.isfinite(x) for x in values):
                raise InputError(f"{field.name} must be a finite number, got {value!r}")


def rebuilt(kind: type, values: Mapping[str, Any]) -> Any:
    """Return the dataclass that `asdict` and JSON made into `values`: records in it, and tuples."""
    hints, made = get_type_hints(kind), {}
    for name, value in values.items():
        if name not in hints:
            raise InputError(f"{kind.__name__} has no setting {name!r}; was this another version?")
        if is_dataclass(hints[name]):
            value = rebuilt(hints[name], value)
        made[name] = tuple(value) if isinstance(value, list) else value
    return kind(**made)
