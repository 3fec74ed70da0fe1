"""Signals on their way through a program: never lost, never amid what must not be broken off."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from freestyle_core import interrupts
from freestyle_core.errors import Cancelled

ROOT = Path(__file__).resolve().parents[1]
INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.fixture(autouse=True)
def as_in_a_terminal(monkeypatch):
    """Python's own handlers, whatever this test run has set; and quick fingers."""
    before = {kind: signal.getsignal(kind) for kind in interrupts.KINDS}
    for kind in interrupts.KINDS:
        signal.signal(kind, signal.SIG_DFL)
    signal.signal(INT, signal.default_int_handler)
    monkeypatch.setattr(interrupts, "SAME_SECONDS", 0.0)
    yield
    for kind, handler in before.items():
        signal.signal(kind, handler)


@pytest.mark.parametrize("kind, code", [(INT, 130), (TERM, 143)])
def test_a_signal_that_was_swallowed_is_raised_at_the_next_check(kind, code):
    with interrupts.listen():
        interrupts.check()
        try:
            signal.raise_signal(kind)
            pytest.fail("a signal acts at once where nothing holds it")
        except BaseException as swallowed:
            assert type(swallowed) is KeyboardInterrupt
        assert interrupts.received() == kind and interrupts.exit_code() == code
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert signal.getsignal(INT) is signal.default_int_handler
    assert signal.getsignal(TERM) is signal.SIG_DFL
    with interrupts.listen():
        interrupts.check()  # another run begins anew


def test_what_came_while_listening_does_not_stop_what_is_called_afterwards():
    with interrupts.listen(), interrupts.held():
        signal.raise_signal(INT)
    interrupts.check()
    assert interrupts.received() == INT and interrupts.exit_code() == 130


def test_a_held_signal_waits_for_the_check_and_a_second_one_does_not():
    with interrupts.listen():
        with interrupts.held():
            signal.raise_signal(TERM)
            with pytest.raises(Cancelled, match="go on with --resume"):
                interrupts.check("go on with --resume")
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(INT)
            assert signal.getsignal(INT) is signal.getsignal(TERM) is signal.SIG_DFL
        assert interrupts.exit_code() == 143


def test_the_same_ctrl_c_passed_on_by_a_wrapper_is_no_second_one(monkeypatch):
    monkeypatch.setattr(interrupts, "SAME_SECONDS", 60.0)
    with interrupts.listen(), interrupts.held():
        signal.raise_signal(INT)
        signal.raise_signal(INT)
        assert interrupts.received() == INT


def test_what_is_ignored_as_under_nohup_stays_ignored():
    signal.signal(INT, signal.SIG_IGN)
    with interrupts.listen():
        signal.raise_signal(INT)
        assert interrupts.received() is None
    assert signal.getsignal(INT) is signal.SIG_IGN


def test_without_listening_nothing_is_different():
    with interrupts.held(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(INT)
    interrupts.check()


# a module that comes in place of the commands, and whose import catches all, as trimesh's of scipy
SWALLOWING_IMPORT = """
import importlib.util, signal, sys

class Swallowing:
    def find_spec(self, name, path=None, target=None):
        if name == "freestyle_core.cli.commands.info":
            return importlib.util.spec_from_loader(name, self)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            pass
        module.run = lambda args: sys.stdout.write("the work went on")

sys.meta_path.insert(0, Swallowing())
signal.signal(signal.SIGINT, signal.default_int_handler)
from freestyle_core.__main__ import main
sys.exit(main(["info"]))
"""


def test_ctrl_c_while_the_program_starts_is_not_swallowed_by_an_import():
    argv = [sys.executable, "-c", SWALLOWING_IMPORT]
    run = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (130, "")
    assert run.stderr == "stopped; no unfinished file was left\n"
