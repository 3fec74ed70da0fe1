"""The commands on small models: what they write and what they say."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from freestyle_core import presets
from freestyle_core.__main__ import main
from freestyle_core.cli.commands import portrait as portrait_command
from freestyle_core.cli.options.parser import make_parser
from freestyle_core.files.bundle import load_header, weights_hash
from freestyle_core.files.media.image import load_image
from freestyle_core.files.media.mesh import load_mesh
from freestyle_core.files.media.splat import load_splats
from freestyle_core.files.media.video import load_video
from freestyle_core.files.networks import load_eg3d
from freestyle_core.files.portrait import load_portrait
from freestyle_core.models.i2t import fresh_i2t
from tests import tiny_checkpoint
from tests.cli.commands.small import FILES, ROOT, failed, names
from tests.tiny import tiny_eg3d


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
    assert output.out.startswith(f"{out}: edited.png, front.png, mesh.glb")
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
    for run, style, noise in (("one", "an elf", "screen"), ("two", "a zombie", "surface")):
        out = tmp_path / run
        chosen = ["--noise", noise, "--out", str(out)]
        assert main(["portrait", style, *portrait_args[2:], *chosen]) == 0
        record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        assert record["settings"]["edit"]["noise"] == noise
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
    sure = ["mesh", saved[0], *model, "--resolution", "16", "--confidence"]
    assert main([*sure, "--out", str(tmp_path / "sure.ply")]) == 0
    assert "by the edited views in" in capsys.readouterr().out
    assert load_mesh(tmp_path / "sure.ply").confidence is not None
    assert (tmp_path / "sure_confidence.png").is_file()
    splats = [*model, "--resolution", "16", "--steps", "2", "--views", "4", "--level", "0.3"]
    assert main(["splat", saved[0], *splats, "--out", str(tmp_path / "head_splats.ply")]) == 0
    assert len(load_splats(tmp_path / "head_splats.ply")) > 0
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


def test_the_editor_may_be_one_file_in_half_precision(portrait_args, tmp_path):
    editor, _ = tiny_checkpoint.tiny_editor(tmp_path)  # its tokenizer lies beside the file
    path = tiny_checkpoint.save_checkpoint(tmp_path / "editor.ckpt", editor)
    argv = [*portrait_args, "--editor", str(path), "--editor-precision", "bfloat16"]
    assert main(argv) == 0
    assert names(tmp_path / "out") == FILES


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


def test_what_does_not_fit_counts_less_or_is_edited_again_when_asked(portrait_args):
    plain, both = (
        portrait_command.portrait_settings(make_parser().parse_args([*portrait_args, *more]))
        for more in ([], ["--robust", "--reedit"])
    )
    assert (plain.reedit, plain.tune.robust) == (0, False)
    assert both == replace(plain, reedit=2, tune=replace(plain.tune, robust=True))


def test_how_far_from_the_average_a_head_may_be_is_an_option(portrait_args):
    made = [
        portrait_command.portrait_settings(make_parser().parse_args([*portrait_args, *more])).psi
        for more in ([], ["--psi", "1"], ["--psi", "0"])
    ]
    assert made == [0.7, 1.0, 0.0]


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
    assert names(tmp_path / "out") == ["edited.png", "front.png"]


def test_help_names_every_command_and_example_commands_parse(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for command in ("portrait", "render", "mix", "mesh", "splat", "pretrain", "info"):
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
