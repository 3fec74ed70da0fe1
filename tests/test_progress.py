"""Stages, and time as a person reads it."""

import pytest

from freestyle_core import progress
from freestyle_core.progress import Stages, clock


def test_clock_reads_like_a_stopwatch():
    assert [clock(s) for s in (0, 9.6, 61, 3599, 3725)] == [
        "0:00",
        "0:10",
        "1:01",
        "59:59",
        "1:02:05",
    ]


def test_stages_time_everything_and_close_on_error(monkeypatch):
    now = iter([0.0, 2.0, 10.0, 13.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    closed = []

    class Recorder(progress.Bar):
        def close(self, *, finished):
            closed.append(finished)

    log = Stages(lambda name: Recorder())
    with log.stage("one"):
        pass
    with pytest.raises(KeyboardInterrupt), log.stage("two"):
        raise KeyboardInterrupt
    assert log.times == {"one": 2.0, "two": 3.0}
    assert closed == [True, False]


def test_something_is_done_at_the_end_of_every_stage_even_of_a_stopped_one():
    ended = []
    log = Stages(at_end=lambda: ended.append(len(ended)))
    with log.stage("one"):
        assert ended == []
    with pytest.raises(KeyboardInterrupt), log.stage("two"):
        raise KeyboardInterrupt
    assert ended == [0, 1]
