"""The matrix as a command, on models that take milliseconds."""

import json

import pytest

from freestyle_core.__main__ import main
from freestyle_core.cli.commands import ablate as command
from freestyle_core.cli.machine import commit, hardware
from freestyle_core.evaluation import methods
from freestyle_core.evaluation.settings import EvaluateSettings
from freestyle_core.files.bundle import weights_hash
from freestyle_core.files.networks import save_eg3d, save_i2t, save_perceptual
from freestyle_core.presets import Preset
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_perceptual
from tests.tiny_editor import save_tiny_editor

BASE = Preset(views=2, steps=2, train="i2t", iterations=2, sample_share=1.0, fade=0.4)
SETTINGS = EvaluateSettings(path_frames=3, most_pairs=2, most_views=5, pictures=2)


@pytest.fixture
def argv(tmp_path, monkeypatch):
    folder, eg3d = tmp_path / "models", tiny_eg3d()
    owner = weights_hash(eg3d.state_dict())
    save_eg3d(folder / "eg3d.safetensors", eg3d)
    save_i2t(folder / "i2t.safetensors", tiny_i2t(), eg3d=owner)
    save_i2t(folder / "flat.safetensors", tiny_i2t(code_size=1), eg3d=owner)
    save_perceptual(folder / "perceptual.safetensors", tiny_perceptual().net)
    save_tiny_editor(folder / "editor")
    monkeypatch.setattr(methods, "SHORT", BASE)
    monkeypatch.setattr(command, "SHORT_EVALUATION", SETTINGS)
    monkeypatch.chdir(tmp_path)
    given = [f"--{part}={folder / part}.safetensors" for part in ("eg3d", "i2t", "perceptual")]
    words = [
        "ablate",
        "--short",
        "--styles",
        "an elf",
        "--heads",
        "1",
        "--device",
        "cpu",
        "--clip",
        "none",
        "--dino",
        "none",
    ]
    return [*words, *given, f"--editor={folder / 'editor'}", "--out", "matrix"]


def test_a_matrix_from_nothing_to_its_page(argv, tmp_path, capsys):
    names = ["full", "no-spatial", "no-i2t"]
    assert main([*argv, "--methods", *names]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("no-spatial is left out: it needs an I2T whose code has no spatial")
    assert said[1:] == [
        "0 of 2 cells are finished", f"{'matrix'}/results.json: 2 of 2 cells are finished"
    ]  # fmt: skip
    assert main([*argv, "--methods", *names, "fast", "--collect"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "2 of 3 cells are finished"
    # an I2T of k = 1 makes the third possible, and only that is made
    flat = ["--i2t-flat", str(tmp_path / "models" / "flat.safetensors")]
    assert main([*argv, "--methods", *names, *flat]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "2 of 3 cells are finished"
    record = json.loads((tmp_path / "matrix" / "results.json").read_text())
    assert [row["name"] for row in record["methods"]] == names
    assert all(list(row["cells"]) == ["an elf/0"] for row in record["methods"])
    assert record["commit"] == commit() and record["hardware"] == hardware()
    assert (tmp_path / "matrix" / "results.png").is_file()
    kept = tmp_path / "docs" / "results"
    kept.mkdir(parents=True)
    (kept / "short.json").write_text(json.dumps(record))
    assert main(["ablate", "--report", str(kept)]) == 0
    page = (tmp_path / "docs" / "results.md").read_text()
    assert "## Table 2: the network" in page and "results/short.json" in page
    assert (kept / "short-matrix.png").is_file()


def test_mistakes_are_told_before_the_work(argv, tmp_path, capsys):
    wrong = {
        "there is no method 'ful'": ["--methods", "ful"],
        "--heads must be at least 1, got 0": ["--heads", "0"],
        "--workers must be 1 to 64, got 0": ["--workers", "0"],
        "holds no results": ["--report", str(tmp_path)],
        "needs a code of size 1, i2t.safetensors has 4": [
            "--i2t-flat", str(tmp_path / "models" / "i2t.safetensors")
        ],
    }  # fmt: skip
    for message, more in wrong.items():
        assert main([*argv, *more]) == 2
        assert message in capsys.readouterr().err
    without = [word for word in argv if word not in ("--styles", "an elf")]
    assert main(without) == 2
    assert "know no styles by name; give some with --styles" in capsys.readouterr().err
    assert not (tmp_path / "matrix" / "results.json").exists()


def test_a_failure_is_named_and_ends_with_1(argv, capsys, monkeypatch):
    def breaks(*given):
        raise RuntimeError("out of paint")

    monkeypatch.setitem(command.Workshop.missing.__globals__["RUNNERS"], "style", breaks)
    assert main([*argv, "--methods", "full"]) == 1
    out, err = capsys.readouterr()
    assert "full on an elf/0 failed: RuntimeError: out of paint" in out
    assert "1 cells failed; the same command tries them again" in err
