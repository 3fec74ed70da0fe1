"""What a killed process leaves goes with the next use of the folder, never while it still works."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freestyle_core.errors import InputError
from freestyle_core.files import bundle
from freestyle_core.files.bundle import write_atomically
from freestyle_core.files.leftovers import clear_leftovers, unfinished
from freestyle_core.files.record import differences
from freestyle_core.files.staging import staged

ROOT = Path(__file__).resolve().parents[2]
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")

# a run and the writing of one file, both unfinished until the program is killed
UNFINISHED = """
import sys, time
from pathlib import Path
from freestyle_core.files.leftovers import unfinished
from freestyle_core.files.staging import staged
target = Path(sys.argv[1])
with staged(target) as work, unfinished(target) as part:
    (work / "front.png").write_text("half")
    part.write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""
# a run that is killed when it moves the n-th of its files
MOVING = """
import hashlib, json, os, signal, sys
from freestyle_core.files.staging import staged
target, number, move = sys.argv[1], int(sys.argv[2]), os.replace
def replace(*names):
    global number
    number -= 1
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    move(*names)
with staged(target, record="run.json") as work:
    for name in ("a.png", "z.png"):
        (work / name).write_text("new " + name)
    hashes = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in work.iterdir()}
    (work / "run.json").write_text(json.dumps({"sha256": hashes}))
    os.replace = replace
"""


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def started(script, *argv):
    return subprocess.Popen([sys.executable, "-c", script, *argv], cwd=ROOT, stdout=subprocess.PIPE)


@POSIX
@pytest.mark.parametrize("user", ["a run", "a file"])
def test_leftovers_go_when_the_folder_is_next_used_and_not_before_their_process(
    user, tmp_path, monkeypatch
):
    def use():
        monkeypatch.setattr(bundle, "_cleared", set())  # as in a new process
        if user == "a run":
            with staged(tmp_path) as work:
                (work / "own.txt").write_text("x")
        else:
            with write_atomically(tmp_path / "own.txt") as temporary:
                temporary.write_text("x")

    (tmp_path / ".mine.1a2b3c4d.tmp").write_text("of another program")
    program = started(UNFINISHED, str(tmp_path))
    try:
        assert program.stdout.readline() == b"ready\n"
        use()
        alive = [name for name in names(tmp_path) if name.startswith(".freestyle")]
        assert len(alive) == 4  # a folder, a file, and a lock beside each
    finally:
        program.kill()
        program.wait()
    assert [name for name in names(tmp_path) if name in alive] == alive
    use()
    assert names(tmp_path) == [".mine.1a2b3c4d.tmp", "own.txt"]


def test_two_in_one_process_leave_each_other_alone(tmp_path):
    with staged(tmp_path) as one:
        with staged(tmp_path) as two:
            (two / "two.txt").write_text("2")
        (one / "one.txt").write_text("1")
    assert names(tmp_path) == ["one.txt", "two.txt"]


def test_a_leftover_without_a_lock_file_and_a_lock_without_a_leftover_go_too(tmp_path):
    (tmp_path / ".freestyle-00000000.tmp").mkdir()
    new, old = (tmp_path / f".freestyle-{n}.lock" for n in ("11111111", "22222222"))
    for lock in (new, old):
        lock.touch()
    os.utime(old, (time.time() - 5,) * 2)
    clear_leftovers(tmp_path)
    assert names(tmp_path) == [new.name]  # somebody may just be taking it
    clear_leftovers(tmp_path / "missing")


def test_a_file_system_without_locks_only_keeps_the_leftovers(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise OSError(95, "Operation not supported")

    (tmp_path / ".freestyle-00000000.tmp").mkdir()
    monkeypatch.setattr("freestyle_core.files.leftovers.FileLock.acquire", refuse)
    with staged(tmp_path) as work:
        (work / "one.txt").write_text("1")
    with unfinished(tmp_path) as part:
        part.write_text("half")
    assert names(tmp_path) == [".freestyle-00000000.tmp", "one.txt"]


def test_what_cannot_be_removed_stays_and_stops_nobody(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "in use by another program")

    left = tmp_path / ".freestyle-00000000.tmp"
    left.mkdir()
    (left / "open.png").touch()
    with monkeypatch.context() as patched:
        for name in ("unlink", "remove", "rmdir"):
            patched.setattr(os, name, refuse)
        clear_leftovers(tmp_path)
        with unfinished(tmp_path) as part:
            part.mkdir()
            (part / "half.png").touch()
    assert (left / "open.png").exists() and (part / "half.png").exists()
    clear_leftovers(tmp_path)  # and goes when that is possible
    assert names(tmp_path) == []


@POSIX
@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_a_kill_while_files_are_moved_never_passes_for_a_finished_run(moved, tmp_path):
    (tmp_path / "z.png").write_text("old")
    (tmp_path / "run.json").write_text(json.dumps({"sha256": {}}))
    program = started(MOVING, str(tmp_path), str(moved))
    assert program.wait() == (-signal.SIGKILL if moved < 3 else 0)
    new = ["a.png", "z.png"][:moved]
    assert [n for n in ("a.png", "z.png") if (tmp_path / n).exists()] == sorted({*new, "z.png"})
    if moved == 3:  # all: the record is the last
        assert differences(tmp_path) == ([tmp_path / "run.json"], [])
    else:
        with pytest.raises(InputError, match="no run has finished there"):
            differences(tmp_path)
    with staged(tmp_path):
        pass
    assert not [name for name in names(tmp_path) if name.startswith(".freestyle")]


def test_ctrl_c_while_files_are_moved_waits_until_all_are_there(tmp_path, monkeypatch):
    from freestyle_core import interrupts

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    move = os.replace

    def interrupted(*paths):
        signal.raise_signal(signal.SIGINT)
        move(*paths)

    monkeypatch.setattr(interrupts, "SAME_SECONDS", 60.0)
    try:
        with interrupts.listen():
            with staged(tmp_path) as work:
                for name in ("a", "b"):
                    (work / name).write_text("new")
                monkeypatch.setattr(os, "replace", interrupted)
            assert interrupts.received() == signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)
    assert names(tmp_path) == ["a", "b"]
