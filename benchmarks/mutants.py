"""Small faults put into the library's source, one at a time. `sample` draws them, `applied` puts
one in.

The faults are those of mutmut (swapped operators, other numbers, dropped arguments, None for a
value, ...), but for those in texts: what a message says is not what this looks for. Unlike mutmut
they also go into module level, class bodies and decorated functions.
"""

from __future__ import annotations

import ast
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

OPERATORS = [
    (kind, change)
    for kind, change in mutators.mutation_operators
    if change is not mutators.operator_string
]
# types, names and the parts of a program that only arrange it
SKIPPED = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.AnnAssign)
SKIPPED_CALLS = {"len", "isinstance", "TypeVar", "getLogger", "cast"}
LOGGERS = {"log", "logger", "logging", "_log"}  # what is written there is text


@dataclass(frozen=True)
class Mutant:
    """One fault: where it is, and the lines whose running tells which tests can see it."""

    path: str
    line: int
    before: str  # the line as it is
    after: str  # the source from there that differs
    lines: tuple[int, int]  # first and last line of the statement, of the function for a default
    source: str = field(repr=False)  # the whole file with the fault


@dataclass(frozen=True)
class _Change:
    node: cst.CSTNode
    new: cst.CSTNode
    line: int
    lines: tuple[int, int]


def sample(root: Path, package: str, count: int, seed: int) -> list[Mutant]:
    """Return `count` mutants: every line that can be changed is equally likely, then its changes.

    Equal sources and seeds give equal mutants.
    """
    rng = random.Random(seed)
    files = {str(path.relative_to(root)): path for path in sorted((root / package).rglob("*.py"))}
    found = {name: _changes(path.read_text(encoding="utf-8")) for name, path in files.items()}
    places = [(name, line) for name, (_, at) in found.items() for line in sorted(at)]
    rng.shuffle(places)
    mutants: list[Mutant] = []
    for name, line in places:
        if len(mutants) == count:
            break
        module, at = found[name]
        changes = at[line]
        rng.shuffle(changes)
        mutant = next(filter(None, (_applied(name, module, change) for change in changes)), None)
        if mutant is not None:
            mutants.append(mutant)
    return mutants


def again(root: Path, records: list[dict]) -> list[Mutant]:
    """Return the mutants of a result whose lines still stand, wherever they stand now."""
    mutants: list[Mutant] = []
    for name in sorted({record["path"] for record in records}):
        path = root / name
        if not path.exists():
            continue
        wanted = {(r["before"], r["after"]) for r in records if r["path"] == name}
        source = path.read_text(encoding="utf-8")
        lines = [line.strip() for line in source.splitlines()]
        module, at = _changes(source)
        for line, changes in at.items():
            if not any(lines[line - 1] in before for before, _ in wanted):
                continue
            for mutant in filter(None, (_applied(name, module, change) for change in changes)):
                if (mutant.before, mutant.after) in wanted:
                    wanted.remove((mutant.before, mutant.after))
                    mutants.append(mutant)
    return mutants


def _applied(name: str, module: cst.Module, change: _Change) -> Mutant | None:
    """Return the mutant, None where the change leaves the program as it is or breaks its syntax."""
    before = module.code
    after = module.deep_replace(change.node, change.new).code  # type: ignore[arg-type]
    try:
        if ast.dump(ast.parse(before)) == ast.dump(ast.parse(after)):
            return None
        compile(after, name, "exec")
    except SyntaxError:
        return None
    old, new = before.splitlines(), after.splitlines()
    start = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    end = next(
        i for i, (a, b) in enumerate(zip(old[::-1], new[::-1], strict=False)) if a != b or i >= 400
    )
    shown = [" ".join(x.strip() for x in rows[start : len(rows) - end]) for rows in (old, new)]
    return Mutant(name, start + 1, *shown, change.lines, after)


def _changes(source: str) -> tuple[cst.Module, dict[int, list[_Change]]]:
    wrapper = MetadataWrapper(cst.parse_module(source))
    finder = _Finder(wrapper.resolve(PositionProvider))
    wrapper.module.visit(finder)
    return wrapper.module, finder.found


class _Finder(cst.CSTVisitor):
    def __init__(self, positions) -> None:
        super().__init__()
        self.positions: dict[cst.CSTNode, CodeRange] = positions
        self.found: dict[int, list[_Change]] = defaultdict(list)
        self.spans: list[tuple[cst.CSTNode, tuple[int, int]]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.AnnAssign):  # a value with a type: the value alone
            if node.value is not None:
                self._push(node)
                node.value.visit(self)
                self._pop(node)
            return False
        if isinstance(node, SKIPPED) or _is_skipped_call(node) or _is_skipped_assignment(node):
            return False
        if isinstance(node, cst.SimpleStatementLine | cst.FunctionDef):
            self._push(node)
        elif isinstance(node, cst.BaseCompoundStatement):
            at = self.positions[node]
            first = self.positions[node.body].start.line
            self.spans.append((node, (at.start.line, max(at.start.line, first - 1))))
        for change in _changed(node):
            self._add(node, change)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        self._pop(original_node)

    def _push(self, node: cst.CSTNode) -> None:
        at = self.positions[node]
        self.spans.append((node, (at.start.line, at.end.line)))

    def _pop(self, node: cst.CSTNode) -> None:
        if self.spans and self.spans[-1][0] is node:
            self.spans.pop()

    def _add(self, node: cst.CSTNode, new: cst.CSTNode) -> None:
        line = self.positions[node].start.line if node in self.positions else 0
        if self.spans and line:
            self.found[line].append(_Change(node, new, line, self.spans[-1][1]))


def _changed(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for kind, change in OPERATORS:
        if isinstance(node, kind):
            yield from change(node)


def _is_skipped_call(node: cst.CSTNode) -> bool:
    if not isinstance(node, cst.Call):
        return False
    name = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
    if isinstance(node.func, cst.Attribute) and isinstance(node.func.value, cst.Name):
        if node.func.value.value in LOGGERS:
            return True
    return isinstance(name, cst.Name) and name.value in SKIPPED_CALLS


def _is_skipped_assignment(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Assign) and any(
        isinstance(target.target, cst.Name) and target.target.value == "__all__"
        for target in node.targets
    )
