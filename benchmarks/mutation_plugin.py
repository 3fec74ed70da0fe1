"""A pytest plugin for mutation.py: writes how long each test that passed took, to seconds.json."""

import json
from collections import defaultdict
from pathlib import Path

_seconds: dict[str, float] = defaultdict(float)
_failed: set[str] = set()


def pytest_runtest_logreport(report) -> None:
    _seconds[report.nodeid] += report.duration
    if not report.passed:
        _failed.add(report.nodeid)


def pytest_sessionfinish(session) -> None:
    passed = {test: taken for test, taken in _seconds.items() if test not in _failed}
    Path("seconds.json").write_text(json.dumps(passed))
