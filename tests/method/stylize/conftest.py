"""A tiny editor and pictures for it."""

import pytest
import torch

from freestyle_core.files.editors.load import load_editor
from tests.tiny_editor import save_tiny_editor


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    return load_editor(save_tiny_editor(tmp_path_factory.mktemp("editor")))


@pytest.fixture
def images():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
