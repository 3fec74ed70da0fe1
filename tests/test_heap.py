"""Freed memory goes back to the system."""

import gc
from pathlib import Path

import pytest
import torch

from freestyle_core.cli.console import numbered_stages
from freestyle_core.heap import malloc_trim, trim, uncollected

STATUS = Path("/proc/self/status")
glibc = pytest.mark.skipif(
    malloc_trim() is None or not STATUS.exists(), reason="needs glibc and Linux's /proc"
)


def resident_mb():
    (line,) = (x for x in STATUS.read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def freed_but_kept():
    """Free 200 MB of small blocks below one that stays, which glibc then does not give back."""
    blocks = [torch.ones(16384) for _ in range(3200)]  # 64 kB each
    return blocks[-1]


@glibc
def test_freed_blocks_are_given_back():
    kept = freed_but_kept()
    before = resident_mb()
    trim()
    assert before - resident_mb() > 100
    assert kept[0] == 1


@glibc
def test_a_stage_of_a_command_gives_back_what_it_freed(capsys):
    with numbered_stages(1).stage("work"):
        kept = freed_but_kept()
        before = resident_mb()
    assert before - resident_mb() > 100
    assert kept[0] == 1


def test_nothing_is_searched_while_something_is_loaded_and_all_of_it_afterwards():
    with pytest.raises(KeyError), uncollected():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0  # what is never searched, nanobind calls leaked at the end


def test_where_nothing_was_searched_nothing_is_searched_after_it():
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
