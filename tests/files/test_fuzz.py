"""Damaged files of every kind: none gives NaN in silence, ends in a traceback or hangs."""

import logging
import sys

import pytest
import torch

from tests.files.fuzz import NAN, TRACEBACK, Kind, faults, fuzz, kinds, outcome, table


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL)


def test_a_few_damaged_files_of_every_kind_are_refused_or_harmless():
    results = fuzz(3, seed=1)
    assert len(results) == len(kinds()) >= 19
    assert not faults(results), "\n".join([table(results), *faults(results)])


@pytest.mark.slow
def test_two_thousand_damaged_files_are_refused_or_harmless():
    results = fuzz(110, seed=0)
    sys.stdout.write(table(results) + "\n")
    assert sum(map(len, results.values())) >= 2000
    assert not faults(results), "\n".join([table(results), *faults(results)])


def test_the_fuzz_notices_nan_and_foreign_errors(tmp_path):
    def fails(path):
        raise KeyError("parent")

    whole = torch.zeros(2)
    nan = Kind(lambda folder: folder, lambda path: whole / 0)
    assert outcome(nan, tmp_path, whole)[0] == NAN
    assert outcome(Kind(nan.save, fails), tmp_path, whole)[0] == TRACEBACK
    found = {"x": [(NAN, "", 3), ("refused", "", 4), (TRACEBACK, "KeyError: 'parent'", 5)]}
    assert faults(found) == ["x 3: NaN silently ", "x 5: traceback KeyError: 'parent'"]
