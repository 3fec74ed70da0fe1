"""The command line of the clay models, without any training."""

import io
import json
import signal
import sys
from pathlib import Path

import pytest

from freestyle_core.clay import __main__ as command
from freestyle_core.clay.__main__ import Work, main
from freestyle_core.errors import FreeStyleError, InputError
from freestyle_core.files.networks import PARTS
from freestyle_core.training.loop import TrainSettings


@pytest.fixture
def assets(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "ASSETS", tmp_path / "assets")
    monkeypatch.setattr(command, "EMBEDDED_CLIP", tmp_path / "embedded clip")
    (tmp_path / "assets").mkdir()
    return tmp_path / "assets"


def test_install_takes_the_finished_parts_and_leaves_the_checkpoints(tmp_path, assets):
    models = tmp_path / "models"
    (models / "editor" / "unet").mkdir(parents=True)
    (models / "editor" / "unet" / "config.json").write_text("new")
    (models / "perceptual.safetensors").write_text("new")
    (models / "perceptual.checkpoint.pt").write_text("large")
    (models / "clip").mkdir()
    (models / "clip" / "config.json").write_text("new")
    (models / "clip.checkpoint.pt").write_text("large")
    (assets / "perceptual.safetensors").write_text("old")
    (assets / "eg3d.safetensors").write_text("kept")
    command.install(models)
    found = {p.relative_to(assets).as_posix(): p.read_text() for p in assets.rglob("*.*")}
    assert found == {
        "editor/unet/config.json": "new",
        "perceptual.safetensors": "new",
        "eg3d.safetensors": "kept",  # nothing newer was trained
    }
    beside = tmp_path / "embedded clip"  # not of the family: any portrait can be scored with it
    assert [path.name for path in beside.iterdir()] == ["config.json"]


def test_a_rehearsal_has_its_share_of_data_and_steps_but_always_two_shards():
    work = Work(Path("w"), "cpu", threads=1, workers=1, effort=0.1)
    assert [work.shards(count) for count in (26, 24, 5)] == [3, 2, 2]
    made = work.settings(TrainSettings(steps=900, batch_size=6, warmup_steps=50))
    assert (made.steps, made.batch_size, made.warmup_steps) == (90, 6, 22)  # a quarter at most
    assert work.settings(TrainSettings(steps=3)).steps == 1
    whole = Work(Path("w"), "cpu", threads=1, workers=1)
    assert whole.shards(26) == 26 and whole.settings(TrainSettings()) == TrainSettings()
    assert work.model("eg3d") == Path("w/models") / PARTS["eg3d"]
    assert work.data == Path("w/data")


@pytest.fixture
def stages(monkeypatch):
    """Every stage of a training only says that it was run, with what."""
    ran = []
    for name in command.STAGES:
        monkeypatch.setitem(command.STAGES, name, lambda work, name=name: ran.append((name, work)))
    monkeypatch.setattr(command.torch, "set_flush_denormal", lambda on: None)
    return ran


def test_training_runs_its_stages_in_the_order_in_which_they_need_each_other(tmp_path, stages):
    work = str(tmp_path / "work")
    options = ["--effort", "0.5", "--threads", "3", "--workers", "4", "--device", "cpu"]
    assert main(["train", "--work", work, *options]) == 0
    order = ["heads", "pairs", "eg3d", "renders", "perceptual", "editor", "i2t", "clip"]
    assert [name for name, _ in stages] == order
    assert stages[0][1] == Work(Path(work), "cpu", 3, 4, 0.5)
    assert (tmp_path / "work" / "models").is_dir()
    stages.clear()
    assert main(["train", "--work", work, "--only", "i2t", "eg3d"]) == 0
    assert [name for name, _ in stages] == ["i2t", "eg3d"]
    assert stages[0][1] == Work(Path(work), "cpu", 2, 2, 1.0)


def test_only_a_training_that_is_asked_to_installs(tmp_path, stages, monkeypatch):
    installed = []
    monkeypatch.setattr(command, "install", installed.append)
    assert main(["train", "--work", str(tmp_path), "--only", "heads"]) == 0
    assert installed == []
    assert main(["train", "--work", str(tmp_path), "--only", "heads", "--install"]) == 0
    assert installed == [tmp_path / "models"]


@pytest.mark.parametrize(("error", "status"), [(InputError, 2), (FreeStyleError, 1)])
def test_a_known_error_is_one_line_and_a_status(
    tmp_path, stages, monkeypatch, capsys, error, status
):
    def fail(work):
        raise error("no such thing; take another")

    monkeypatch.setitem(command.STAGES, "heads", fail)
    assert main(["train", "--work", str(tmp_path), "--only", "heads"]) == status
    assert capsys.readouterr().err.splitlines()[-1] == "error: no such thing; take another"


@pytest.mark.parametrize(("kind", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_a_training_and_says_that_it_goes_on(
    kind, status, tmp_path, stages, monkeypatch, capsys
):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setitem(command.STAGES, "heads", lambda work: signal.raise_signal(kind))
    try:
        assert main(["train", "--work", str(tmp_path), "--only", "heads", "pairs"]) == status
    finally:
        signal.signal(signal.SIGINT, before)
    assert stages == []
    assert "goes on from the last checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--effort", "nan"], ["--effort", "0"], ["--threads", "0"], ["--workers", "-1"]]
)
def test_sizes_of_a_training_are_checked(wrong, tmp_path, stages, capsys):
    assert main(["train", "--work", str(tmp_path / "new"), *wrong]) == 2
    assert capsys.readouterr().err.startswith("error: effort")
    assert stages == [] and not (tmp_path / "new").exists()


def test_a_path_that_the_console_cannot_show_is_escaped(tmp_path, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", errors="strict")
    monkeypatch.setattr(sys, "stdout", out)
    for name in command.SHEETS:
        monkeypatch.setitem(command.SHEETS, name, lambda models, path: path.write_text("sheet"))
    assert main(["sheets", "--out", str(tmp_path / "\u4e2d"), "--only", "faces"]) == 0
    out.flush()
    assert b"\\u4e2d" in out.buffer.getvalue()


def test_measures_are_printed_and_written(tmp_path, monkeypatch, capsys):
    asked = []

    def measure(models, count):
        asked.append(count)
        return {"plain_psnr_db": 20.125, "styled_psnr_db": 17.0}

    monkeypatch.setattr(command.evaluate, "measure_vae", measure)
    out = tmp_path / "scores.json"
    assert main(["evaluate", "--only", "vae", "--identities", "3", "--json", str(out)]) == 0
    assert main(["evaluate", "--only", "vae"]) == 0
    assert asked == [3, 32]
    expected = {"vae": {"plain_psnr_db": 20.125, "styled_psnr_db": 17.0}}
    assert json.loads(out.read_text(encoding="utf-8")) == expected
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert ["vae", "plain_psnr_db", "20.1250"] in rows
    assert ["vae", "styled_psnr_db", "17.0000"] in rows


def test_every_measure_is_asked_for_what_its_name_says(monkeypatch, capsys):
    asked = []

    def measure(name):
        def record(models, count, **options):
            options.pop("progress", None)
            asked.append((name, count, options))
            return {"number": 1.0}

        return record

    monkeypatch.setattr(command, "load_models", lambda folder: None)
    monkeypatch.setattr(command, "load_clip", lambda folder: folder)
    monkeypatch.setattr(
        command,
        "measure_clip",
        lambda clip, models, count, **o: measure("clip")(models, count, **o),
    )
    for name in ("eg3d", "vae", "i2t", "attributes", "editor"):
        monkeypatch.setattr(command.evaluate, f"measure_{name}", measure(name))
    parts = ["eg3d", "vae", "i2t", "attributes", "editor", "editor_held_out", "clip"]
    assert main(["evaluate", "--only", *parts]) == 0
    assert asked == [
        ("eg3d", 64, {}),
        ("vae", 32, {}),
        ("i2t", 16, {}),
        ("attributes", 48, {}),
        ("editor", 3, {"wordings": "canonical"}),
        ("editor", 3, {"wordings": "held_out"}),
        ("clip", 8, {"portraits": command.PORTRAITS}),
    ]


def test_sheets_are_written_under_their_names(tmp_path, monkeypatch, capsys):
    for name in command.SHEETS:
        monkeypatch.setitem(command.SHEETS, name, lambda models, path: path.write_text("sheet"))
    out = tmp_path / "new" / "sheets"
    assert main(["sheets", "--out", str(out), "--only", "faces"]) == 0
    assert [path.name for path in out.iterdir()] == ["faces.png"]
    assert capsys.readouterr().out.strip().endswith("faces.png")
    assert main(["sheets", "--out", str(out)]) == 0
    assert sorted(path.stem for path in out.iterdir()) == sorted(command.SHEETS)


def test_the_clip_beside_the_models_is_measured_else_the_embedded_one(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "load_models", lambda folder: None)
    monkeypatch.setattr(command, "load_clip", asked.append)
    monkeypatch.setattr(command, "measure_clip", lambda *given, **options: {})
    monkeypatch.setattr(command, "EMBEDDED_CLIP", tmp_path / "embedded")
    choice = ["evaluate", "--only", "clip", "--models", str(tmp_path), "--styles", "elf"]
    assert main(choice) == 0
    (tmp_path / "clip").mkdir()
    assert main(choice) == 0
    assert asked == [tmp_path / "embedded", tmp_path / "clip"]
