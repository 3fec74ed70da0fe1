"""One matrix by several processes."""

import queue

import pytest

from freestyle_core.evaluation import workers
from freestyle_core.evaluation.ablate import Failure
from freestyle_core.evaluation.workers import run_in_processes
from tests.evaluation.matrices import PLANES, matrix_of_folder


def said(make_matrix, monkeypatch, run_pairs=None):
    """Return what a process would report."""
    reports = queue.Queue()
    monkeypatch.setattr(workers, "run_pairs", run_pairs)
    workers._work(reports, 1, make_matrix, ("models",))
    return [reports.get() for _ in range(reports.qsize())]


def test_a_process_reports_its_cells_and_then_what_failed(monkeypatch):
    failure = Failure("full", "elf/3", "RuntimeError: no")

    def run_pairs(matrix, report):
        report(2, 0.5)
        return [failure]

    reports = said(lambda models: f"matrix of {models}", monkeypatch, run_pairs)
    assert reports == [(1, "cell", (2, 0.5)), (1, "failed", [failure])]


def test_a_process_that_cannot_begin_says_why(monkeypatch):
    def fails(models):
        raise ValueError(f"no {models} here")

    assert said(fails, monkeypatch) == [(1, "error", "ValueError: no models here")]


@pytest.mark.slow  # each process imports everything anew
def test_two_processes_make_every_cell_once_and_report_all(tmp_path):
    reports = []
    arguments = (tmp_path / "models", tmp_path / "matrix")
    failed = run_in_processes(matrix_of_folder, arguments, 2, lambda *x: reports.append(x))
    assert failed == []
    assert {cell for cell, share in reports if share == 1} == {0, 1, 2, 3}
    matrix = matrix_of_folder(*arguments)
    assert all(matrix.store.load(matrix.keys(PLANES, pair)[2]) for pair in matrix.pairs)
