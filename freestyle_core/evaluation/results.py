"""The finished cells of a matrix as one record for JSON, and what tables read from it.

The record holds every cell's scores, so that means and bounds can be taken again by anyone. Read
`collect`, then `Results`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import FileFormatError
from ..metrics.bootstrap import Interval, bootstrap
from .ablate import Failure, Matrix
from .methods import PSI

KIND, VERSION = "freestyle-matrix", 1
TIME, MEMORY = "processor_seconds", "memory_mb"  # columns beside the scores


def collect(matrix: Matrix, failed: Sequence[Failure], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of all finished cells; `about` names command, commit and machine."""
    methods, protocol = [], {}
    for method in matrix.methods:
        missing, cells = matrix.shop.missing(method), {}
        for pair in matrix.pairs if missing is None else []:
            cell = matrix.store.load(matrix.keys(method, pair)[2])
            if cell is None:
                continue
            protocol = {**cell["protocol"], "prompt": None, "texts": None}
            cost = cell["cost"]
            cells[pair.name] = {
                **cell["scores"],
                TIME: round(sum(cost["processor_seconds"].values()), 1),
                "seconds": round(sum(cost["seconds"].values()), 1),
                MEMORY: cost["memory_mb"],
                "commit": cell["about"].get("commit"),
            }
        row = {"name": method.name, "label": method.label, "part": method.part, "missing": missing}
        methods.append({**row, "lite": method.lite, "pairs": method.pairs, "cells": cells})
    return {
        "kind": KIND,
        "version": VERSION,
        **about,
        "psi": PSI,
        "pairs": [pair.name for pair in matrix.pairs],
        "prompts": {pair.style: pair.prompt for pair in matrix.pairs},
        "models": dict(matrix.shop.models.hashes),
        "protocol": protocol,
        "methods": methods,
        "failed": [asdict(failure) for failure in failed],
    }


@dataclass(frozen=True)
class Results:
    """What a matrix found, read back from its record."""

    record: dict[str, Any]

    @property
    def methods(self) -> list[dict[str, Any]]:
        """Return the rows: name, label, part, missing, cells."""
        return self.record["methods"]

    def method(self, name: str) -> dict[str, Any] | None:
        """Return one row, None where the matrix has no such method."""
        return next((row for row in self.methods if row["name"] == name), None)

    def columns(self) -> list[str]:
        """Return the names of all scores that some cell has."""
        found: dict[str, None] = {}
        for row in self.methods:
            for cell in row["cells"].values():
                found |= {k: None for k, v in cell.items() if isinstance(v, int | float)}
        return list(found)

    def values(self, name: str, column: str) -> Tensor:  # [S,H]
        """Return a score of a method by style and head, NaN where there is none."""
        pairs = [tuple(pair.rsplit("/", 1)) for pair in self.record["pairs"]]
        styles, heads = list(dict.fromkeys(s for s, _ in pairs)), sorted({h for _, h in pairs})
        table = torch.full((len(styles), len(heads)), float("nan"), dtype=torch.float64)
        row = self.method(name)
        for pair, cell in (row["cells"] if row else {}).items():
            style, head = pair.rsplit("/", 1)
            value = cell.get(column)
            if style in styles and head in heads and isinstance(value, int | float):
                table[styles.index(style), heads.index(head)] = value
        return table

    def interval(self, name: str, column: str) -> Interval | None:
        """Return a method's mean score with its bounds over styles and heads."""
        return bootstrap(self.values(name, column))

    def difference(self, name: str, column: str, base: str = "full") -> Interval | None:
        """Return by how much a method's score is above another's, pair by pair."""
        return bootstrap(self.values(name, column) - self.values(base, column))

    def finished(self) -> int:
        """Return the pairs on which every method that could run has run."""
        able = [row for row in self.methods if row["missing"] is None]
        return sum(
            all(pair in row["cells"] for row in able if _asks(row, number))
            for number, pair in enumerate(self.record["pairs"])
        )


def _asks(row: Mapping[str, Any], number: int) -> bool:
    return row["pairs"] is None or number < row["pairs"]


def read_results(path: Path) -> Results:
    """Return the results in a JSON file; raises FileFormatError for any other file."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["kind"] != KIND or record["version"] != VERSION:
            raise ValueError(f"it is of kind {record['kind']}, version {record['version']}")
        if not isinstance(record["methods"], list) or not isinstance(record["pairs"], list):
            raise ValueError("it has no methods or pairs")
    except OSError as error:
        raise FileFormatError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError(
            f"{path} does not hold results of a matrix ({error}); the ablate command writes them"
        ) from None
    return Results(record)
