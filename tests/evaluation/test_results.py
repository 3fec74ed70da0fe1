"""What tables say of a record, and that the committed page is what the command makes of it."""

import json
from pathlib import Path

import pytest
import torch

from freestyle_core.errors import FileFormatError
from freestyle_core.evaluation.matrix_pictures import chart
from freestyle_core.evaluation.results import Results, read_results
from freestyle_core.evaluation.tables import page
from freestyle_core.visualize.interval_chart import Bar, Panel, interval_chart, span_of

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "results.md"


def row(name, part, scores, missing=None, lite=False, pairs=None):
    cells = {pair: {"clip_text": s, "truth_perceptual": 1 - s, "processor_seconds": 60.0}
             for pair, s in scores.items()}  # fmt: skip
    label = {"full": "full method"}.get(name, name)
    about = {"part": part, "missing": missing, "lite": lite, "pairs": pairs}
    return {"name": name, "label": label, **about, "cells": cells}


RECORD = {
    "kind": "freestyle-matrix",
    "version": 1,
    "command": "python -m freestyle_core ablate --short",
    "commit": "0123456789abcdef",
    "date": "2026-11-30",
    "hardware": {"cpu": "a processor", "threads": 1},
    "psi": 1.0,
    "pairs": ["elf/1", "ice/2", "elf/2", "ice/1"],
    "prompts": {"elf": "an elf", "ice": "an ice sculpture"},
    "protocol": {"clip": "clay CLIP", "template": "a photo of {style}", "perceptual": "clay"},
    "methods": [
        row("full", "paper", {"elf/1": 0.5, "ice/2": 0.3, "elf/2": 0.4}),
        row("no-i2t", "ablation", {"elf/1": 0.25, "ice/2": 0.05}),
        row("no-spatial", "ablation", {}, missing="an I2T; give one"),
        row("hfgi3d", "rival", {"elf/1": 0.4}, lite=True),
        row("no-prompt", "ablation", {}),
    ],
    "failed": [{"method": "no-prompt", "pair": "elf/1", "reason": "RuntimeError: no"}],
}


@pytest.fixture
def results():
    return Results(json.loads(json.dumps(RECORD)))


def test_scores_are_laid_out_by_style_and_head(results):
    expected = torch.tensor([[0.5, 0.4], [float("nan"), 0.3]], dtype=torch.float64)
    torch.testing.assert_close(results.values("full", "clip_text"), expected, equal_nan=True)
    assert results.values("nobody", "clip_text").isnan().all()


def test_means_differences_and_counts(results):
    found = results.interval("full", "clip_text")
    assert (found.mean, found.count) == (pytest.approx(0.4), 3)
    assert 0.3 <= found.low < 0.4 < found.high <= 0.5
    # both pairs of both methods are 0.25 apart: there is no spread
    difference = results.difference("no-i2t", "clip_text")
    assert (difference.mean, difference.low, difference.high) == pytest.approx((-0.25,) * 3)
    assert results.interval("hfgi3d", "clip_text").low is None
    assert results.interval("no-prompt", "clip_text") is None
    # methods that cannot run do not count, those that have not run do
    assert results.finished() == 0
    del results.record["methods"][3:]
    assert results.finished() == 2  # elf/1 and ice/2
    results.record["methods"].append(row("dreamfusion", "rival", {"elf/1": 0.1}, pairs=1))
    assert results.finished() == 2  # it is not meant for ice/2
    results.record["methods"][-1]["pairs"] = 2
    assert results.finished() == 1


def test_the_page_says_what_was_measured_and_what_was_not(results):
    text = page(results, "short")
    lines = text.splitlines()
    assert "| Ours | 0.332 | 3 min | 0.400 (0.300 to 0.500) " in text
    assert "| HFGI3D | 0.310 | 10 min | 0.400 | 0.600 | - | 60 | 1 |" in lines
    assert "| DreamFusion | 0.304 | 40 min | - | - | - | - | 0 |" in lines
    assert any(line.startswith("hfgi3d: with their `lite` settings") for line in lines)
    (line,) = [x for x in lines if x.startswith("| w/o I2T | ")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:4] == ["0.251", "0.150 (0.050 to 0.250)", "-0.250 (-0.250 to -0.250)"]
    assert "- no-spatial: not run; it needs an I2T; give one." in lines
    assert "- no-prompt: no pair is finished yet." in lines
    assert "- no-prompt on elf/1 failed: RuntimeError: no." in lines
    assert "All methods have run on 0 of 4 pairs" in text
    assert page(results, "short") == text
    assert "raw cosines of clay CLIP and compare" in text
    results.record["protocol"]["clip"] = None
    assert "No CLIP was at hand: its columns are empty." in page(results, "short")
    assert "\n\n## What this says\n\nMuch.\n\n## Table 1" in page(
        results, "short", "\n## What this says\n\nMuch.\n\n"
    )


def test_tables_are_whole(results):
    for block in page(results, "short").split("\n\n"):
        if block.startswith("| "):
            widths = {line.count("|") for line in block.splitlines()}
            assert len(widths) == 1, block


@pytest.mark.parametrize("wrong", ["{", "[]", '{"kind": "x", "version": 1}', '{"kind": 1}'])
def test_other_files_are_refused(tmp_path, wrong):
    path = tmp_path / "a.json"
    path.write_text(wrong)
    with pytest.raises(FileFormatError, match="does not hold results of a matrix"):
        read_results(path)
    with pytest.raises(FileFormatError, match="cannot read"):
        read_results(tmp_path / "none.json")


def test_the_span_of_a_panel_has_room_and_never_no_width():
    assert span_of([Bar(1.0), None, Bar(2.0, 0.0, 10.0)]) == pytest.approx((-0.6, 10.6))
    assert span_of([Bar(3.0)]) == (2.5, 3.5)
    assert span_of([None]) == (0.0, 1.0)


def test_a_mark_stands_where_its_mean_lies(results):
    def columns(bars):
        image = interval_chart(["a", "b"], [Panel("score", "more", bars)])
        mark = torch.tensor([28, 76, 120]).view(3, 1, 1) / 255  # of the second row
        hit = ((image - mark).abs().amax(0) < 0.01).any(0)
        return hit.nonzero().flatten().float().mean()

    low, high = columns([Bar(0.0), Bar(0.0, -1.0, 1.0)]), columns([Bar(0.0), Bar(1.0, -1.0, 1.0)])
    # the span is -1.12 to 1.12, 250 pixels wide
    assert float(high - low) == pytest.approx(250 / 2.24, abs=1.5)
    assert chart(results).shape[0] == 3


@pytest.mark.skipif(not PAGE.is_file(), reason="no results are committed")
def test_the_committed_page_is_what_the_command_makes_of_the_committed_results():
    found = sorted((ROOT / "docs" / "results").glob("*.json"))
    assert found, "docs/results.md without results"
    notes = ROOT / "docs" / "results" / "notes.md"
    said = notes.read_text(encoding="utf-8") if notes.is_file() else ""
    made = page(read_results(found[-1]), found[-1].stem, said)
    assert PAGE.read_text(encoding="utf-8") == made
    for picture in (f"{found[-1].stem}.png", f"{found[-1].stem}-matrix.png"):
        assert (ROOT / "docs" / "results" / picture).is_file()
