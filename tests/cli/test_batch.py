"""`batch` as a command, on models that take milliseconds, its worker in this process."""

import json
from functools import cache

import pytest

from freestyle_core.__main__ import main
from freestyle_core.batch import worker as worker_module
from freestyle_core.cli import pictures
from freestyle_core.cli.batch_screen import Screen, job_line, progress_line
from freestyle_core.cli.commands import batch as command
from freestyle_core.files.record import differences
from freestyle_core.pipeline import load_models
from tests.batch.small import SMALL, HereEngine, save_models

JOBS = """
[defaults]
views = 2
steps = 2
iterations = 2
frames = 2
resolution = 16
level = 0.35

[[jobs]]
prompts = ["an elf", "a zombie"]
seed = 3

[[jobs]]
prompt = "an elf"
style2 = "sand"
mix_steps = 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_models(folder)
    return folder


@pytest.fixture(scope="module")
def loaded_once():
    return cache(load_models)


@pytest.fixture
def argv(folder, tmp_path, monkeypatch, loaded_once):
    monkeypatch.setattr(worker_module, "load_models", loaded_once)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pictures, "WATCHABLE_PIXELS", 64)
    monkeypatch.setattr(command, "local_engine", lambda args, plan: HereEngine(plan))
    (tmp_path / "jobs.toml").write_text(JOBS)
    parts = ("eg3d", "i2t", "perceptual")
    given = [f"--{part}={folder / part}.safetensors" for part in parts]
    return [*given, f"--editor={folder / 'editor'}", "--device", "cpu", "--out", "many"]


def test_a_batch_and_its_status(argv, tmp_path, capsys):
    assert main(["batch", "jobs.toml", *argv]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].split() == ["entry", "jobs", "done", "failed"]
    assert lines[1].split() == ["jobs.toml,", "entry", "1", "(line", "10)", "2", "2", "0"]
    assert lines[3].split() == ["together", "3", "3", "0"]
    assert lines[4].startswith("3 made in ") and lines[4].endswith("5 views shared")
    assert lines[5] == "many/index.html"
    assert said.err.splitlines()[0] == "3 jobs"
    jobs = sorted((tmp_path / "many" / "jobs").iterdir())
    assert len(jobs) == 3
    for job in jobs:  # all that `portrait` writes, whole
        assert differences(job)[1] == []
        names = {path.name for path in job.iterdir()}
        assert {"front.png", "turntable.mp4", "mesh.glb", "portrait.safetensors"} <= names
    assert main(["batch", "status", "many"]) == 0
    assert capsys.readouterr().out == "3 of 3 done, 0 failed, 0 to make\n"
    assert main(["batch", "status", "many", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["finished"] == 3


def test_a_csv_as_lines_for_a_machine_and_a_failure(argv, tmp_path, capsys, monkeypatch):
    def broken(*arguments):
        raise ValueError("no brush")

    columns, row = ",".join(["prompt", *SMALL]), ",".join(["an elf", *map(str, SMALL.values())])
    (tmp_path / "jobs.csv").write_text(f"{columns}\n{row}\n")
    monkeypatch.setattr(command, "write_files", broken)
    assert main(["batch", "jobs.csv", "--json", *argv]) == 1
    said = capsys.readouterr()
    assert said.err.endswith("1 of 1 jobs failed; the same command tries them again\n")
    events = [json.loads(line) for line in said.out.splitlines()]
    assert events[0]["event"] == "start" and events[-1]["event"] == "end"
    assert (events[-1]["made"], events[-1]["failed"]) == (0, 1)
    (job,) = [event for event in events if event["event"] == "job"]
    assert (job["state"], job["reason"]) == ("failed", "ValueError: no brush")
    assert main(["batch", "status", "many"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "0 of 1 done, 1 failed, 0 to make",
        "an elf, seed 0, balanced failed: ValueError: no brush",
    ]


def test_nothing_is_kept_for_others_where_that_is_not_wanted(argv, tmp_path, capsys):
    assert main(["batch", "jobs.toml", "--no-share", *argv]) == 0
    assert "shared" not in capsys.readouterr().out and not (tmp_path / "many" / "shared").exists()


def test_a_dry_run_loads_nothing_and_writes_nothing(argv, tmp_path, capsys):
    assert main(["batch", "jobs.toml", "--dry-run", *argv]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[21:] for line in lines] == [
        "an elf, seed 3, balanced",
        "a zombie, seed 3, balanced",
        "an elf + sand, seed 0, balanced",
    ]
    assert not (tmp_path / "many").exists()


@pytest.mark.parametrize(
    "words, said",
    [
        (["none.toml"], "none.toml is not there"),
        (["jobs.toml", "more"], "a folder belongs to status only"),
        (["jobs.toml", "--workers", "0"], "--workers must be 1 to 256, got 0"),
        (["status"], "say which folder"),
        (["status", "nothing"], "nothing is no folder of a batch"),
        (["bad.toml"], "bad.toml, entry 1 (line 1): views must be 2 to 32, got 1"),
    ],
)
def test_mistakes_are_one_line(argv, tmp_path, capsys, words, said):
    (tmp_path / "bad.toml").write_text('[[jobs]]\nprompt = "elf"\nviews = 1\n')
    assert main(["batch", *words, *argv]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "many").exists()


def test_an_i2t_is_loaded_only_for_who_trains_one(argv, tmp_path, monkeypatch, loaded_once):
    loaded = []

    def watched(paths, *others):
        loaded.append(paths.i2t)
        return loaded_once(paths, *others)

    monkeypatch.setattr(worker_module, "load_models", watched)
    small = "".join(f"{name} = {value}\n" for name, value in SMALL.items())
    for train in ("planes", "i2t"):
        (tmp_path / "jobs.toml").write_text(f'[[jobs]]\nprompt = "elf"\ntrain = "{train}"\n{small}')
        assert main(["batch", "jobs.toml", *argv]) == 0
    assert loaded[0] is None and loaded[1].name == "i2t.safetensors"


PROGRESS = {
    "event": "progress",
    "jobs": 40,
    "finished": 10,
    "failed": 1,
    "share": 0.3,
    "seconds_left": 3700,
    "jobs_per_hour": 27.4,
}


def test_one_bar_for_all():
    assert progress_line(PROGRESS) == (
        "10/40 jobs [#######.................]  30% 1:01:40 left, 27 jobs/h, 1 failed"
    )
    early = {**PROGRESS, "failed": 0, "seconds_left": None, "jobs_per_hour": None}
    assert progress_line(early) == "10/40 jobs [#######.................]  30%"


def test_what_is_said_of_a_job():
    job = {"name": "an elf, seed 3, fast", "key": "ab12", "state": "done", "seconds": "21.0"}
    assert job_line(job) == "an elf, seed 3, fast: 21.0 s, jobs/ab12"
    assert (
        job_line({**job, "state": "failed", "reason": "no"}) == "an elf, seed 3, fast: failed: no"
    )
    assert job_line({**job, "state": "there"}) == "an elf, seed 3, fast: made by another run"


class Terminal:
    def __init__(self, live):
        self.live, self.text = live, ""

    def isatty(self):
        return self.live

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_a_terminal_has_one_line_and_a_log_no_bars():
    job = {"event": "job", "name": "an elf", "key": "ab", "state": "done", "seconds": "2.0"}
    for live in (True, False):
        stream = Terminal(live)
        screen = Screen(stream)
        for event in ({"event": "start", "jobs": 2, "there": 1}, PROGRESS, job):
            screen(event)
        screen({"event": "lost", "worker": 0, "why": "no memory"})
        screen.close()
        lines = stream.text.replace("\r", "\n").split("\n")
        lines = [line.rstrip() for line in lines if line.strip()]
        bar = [progress_line(PROGRESS)] if live else []
        assert lines == [
            "2 jobs, 1 of them finished before",
            *bar,
            "an elf: 2.0 s, jobs/ab",
            "worker 1 is started again: no memory",
        ]
