"""One matrix by two processes."""

import pytest

from freestyle_core.errors import FreeStyleError
from freestyle_core.evaluation.workers import run_in_processes
from tests.evaluation.matrices import PLANES, matrix_of_folder


def fails(models, root):
    raise ValueError("no models here")


def test_two_processes_make_every_cell_once_and_report_all(tmp_path):
    reports = []
    arguments = (tmp_path / "models", tmp_path / "matrix")
    failed = run_in_processes(matrix_of_folder, arguments, 2, lambda *x: reports.append(x))
    assert failed == []
    assert {cell for cell, share in reports if share == 1} == {0, 1, 2, 3}
    matrix = matrix_of_folder(*arguments)
    assert all(matrix.store.load(matrix.keys(PLANES, pair)[2]) for pair in matrix.pairs)
    with pytest.raises(
        FreeStyleError, match="ValueError: no models here; what was finished is kept"
    ):
        run_in_processes(fails, arguments, 1, lambda *x: None)
