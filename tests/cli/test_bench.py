"""`bench` on networks of a few thousand weights: what it measures, says and writes."""

import json
from dataclasses import replace

import pytest
import torch

from benchmarks.fake_gpu import watched
from freestyle_core import presets
from freestyle_core.__main__ import main
from freestyle_core.cli.bench import meter as meter_module
from freestyle_core.cli.bench import stages
from freestyle_core.cli.bench.meter import EventClock, Meter, Sample, operations
from freestyle_core.cli.bench.report import Measured, lines, measure, portrait
from freestyle_core.cli.bench.stages import Stage
from freestyle_core.cli.commands import bench
from freestyle_core.files.editors.load import load_editor
from freestyle_core.method.mesh import MeshSettings
from freestyle_core.pipeline import Models
from freestyle_core.progress import no_progress
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_perceptual
from tests.tiny_editor import save_tiny_editor


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    editor = load_editor(save_tiny_editor(tmp_path_factory.mktemp("editor")))
    return Models(tiny_eg3d(), tiny_i2t(), tiny_perceptual(), editor, {"i2t": ""})


@pytest.fixture(autouse=True)
def small(models, monkeypatch):
    """Use small networks, and few views and steps where a whole portrait is made."""
    monkeypatch.setattr(bench, "clay", lambda device: models)
    monkeypatch.setattr(bench, "PAPER", bench.PAPER.but(views=3, steps=3, iterations=4))
    quickest = presets.Preset(views=2, steps=2, iterations=3, frames=2, resolution=16)
    monkeypatch.setitem(bench.PRESETS, "balanced", quickest)
    settings = MeshSettings  # at a level that the densities of untrained planes reach
    monkeypatch.setattr(
        presets, "MeshSettings", lambda **given: settings(**{**given, "level": 0.35})
    )


def run(tmp_path, capsys, *argv):
    out = tmp_path / "bench.json"
    given = ["bench", "--device", "cpu", "--views", "2", "--tune-steps", "2", "--repeats", "2"]
    assert main([*given, *argv, "--out", str(out)]) == 0
    return json.loads(out.read_text()), capsys.readouterr()


def test_every_stage_is_measured_both_ways_and_agrees(tmp_path, capsys):
    record, output = run(tmp_path, capsys)
    assert list(record["stages"]) == ["edit", "render", "finetune"]
    assert record["repeats"] == 2 and record["models"] == "embedded" and record["card"] is None
    paper, preset = record["settings"]["paper"], record["settings"]["preset"]
    assert (paper["tune"]["train"], preset["tune"]["train"]) == ("i2t", "planes")
    assert (paper["views"], preset["views"]) == (3, 2)
    assert paper["turntable"] == preset["turntable"] and paper["mesh"] == preset["mesh"]
    for name, unit in (("edit", "view"), ("render", "frame"), ("finetune", "step")):
        stage = record["stages"][name]
        assert stage["unit"] == unit and stage["units_measured"] == 2
        assert {"naive", "same"} <= set(stage["ways"])
        for way in stage["ways"].values():
            assert len(way["runs"]) == 2 and 0 < way["seconds_per_unit"]["median"]
            assert way["memory_mb"] is None or way["memory_mb"] >= 0
    # the preset's edit has two steps instead of three, but its frames are the paper's
    assert "preset" in record["stages"]["edit"]["ways"]
    assert "preset" not in record["stages"]["render"]["ways"]
    assert record["stages"]["edit"]["same_work"].split()[0] in ("100", "99", "98", "97", "96", "95")
    assert record["stages"]["edit"]["units_of_a_portrait"] == {"naive": 10, "same": 10, "preset": 5}
    assert set(record["portrait"]) == {"naive", "same", "preset"}
    said = output.out.splitlines()
    assert said[0].startswith("edit, seconds per view (same work: ")
    assert "a portrait, by adding up" in said and "times as fast" in said[-1]
    assert [line.split()[0] for line in output.err.splitlines()] == [
        f"[{n}/4]" for n in range(1, 5)
    ]


def test_a_stage_alone_adds_nothing_up(tmp_path, capsys):
    record, output = run(tmp_path, capsys, "--stages", "render")
    assert list(record["stages"]) == ["render"] and record["portrait"] == {}
    assert "adding up" not in output.out


def test_a_whole_portrait_is_made_once_each_way(tmp_path, capsys):
    record, _ = run(tmp_path, capsys, "--stages", "whole")
    ways = record["stages"]["whole"]["ways"]
    assert set(ways) == {"naive", "preset"}
    assert all(len(way["runs"]) == 1 for way in ways.values())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--repeats", "0"], "--repeats must be at least 1, got 0"),
        (["--views", "0"], "--views must be at least 1"),
        (["--tune-steps", "-1"], "--tune-steps must be at least 1"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--preset", "fastest"], "invalid choice: 'fastest'"),
        (["--out", "bench.txt"], "--out must end in .json"),
        (["--stages", "mix"], "invalid choice: 'mix'"),
    ],
)
def test_mistakes_are_told_in_one_line_before_the_work(argv, message, capsys, monkeypatch):
    monkeypatch.setattr(bench, "clay", lambda device: pytest.fail("the work has begun"))
    try:
        code = main(["bench", "--device", "cpu", *argv])
    except SystemExit as stop:
        code = stop.code
    told = capsys.readouterr().err
    assert code == 2 and message in told and told.count("\n") == 1


def test_ctrl_c_leaves_nothing(tmp_path, capsys, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "naive_views", stop)
    argv = ["bench", "--device", "cpu", "--stages", "render", "--out", str(tmp_path / "b.json")]
    assert main(argv) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped; no unfinished file was left"
    assert list(tmp_path.iterdir()) == []


def test_ways_take_turns_in_alternating_order_after_a_warm_up():
    calls = []

    def way(name):
        return lambda count, ready, progress: calls.append((name, count))

    ways = {"naive": way("n"), "same": way("s"), "preset": way("p")}
    stage = Stage("view", 5, ways, {"naive": 1, "same": 1, "preset": 1}, lambda a, b: "equal")
    found = measure(stage, Meter(torch.device("cpu")), 2, no_progress)
    assert calls == [("n", 2), ("s", 2), ("p", 2)] + [(name, 5) for name in "nspps"] + [("n", 5)]
    assert found.alike == "equal"


def test_numbers_are_medians_per_unit_and_sums_count_preparations_once():
    def samples(*seconds, ready=0.0):
        return [Sample(s, ready, s / 2, ready / 2, 100 * s) for s in seconds]

    counts = {"naive": 100, "same": 100, "preset": 10}
    stage = Stage("view", 4, {}, counts, lambda a, b: "")
    ways = {"naive": samples(8.0, 4.0, 40.0), "same": samples(2.0, 2.0, 1.0, ready=3.0)}
    edit = Measured(stage, ways, "62 dB", {"naive": 1e9})
    assert edit.seconds("naive") == [1.0, 2.0, 10.0]
    assert edit.memory_mb("naive") == 4000
    assert edit.portrait_seconds("naive") == (200.0, 100.0)
    assert edit.portrait_seconds("same") == (3 + 50.0, 1.5 + 25.0)
    # a preset with the paper's work takes its own number of units
    assert edit.portrait_seconds("preset") == (3 + 5.0, 1.5 + 2.5)
    measured = {"edit": edit, "render": edit, "finetune": edit}
    assert portrait(measured)["preset"] == (24.0, 12.0)
    text = list(lines(measured, "fast", {"edit": 2e9}))
    assert text[0] == "edit, seconds per view (same work: 62 dB)"
    assert text[1] == (
        "  naive      2 (1 to 10), 1 of processors, 4000 MB, 25% of the card's rate for matrices"
    )
    assert text[2].endswith("0.25 of processors, 200 MB, 4.0 times as fast (4.0 in those)")
    assert text[-1].endswith("for 10 views, 10 views, 10 views, 25.0 times as fast (25.0 in those)")


@pytest.mark.skipif(not meter_module._CLEAR.exists(), reason="only Linux tells a peak anew")
def test_memory_is_what_the_work_held_at_once_and_not_what_came_before():
    meter = Meter(torch.device("cpu"))
    earlier = torch.ones(40 * 2**18)  # 40 MB that are held all the time
    for _ in range(2):  # a peak of before must not stay
        large, _ = meter.measure(lambda ready: torch.ones(60 * 2**18).sum())
        small, _ = meter.measure(lambda ready: torch.ones(20 * 2**18).sum())
        assert 55 < large.memory_mb < 75 and 15 < small.memory_mb < 35
    assert earlier.sum() == 40 * 2**18


def test_operations_count_products():
    a = torch.ones(4, 8)
    assert operations(lambda: a @ a.T) == 2 * 4 * 8 * 4


class FakeEvent:
    """An event on a card that works for a second between two events."""

    log: list[str] = []

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self, stream):
        self.at = FakeEvent.log.count("record")
        FakeEvent.log.append("record")

    def synchronize(self):
        FakeEvent.log.append("wait")

    def elapsed_time(self, other):
        return 1000.0 * (other.at - self.at)


def test_on_a_card_time_is_between_events_and_nothing_waits_during_the_work(monkeypatch):
    card, held = torch.device("cuda:1"), iter([300, 500])
    FakeEvent.log = []
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    for name in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda device: None)
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda device: next(held) * 2**20)

    def work(ready):
        ready()
        FakeEvent.log.append("work")

    sample, _ = Meter(card).measure(work)
    assert isinstance(Meter(card).clock, EventClock)
    assert FakeEvent.log[:4] == ["record", "record", "work", "record"]
    assert (sample.seconds, sample.preparation, sample.memory_mb) == (1.0, 1.0, 200)


def test_the_matrix_rate_leaves_the_precision_as_it_was(monkeypatch):
    monkeypatch.setattr(meter_module, "MATRIX", {"cpu": 64})
    before = torch.get_float32_matmul_precision()
    meter, seconds = Meter(torch.device("cpu")), iter([9.0, 0.5, 0.5, 0.25, 0.5, 0.5])
    monkeypatch.setattr(meter.clock, "between", lambda first, last: next(seconds))
    assert meter.matrix_rate(torch.float32) == 2 * 64**3 / 0.5
    assert torch.get_float32_matmul_precision() == before


def test_every_way_runs_on_a_card_that_is_not_there(tmp_path):
    """Fake tensors: no device is mixed up and no number format refused, with an editor in half."""
    editor = load_editor(save_tiny_editor(tmp_path / "editor"))
    parts = tiny_eg3d(), tiny_i2t(), tiny_perceptual()
    both = (bench.PAPER.settings("an elf"), bench.PRESETS["balanced"].settings("an elf"))
    with watched("cuda") as watch:
        for part in parts:
            part.to("cuda")
        on_card = Models(*parts, editor.to("cuda", torch.float16), {"i2t": ""})
        made = stages.Bench(on_card, parts[1], *both).stages(
            {"edit": 2, "render": 2, "finetune": 2}
        )
        for stage in made.values():
            for run_way in stage.ways.values():
                run_way(2, lambda: None, no_progress)
    assert sum(len(stage.ways) for stage in made.values()) == 8
    assert not watch.counts.problems and watch.counts.kernels.total() > 1000


def test_the_units_of_one_run_depend_on_device_and_size():
    def units(device, **given):
        asked = dict(repeats=1, views=None, tune_steps=None, full_size=False, stages=stages_of)
        args = type("Args", (), {**asked, **given})
        return bench.counted_units(args, torch.device(device))

    stages_of = ("edit", "finetune")
    assert units("cpu") == {"edit": 4, "finetune": 10}
    assert units("cuda:1") == {"edit": 16, "finetune": 30}
    assert units("cpu", full_size=True) == {"edit": 1, "finetune": 2}
    assert units("cuda", full_size=True, views=2) == {"edit": 2, "finetune": 30}


def test_full_size_networks_are_made_without_an_editor_that_no_stage_uses(monkeypatch):
    made = []
    monkeypatch.setattr(bench, "full_size_eg3d", lambda device: tiny_eg3d())
    monkeypatch.setattr(bench, "full_size_i2t", lambda device: tiny_i2t())
    monkeypatch.setattr(bench, "full_size_editor", lambda device, dtype: made.append(dtype))
    bench.full_size(torch.device("cpu"), {"render": 1, "finetune": 2})
    assert made == []
    for stage in ("edit", "whole"):
        bench.full_size(torch.device("cpu"), {stage: 1})
    assert made == [torch.float32] * 2


def test_an_i2t_that_is_missing_is_made_up(models):
    made = bench._i2t(replace(models, i2t=None))
    assert made.config.plane_resolution == models.eg3d.config.plane_resolution
    assert bench._i2t(models) is models.i2t
