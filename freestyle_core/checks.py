"""What every record of settings asks of its numbers before it looks at their ranges."""

from __future__ import annotations

import math
import numbers
from dataclasses import fields
from typing import Any

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
