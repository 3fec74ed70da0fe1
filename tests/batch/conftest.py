"""Tiny models on disk, loaded once for all tests: loading takes longer than making a job."""

from functools import cache

import pytest

from freestyle_core.batch import run as run_module
from freestyle_core.batch import worker as worker_module
from freestyle_core.pipeline import load_models
from tests.batch.small import save_models


@pytest.fixture(scope="session")
def tiny_paths(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def loaded_once():
    return cache(load_models)


@pytest.fixture(autouse=True)
def quick(monkeypatch, loaded_once):
    monkeypatch.setattr(run_module, "AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(worker_module, "load_models", loaded_once)
