"""A pytest plugin for mutation.py: writes the CPU seconds of each test that passed."""

import json
import os
from pathlib import Path

import pytest

_seconds: dict[str, float] = {}
_failed: set[str] = set()


def _used() -> float:
    """Return the CPU seconds of this process and of those it has started."""
    return sum(os.times()[:4])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    before = _used()
    yield
    _seconds[item.nodeid] = _used() - before


def pytest_runtest_logreport(report) -> None:
    if not report.passed:
        _failed.add(report.nodeid)


def pytest_sessionfinish(session) -> None:
    passed = {test: taken for test, taken in _seconds.items() if test not in _failed}
    Path("seconds.json").write_text(json.dumps(passed))
