"""Processes of this machine: what each may use, and what becomes of a killed one."""

import multiprocessing
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from freestyle_core.batch import local
from freestyle_core.batch.engine import LOST, OUTCOME, READY, REFUSED, SHARE, Event
from freestyle_core.batch.folder import BatchFolder
from freestyle_core.batch.local import (
    LocalEngine,
    Seat,
    _environment,
    _serve,
    seats,
    visible_cards,
)
from freestyle_core.batch.run import Run
from freestyle_core.batch.worker import DONE
from freestyle_core.errors import InputError
from tests.batch.small import (
    kills_itself_once,
    ready_folder,
    small_entry,
    small_plan,
    small_tasks,
)


def test_a_processor_is_shared_out_and_cards_in_turn():
    assert seats(None, [], 8) == [Seat(8)]
    assert seats(3, [], 8) == [Seat(2)] * 3
    assert seats(4, [], 2) == [Seat(1)] * 4
    assert seats(None, ["0", "1"], 8) == [Seat(4, "0"), Seat(4, "1")]
    assert seats(3, ["2", "GPU-8f"], 9) == [Seat(3, "2"), Seat(3, "GPU-8f"), Seat(3, "2")]


def test_cards_are_those_that_this_process_may_use():
    assert visible_cards({"CUDA_VISIBLE_DEVICES": "2, GPU-8f"}) == ["2", "GPU-8f"]
    assert visible_cards({"CUDA_VISIBLE_DEVICES": "-1"}) == []
    assert visible_cards({"CUDA_VISIBLE_DEVICES": ""}) == []


def test_a_process_finds_its_card_and_threads_and_nothing_stays_set(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with _environment(Seat(2, "GPU-8f")):
        found = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
        assert found == {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "GPU-8f"}
    assert os.environ["OMP_NUM_THREADS"] == "7" and "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.fixture
def same_signals():
    """Leave Ctrl-C as it was: a worker ignores it."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_what_a_process_says_until_it_is_told_to_end(tiny_paths, tmp_path, same_signals):
    tasks = small_tasks(tiny_paths, small_entry(prompts=["an elf", "sand"], seed=3))
    ours, theirs = multiprocessing.Pipe()
    for message in (*tasks, None):
        ours.send(message)
    _serve(theirs, small_plan(tiny_paths, tmp_path), 1)
    theirs.close()
    said = []
    with pytest.raises(EOFError):
        while True:
            said.append(ours.recv())
    assert said[0] == (READY, None)
    outcomes = [value for kind, value in said if kind == OUTCOME]
    assert [(x.key, x.state) for x in outcomes] == [(task.job.key, DONE) for task in tasks]
    assert all(0 <= value[0] <= 1 for kind, value in said if kind == SHARE)


def test_a_process_whose_main_process_is_gone_ends_and_leaves_nothing(
    tiny_paths, tmp_path, same_signals, monkeypatch
):
    ours, theirs = multiprocessing.Pipe()
    ours.send(small_tasks(tiny_paths, small_entry(prompt="an elf"))[0])
    monkeypatch.setattr(local, "REPORT_SECONDS", 0.0)
    # it closes as the job's first report is due
    monkeypatch.setattr(local, "as_png", lambda image: ours.close())
    monkeypatch.setattr(local, "PICTURE_SECONDS", 0.0)
    _serve(theirs, small_plan(tiny_paths, tmp_path), 1)
    assert ours.closed
    assert BatchFolder(tmp_path).finished() == [] and not list(tmp_path.rglob(".freestyle-*"))


def dies_then_refuses(mark):
    """In place of choosing a device: the first process is killed, the second one says no."""
    if not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    raise InputError("there is no device here")


@pytest.mark.slow  # each process imports everything anew
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
def test_a_killed_process_is_replaced(tiny_paths, tmp_path):
    plan = replace(
        small_plan(tiny_paths, tmp_path), device=partial(dies_then_refuses, tmp_path / "mark")
    )
    said = []
    with LocalEngine(plan, [Seat(1)]) as engine:
        first = engine.pid(0)
        while len(said) < 2:
            said += engine.events(5)
        assert engine.pid(0) != first
    assert said == [
        Event(0, LOST, "its process ended by signal 9"),
        Event(0, REFUSED, "there is no device here"),
    ]


@pytest.mark.slow  # each process imports everything anew
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
def test_a_killed_process_is_replaced_and_its_job_made(tiny_paths, tmp_path):
    tasks = small_tasks(tiny_paths, small_entry(prompts=["an elf", "sand"], seed=3))
    folder = ready_folder(tmp_path / "out", tasks)
    plan = small_plan(
        tiny_paths, folder.root, write=partial(kills_itself_once, tmp_path / "killed")
    )
    events = []
    engine = LocalEngine(plan, [Seat(1)])
    report = Run(tasks, folder, engine, events.append).run()
    assert report.made == 2 and report.failed == []
    lost = [event for event in events if event["event"] == "lost"]
    assert [event["why"] for event in lost] == ["its process ended by signal 9"]
    assert len(folder.finished()) == 2
    assert list(folder.root.rglob(".freestyle-*")) == []
    # nobody is left, and the job was made by another process
    first = int((tmp_path / "killed").read_text())
    makers = {folder.done(key)["process"] for key in folder.finished()}
    assert first not in makers
    for pid in {first, *makers}:
        assert not Path(f"/proc/{pid}").exists() or pid == os.getpid()
