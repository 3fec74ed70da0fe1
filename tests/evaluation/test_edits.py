"""Edited views that cells share: what they cost whoever made them counts for all."""

import pytest
import torch

from freestyle_core.evaluation.edits import SharedEdits
from freestyle_core.files.editors.load import load_editor
from freestyle_core.method.stylize import StylizeSettings
from tests.tiny_editor import save_tiny_editor


def test_the_cost_of_kept_views_is_that_of_all_calls_together(tmp_path):
    save_tiny_editor(tmp_path / "editor")
    editor = load_editor(tmp_path / "editor")
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    settings = [StylizeSettings(steps=2, seed=seed) for seed in (0, 1)]
    maker = SharedEdits(tmp_path / "edits")
    made = [maker.views(editor, images, "an elf", settings=one) for one in settings]
    assert maker.cost.seconds == {"edit": 0.0}  # nothing was taken from others
    kept = [maker._noted(editor, one) for one in settings]
    again = SharedEdits(tmp_path / "edits")
    for one, before in zip(settings, made, strict=True):
        assert torch.equal(again.views(editor, images, "an elf", settings=one), before)
    wall, processor = (3 * sum(column) for column in zip(*kept, strict=True))
    assert again.cost.seconds["edit"] == pytest.approx(wall) and wall > 0
    assert again.cost.processor_seconds["edit"] == pytest.approx(processor)
