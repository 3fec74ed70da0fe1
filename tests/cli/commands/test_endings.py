"""Runs that stop, fail, or meet a console that cannot show what they say."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from freestyle_core.__main__ import main
from freestyle_core.cli.commands import info as info_command
from freestyle_core.cli.commands import portrait as portrait_command
from freestyle_core.cli.console import numbered_stages
from freestyle_core.files.record import write_record
from freestyle_core.method import render as render_module
from tests.cli.commands.small import ROOT, failed, names

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
