"""The command line end to end, on models small enough to run in seconds."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from freestyle_core import presets
from freestyle_core.__main__ import main
from freestyle_core.cli import pictures
from freestyle_core.cli.commands import info as info_command
from freestyle_core.cli.commands import mesh as mesh_command
from freestyle_core.cli.commands import portrait as portrait_command
from freestyle_core.cli.console import numbered_stages
from freestyle_core.cli.options.parser import make_parser
from freestyle_core.files.bundle import load_header, weights_hash
from freestyle_core.files.media.image import load_image
from freestyle_core.files.media.mesh import load_mesh
from freestyle_core.files.media.video import load_video
from freestyle_core.files.networks import load_eg3d, save_eg3d, save_i2t, save_perceptual
from freestyle_core.files.portrait import load_portrait
from freestyle_core.files.record import write_record
from freestyle_core.method import render as render_module
from freestyle_core.models.i2t import fresh_i2t
from tests import tiny_checkpoint
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_perceptual
from tests.tiny_editor import save_tiny_editor

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    "edited.png",
    "front.png",
    "mesh.glb",
    "portrait.safetensors",
    "run.json",
    "turntable.mp4",
    "views.png",
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with one tiny model of each part, and a foreign generator and I2T."""
    folder = tmp_path_factory.mktemp("models")
    eg3d = tiny_eg3d()
    save_eg3d(folder / "eg3d.safetensors", eg3d)
    own = weights_hash(eg3d.state_dict())
    save_i2t(folder / "i2t.safetensors", tiny_i2t(), eg3d=own)
    save_eg3d(folder / "other_eg3d.safetensors", tiny_eg3d(seed=9))
    save_i2t(folder / "wide_i2t.safetensors", tiny_i2t(plane_channels=6), eg3d=own)
    save_perceptual(folder / "perceptual.safetensors", tiny_perceptual().net)
    save_tiny_editor(folder / "editor")
    return folder


@pytest.fixture
def portrait_args(models, tmp_path):
    """Arguments of the smallest portrait run."""
    return [
        "portrait",
        "an elf",
        "--eg3d",
        f"{models}/eg3d.safetensors",
        "--i2t",
        f"{models}/i2t.safetensors",
        "--editor",
        f"{models}/editor",
        "--perceptual",
        f"{models}/perceptual.safetensors",
        "--views",
        "2",
        "--steps",
        "2",
        "--iterations",
        "2",
        "--frames",
        "3",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "out"),
    ]


@pytest.fixture(scope="module", autouse=True)
def small_results():
    """Write small pictures and meshes, at a level that the densities of untrained planes reach."""
    patch = pytest.MonkeyPatch()
    patch.setattr(pictures, "WATCHABLE_PIXELS", 64)
    small = replace(portrait_command.DEFAULT, resolution=24)
    patch.setattr(portrait_command, "DEFAULT", small)
    settings = mesh_command.MeshSettings
    for module in (mesh_command, presets):
        patch.setattr(module, "MeshSettings", lambda **given: settings(**{**given, "level": 0.35}))
    yield
    patch.undo()


def names(folder):
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def failed(capsys, argv, code):
    """Run a command that must fail with one line on stderr, and return that line."""
    try:
        got = main(argv)
    except SystemExit as stop:
        got = stop.code
    lines = capsys.readouterr().err.splitlines()
    assert got == code, lines
    messages = [line for line in lines if not line.startswith("[")]  # finished stages
    assert len(messages) == 1, lines
    return messages[0]


def test_portrait_writes_everything(portrait_args, models, tmp_path, capsys):
    assert main(portrait_args) == 0
    out = tmp_path / "out"
    assert names(out) == FILES
    frames, rate = load_video(out / "turntable.mp4")
    assert len(frames) == 3 and rate == 24
    assert load_image(out / "front.png").shape == (3, 64, 64)
    assert len(load_mesh(out / "mesh.glb").vertices) > 0
    record = json.loads((out / "run.json").read_text())
    assert record["settings"]["prompts"] == ["an elf"]
    assert record["settings"]["edit"]["tau"] == 0.9
    assert record["eg3d"]["licence"] and record["eg3d"]["name"]
    assert record["hashes"]["eg3d"] == weights_hash(
        load_eg3d(models / "eg3d.safetensors").state_dict()
    )
    assert record["files"] == FILES and len(record["losses"]["total"]) == 2
    assert {"render the views", "fine-tune", "save"} <= set(record["seconds"])
    assert record["peak_memory_mb"]["process"] > 50
    assert {"torch", "diffusers", "freestyle", "python"} <= set(record["versions"])
    output = capsys.readouterr()
    assert output.out.startswith(f"{out}: front.png, mesh.glb")
    assert [line.split()[0] for line in output.err.splitlines()] == [
        f"[{n}/7]" for n in range(1, 8)
    ]


def test_same_seed_gives_the_same_portrait_and_the_file_gives_the_same_picture(
    portrait_args, models, tmp_path
):
    eg3d = load_eg3d(models / "eg3d.safetensors")
    loaded = []
    for run in ("one", "two"):
        out = tmp_path / run
        assert main([*portrait_args, "--seed", "4", "--out", str(out)]) == 0
        loaded.append(load_portrait(out / "portrait.safetensors", eg3d=eg3d))
    assert torch.equal(loaded[0].triplane.planes, loaded[1].triplane.planes)
    picture = tmp_path / "again.png"
    argv = [
        "render",
        str(tmp_path / "one" / "portrait.safetensors"),
        "--device",
        "cpu",
        "--eg3d",
        f"{models}/eg3d.safetensors",
        "--out",
        str(picture),
    ]
    assert main(argv) == 0
    # rendered alone instead of among other views: the same up to one step of a byte
    torch.testing.assert_close(
        load_image(picture), load_image(tmp_path / "one" / "front.png"), atol=1.01 / 255, rtol=0
    )


def test_two_styles_are_made_and_mixed(portrait_args, tmp_path, monkeypatch):
    monkeypatch.setattr(portrait_command.PortraitSettings, "mix_frames", 4)
    assert main([*portrait_args, "--style2", "a zombie", "--mix", "3"]) == 0
    out = tmp_path / "out"
    second = [
        "edited2.png",
        "front2.png",
        "mesh2.glb",
        "mix.mp4",
        "mix.png",
        "portrait2.safetensors",
        "turntable2.mp4",
    ]
    assert names(out) == sorted(FILES + second)
    # one jointly trained network: both files hold the same weights
    parents = [load_header(out / f"portrait{n}.safetensors").extra["parent"] for n in ("", "2")]
    assert parents[0] == parents[1]


def test_saved_portraits_are_rendered_mixed_and_meshed(portrait_args, models, tmp_path, capsys):
    saved = []
    for run, style in (("one", "an elf"), ("two", "a zombie")):
        out = tmp_path / run
        assert main(["portrait", style, *portrait_args[2:], "--out", str(out)]) == 0
        saved.append(str(out / "portrait.safetensors"))
    model = ["--eg3d", f"{models}/eg3d.safetensors", "--device", "cpu"]
    video = tmp_path / "turn.mp4"
    assert (
        main(
            [
                "render",
                saved[0],
                *model,
                "--frames",
                "5",
                "--fps",
                "10",
                "--path",
                "sweep",
                "--out",
                str(video),
            ]
        )
        == 0
    )
    frames, rate = load_video(video)
    assert len(frames) == 5 and rate == 10
    for name in ("head.ply", "head.glb"):
        assert (
            main(["mesh", saved[0], *model, "--resolution", "16", "--out", str(tmp_path / name)])
            == 0
        )
        assert len(load_mesh(tmp_path / name).faces) > 0
    mixed = tmp_path / "mixed"
    assert main(["mix", *saved, *model, "--mix", "2", "--amount", "0.5", "--out", str(mixed)]) == 0
    assert names(mixed) == ["mix.json", "mix.mp4", "mix.png", "portrait.safetensors"]
    capsys.readouterr()
    assert main(["info", saved[0]]) == 0
    assert "portrait," in capsys.readouterr().out


def test_info_lists_versions_and_models(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert "torch: " in text and "devices: cpu" in text
    assert all(f"  {part}: " in text for part in ("eg3d", "i2t", "perceptual", "editor"))


BAD_ARGUMENTS = {
    "empty style": (["portrait", "  "], "the style is empty; say what"),
    "no style": (["portrait"], "the following arguments are required: style; see"),
    "empty second style": (["portrait", "an elf", "--style2", ""], "the style is empty"),
    "one view": (["portrait", "an elf", "--views", "1"], "views must be 2 to 32, got 1"),
    "tau 0": (["portrait", "an elf", "--tau", "0"], "tau must be above 0 and at most 1, got 0"),
    "tau above 1": (["portrait", "an elf", "--tau", "1.5"], "tau must be above 0"),
    "tau nan": (["portrait", "an elf", "--tau", "nan"], "tau must be a finite number, got nan"),
    "tau text": (["portrait", "an elf", "--tau", "x"], "argument --tau: invalid float value"),
    "no steps": (["portrait", "an elf", "--steps", "0"], "steps must be at least 1, got 0"),
    "no iterations": (["portrait", "an elf", "--iterations", "0"], "iterations must be at least"),
    "no frames": (["portrait", "an elf", "--frames", "0"], "at least 1 frame, got 0"),
    "negative seed": (["portrait", "an elf", "--seed", "-1"], "the seed must be a whole number"),
    "mix alone": (["portrait", "an elf", "--mix", "3"], "--mix needs a second style"),
    "mix of one": (["portrait", "a", "--style2", "b", "--mix", "1"], "mix steps must be 2 to 64"),
    "no command": ([], "the following arguments are required: COMMAND"),
    "unknown command": (["paint"], "invalid choice: 'paint'"),
    "unknown device": (["portrait", "an elf", "--device", "tpu9"], "there is no device 'tpu9'"),
    "mesh format": (["mesh", "p.safetensors", "--out", "m.fbx"], "must end in .glb, .ply"),
    "mesh size": (["mesh", "p.safetensors", "--resolution", "2"], "resolution must be 8 to 1024"),
    "video format": (["render", "p.safetensors", "--out", "v.avi"], "must end in .mp4 or .png"),
    "no rate": (["render", "p.safetensors", "--fps", "0"], "fps must be 0.01 to 1000, got 0"),
    "rate rounds to 0": (["render", "p.safetensors", "--fps", "0.0004"], "fps must be 0.01"),
    "rate nan": (["render", "p.safetensors", "--fps", "nan"], "fps must be a finite number"),
    "yaw nan": (["render", "p.safetensors", "--yaw", "nan"], "yaw_range_deg must be a finite"),
    "pitch inf": (["render", "p", "--pitch", "inf", "--out", "v.png"], "pitch_range_deg must be a"),
    "height nan": (["mesh", "p", "--head-height", "nan"], "head_height_m must be a finite"),
    "cut nan": (["mesh", "p.safetensors", "--cut-back", "nan"], "cut_back must be a finite"),
    "amount nan": (["mix", "a", "b", "--amount", "nan"], "--amount must be from 0 to 1, got nan"),
    "amount": (["mix", "a", "b", "--amount", "2"], "--amount must be from 0 to 1, got 2"),
    "missing portrait": (["render", "none.safetensors"], "none.safetensors is not there"),
    "missing file": (["info", "none.safetensors"], "none.safetensors is not there"),
    "pretrain format": (["pretrain", "--out", "i2t.bin"], "must end in .safetensors"),
    "pretrain precision": (["pretrain", "--precision", "half"], "invalid choice: 'half'"),
    "pretrain rate": (["pretrain", "--rate", "nan"], "learning_rate must be a finite number"),
    "pretrain never": (["pretrain", "--checkpoint", "inf"], "a time above 0 minutes, got inf"),
    "pretrain checkpoints": (["pretrain", "--checkpoint", "0"], "a time above 0 minutes, got 0"),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments_are_one_line_and_exit_2(case, tmp_path, monkeypatch, capsys, models):
    monkeypatch.chdir(tmp_path)
    argv, message = BAD_ARGUMENTS[case]
    if argv[:1] == ["pretrain"]:
        argv = [*argv, "--eg3d", f"{models}/eg3d.safetensors"]
    assert message in failed(capsys, argv, 2)
    assert names(tmp_path) == []


def test_the_editor_may_be_one_file_in_half_precision(portrait_args, tmp_path):
    editor, _ = tiny_checkpoint.tiny_editor(tmp_path)  # its tokenizer lies beside the file
    path = tiny_checkpoint.save_checkpoint(tmp_path / "editor.ckpt", editor)
    argv = [*portrait_args, "--editor", str(path), "--editor-precision", "bfloat16"]
    assert main(argv) == 0
    assert names(tmp_path / "out") == FILES


def test_prompt_that_is_too_long_is_refused_before_the_work(portrait_args, tmp_path, capsys):
    argv = ["portrait", "an elf with " + "very " * 100 + "long ears", *portrait_args[2:]]
    assert "tokens" in failed(capsys, argv, 2)
    assert names(tmp_path) == []


MODEL_FAULTS = {
    "missing eg3d": ("--eg3d", "none.safetensors", "is not there"),
    "i2t as eg3d": ("--eg3d", "i2t.safetensors", "is of kind i2t, expected eg3d"),
    "another eg3d": ("--eg3d", "other_eg3d.safetensors", "pre-trained on another EG3D"),
    "i2t of other sizes": ("--i2t", "wide_i2t.safetensors", "pre-train an I2T on this EG3D"),
    "missing editor": ("--editor", "none", "none"),
    "truncated": ("--eg3d", "truncated", "not a complete safetensors file"),
    "foreign": ("--i2t", "foreign", "was written by another program"),
}


@pytest.mark.parametrize("case", MODEL_FAULTS)
def test_unfit_models_are_one_line_and_leave_nothing(case, portrait_args, models, tmp_path, capsys):
    option, name, message = MODEL_FAULTS[case]
    place = tmp_path / "given"
    place.mkdir()
    whole = (models / "eg3d.safetensors").read_bytes()
    (place / "truncated").write_bytes(whole[: len(whole) // 2])
    save_file({"x": torch.zeros(2)}, place / "foreign")
    path = place / name if (place / name).exists() else models / name
    assert message in failed(capsys, [*portrait_args, option, str(path)], 2)
    assert names(tmp_path) == ["given"]


def without(argv, option, *others):
    """Return a command line without an option and its value, and with others."""
    at = argv.index(option)
    return [*argv[:at], *argv[at + 2 :], *others]


def trained(tmp_path):
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    return record["settings"]["tune"]["train"], "i2t" in record["hashes"]


def test_an_i2t_that_is_named_is_trained_and_else_the_planes(portrait_args, tmp_path):
    assert main(portrait_args) == 0
    assert trained(tmp_path) == ("i2t", True)
    for train in ("planes", "modulation"):
        assert main([*portrait_args, "--train", train]) == 0
        assert trained(tmp_path) == (train, False)


def test_a_fresh_i2t_is_one_that_no_file_holds(portrait_args, tmp_path):
    assert main(without(portrait_args, "--i2t", "--i2t", "fresh")) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    fresh = fresh_i2t(tiny_eg3d().config)
    assert record["hashes"]["i2t"] == weights_hash(fresh.state_dict())
    assert record["settings"]["tune"]["train"] == "i2t"


def test_a_run_without_an_i2t_says_so_in_one_line(portrait_args, tmp_path, capsys):
    said = "without an I2T ({}): the planes themselves are trained"
    argv = [*portrait_args, "--i2t", "none", "--train", "both"]
    assert main(argv) == 0
    assert said.format("--i2t none") in capsys.readouterr().out.splitlines()
    assert trained(tmp_path) == ("planes", False)
    # none belongs to this EG3D: the embedded one was trained on another; steps are those of planes
    many = without(portrait_args, "--i2t", "--train", "i2t")
    args = make_parser().parse_args(without(many, "--iterations"))
    paths = portrait_command.model_paths(args)
    settings, paths = portrait_command.fitted(portrait_command.portrait_settings(args), paths, args)
    assert paths.i2t is None
    assert settings.tune == replace(presets.BALANCED.tune(), preview_every=0)
    capsys.readouterr()
    assert main(without(portrait_args, "--i2t", "--train", "i2t")) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("without an I2T (") and "EG3D" in first
    assert trained(tmp_path) == ("planes", False)


def test_a_time_budget_chooses_views_and_steps_and_is_recorded(
    portrait_args, tmp_path, capsys, monkeypatch
):
    argv = without(without(portrait_args, "--views"), "--iterations")
    assert "time budget" in failed(capsys, [*argv, "--budget", "0"], 2)
    both = [*portrait_args, "--budget", "30"]
    assert "leave out --views" in failed(capsys, both, 2)
    asked = []

    def short(self, settings, costs):
        asked.append(costs)
        return 1e-6  # time for one step

    monkeypatch.setattr(portrait_command.Budget, "training_seconds", short)
    assert main([*argv, "--budget", "100000"]) == 0
    said = "in the time: 10 x 10 + 1 views, at most 404 training steps"
    assert said in capsys.readouterr().out.splitlines()
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert settings["views"] == 10 and len(asked) == 1
    assert (settings["tune"]["iterations"], settings["tune"]["budget_s"]) == (1, 0.0)
    costs = asked[0]
    assert min(costs.view, costs.edit, costs.mesh) > 0


def test_unwritable_folder_is_refused_before_the_work(portrait_args, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(
        portrait_command, "load_models", lambda *a: pytest.fail("the work has begun")
    )
    argv = [*portrait_args, "--out", str(tmp_path / "file" / "out")]
    assert "cannot write into" in failed(capsys, argv, 2)
    assert names(tmp_path) == ["file"]


def test_folder_as_output_file_is_refused(tmp_path, capsys):
    argv = ["mesh", "p.safetensors", "--device", "cpu", "--out"]
    (tmp_path / "m.glb").mkdir()
    assert "is a folder; give a file name" in failed(capsys, [*argv, str(tmp_path / "m.glb")], 2)


STAGES = ["render_views", "stylize_views", "finetune_portraits", "extract_mesh", "mixed_pictures"]


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_in_any_stage_leaves_nothing(stage, portrait_args, tmp_path, capsys, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"freestyle_core.pipeline.{stage}", stop)
    argv = [*portrait_args, "--style2", "a zombie", "--mix", "2"]
    assert failed(capsys, argv, 130) == "stopped; no unfinished file was left"
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_a_library_swallows_still_stops_the_run(
    kind, code, portrait_args, tmp_path, capsys, monkeypatch
):
    real, later = portrait_command.load_models, []

    def swallowing(*args):
        try:
            signal.raise_signal(kind)
        except BaseException:  # as trimesh does while it imports scipy
            later.append("swallowed")
        return real(*args)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(portrait_command, "load_models", swallowing)
    monkeypatch.setattr(
        "freestyle_core.pipeline.stylize_views", lambda *a, **k: later.append("edit")
    )
    try:
        assert failed(capsys, portrait_args, code) == "stopped; no unfinished file was left"
    finally:
        signal.signal(signal.SIGINT, before)
    assert later == ["swallowed"] and names(tmp_path) == []


def test_a_signal_that_turned_into_another_error_is_a_stop_too(tmp_path, capsys, monkeypatch):
    def converting(args):
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:
            raise RuntimeError("a callback failed") from error

    monkeypatch.setattr(info_command, "run", converting)
    assert failed(capsys, ["info"], 143) == "stopped; no unfinished file was left"


def test_info_tells_whether_the_files_of_a_folder_are_of_one_run(portrait_args, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(portrait_args) == 0
    record = json.loads((out / "run.json").read_text())
    assert sorted(record["sha256"]) == [name for name in FILES if name != "run.json"]
    assert record["sha256"]["front.png"] == sha256((out / "front.png").read_bytes()).hexdigest()
    capsys.readouterr()
    assert main(["info", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: all files are as run.json names them\n"
    (out / "mesh.glb").write_bytes(b"of an earlier run")
    (out / "front.png").unlink()
    assert failed(capsys, ["info", str(out)], 1) == (
        f"error: {out}: front.png of run.json is missing; mesh.glb is not the one of run.json: of "
        "another run, or changed; run the command again"
    )
    (out / "run.json").unlink()
    assert "no run has finished there" in failed(capsys, ["info", str(out)], 2)


def test_a_second_run_takes_the_record_of_the_first_away_before_its_files(
    portrait_args, tmp_path, monkeypatch
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{}")
    (tmp_path / "out" / "front.png").write_text("earlier")
    real = os.replace

    def killed(source, target):
        if Path(target) == tmp_path / "out" / "mesh.glb":
            raise SystemExit(9)
        real(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(SystemExit):
        main(portrait_args)
    assert names(tmp_path / "out") == ["front.png"]


# what a path, a style or a file may hold, and a western console or none cannot show
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_output_that_the_console_cannot_show_is_escaped(encoding, tmp_path, monkeypatch):
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2)
    )
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    folder = tmp_path / "gesichter_\u4e2d_\U0001f600"
    folder.mkdir()
    (folder / "front.png").write_text("abc")
    write_record(folder / "run.json", {}, ["front.png"])
    assert main(["info", str(folder)]) == 0
    with numbered_stages(1).stage("edit into \u4e2d") as progress:
        progress(1, 2)
    assert main(["info", str(folder / "\u4e2d")]) == 2
    for stream in (out, err):
        stream.flush()
    text, errors = (s.buffer.getvalue().decode(encoding) for s in (out, err))
    assert "gesichter_\\u4e2d_\\U0001f600: all files are as" in text
    assert "edit into \\u4e2d 0:00" in errors and "\\u4e2d is not there" in errors


def test_a_program_without_a_console_says_nothing_and_works(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["info"]) == 0
    assert main(["info", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("writer", ["save_image", "save_video", "save_mesh", "save_portrait"])
def test_disk_full_while_saving_leaves_earlier_results(
    writer, portrait_args, tmp_path, capsys, monkeypatch
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "front.png").write_text("earlier")
    real = os.replace

    def full(source, target):
        suffix = {
            "save_image": ".png",
            "save_video": ".mp4",
            "save_mesh": ".glb",
            "save_portrait": ".safetensors",
        }[writer]
        if Path(target).suffix == suffix:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert "No space left on device" in failed(capsys, portrait_args, 1)
    assert names(tmp_path / "out") == ["front.png"]
    assert (tmp_path / "out" / "front.png").read_text() == "earlier"


def test_unexpected_error_is_one_line_and_debug_shows_where(portrait_args, capsys, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr("freestyle_core.pipeline.stylize_views", broken)
    line = failed(capsys, portrait_args, 1)
    assert line == "error: ZeroDivisionError: first; add --debug to see where"
    with pytest.raises(ZeroDivisionError):
        main([*portrait_args, "--debug"])


def test_out_of_memory_says_what_to_do(portrait_args, capsys, monkeypatch):
    def full(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(render_module, "march", full)
    assert "out of memory; try fewer views" in failed(capsys, portrait_args, 1)


def test_help_names_every_command_and_example_commands_parse(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for command in ("portrait", "render", "mix", "mesh", "pretrain", "info"):
        assert f"    {command} " in text
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0 and "usage:" in capsys.readouterr().out


def test_module_runs_as_a_program():
    run = subprocess.run(
        [sys.executable, "-m", "freestyle_core", "portrait", ""],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2
    assert run.stdout == "" and run.stderr.startswith("error: the style is empty")
    assert run.stderr.count("\n") == 1


@pytest.mark.skipif(os.name == "nt", reason="SIGINT to a child works differently on Windows")
def test_real_ctrl_c_stops_the_program_within_a_step(portrait_args, tmp_path):
    argv = [*portrait_args, "--views", "16", "--steps", "1000"]
    program = subprocess.Popen(
        [sys.executable, "-m", "freestyle_core", *argv],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background job ignores Ctrl-C, and so would its child
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        seen = ""
        while not seen.startswith("[2/7]"):  # the views are rendered, the long edit begins
            seen = program.stderr.readline()
            assert seen, "the program ended early"
        program.send_signal(signal.SIGINT)
        rest = program.communicate(timeout=120)[1]
    finally:
        program.kill()
    assert program.returncode == 130
    assert rest == "stopped; no unfinished file was left\n"
    assert names(tmp_path) == []
