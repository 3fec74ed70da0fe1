"""Wrong input is one line and exit code 2, before the work."""

import pytest
import torch
from safetensors.torch import save_file

from freestyle_core.cli.commands import portrait as portrait_command
from tests.cli.commands.small import failed, names

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
    "confidence of a print": (
        ["mesh", "p.safetensors", "--confidence", "--out", "m.stl"],
        "m.stl can hold no confidence; give a .glb or .ply",
    ),
    "splat format": (["splat", "p.safetensors", "--out", "s.splat"], "must end in .ply"),
    "splat size": (["splat", "p.safetensors", "--resolution", "9"], "resolution must be 16 to 512"),
    "splat axes": (["splat", "p.safetensors", "--axes", "up"], "invalid choice: 'up'"),
    "no portrait of splats": (["splat", "none.safetensors"], "none.safetensors is not there"),
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


def test_a_run_that_begins_with_what_is_no_portrait_is_refused_at_once(
    portrait_args, models, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(
        portrait_command, "load_models", lambda *a: pytest.fail("the work has begun")
    )
    for name, message in (
        ("none.safetensors", "none.safetensors is not there"),
        ("eg3d.safetensors", "is of kind eg3d, expected portrait"),
    ):
        argv = [*portrait_args, "--from", f"{models}/{name}"]
        assert message in failed(capsys, argv, 2)
    assert names(tmp_path) == []
