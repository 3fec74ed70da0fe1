"""What the clay command hands to each training; the trainings themselves are stand-ins."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from freestyle_core.clay import __main__ as command
from freestyle_core.clay.__main__ import Work
from freestyle_core.files.networks import PARTS


class Now:
    """A pool that works at once, in this process."""

    def __init__(self, workers, mp_context):
        self.workers = workers

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def submit(self, work, *args, **options):
        done = work(*args, **options)
        return SimpleNamespace(result=lambda: done)


@pytest.mark.parametrize(("kind", "shards"), [("heads", 26), ("pairs", 24)])
def test_the_workers_of_a_data_set_divide_its_shards(monkeypatch, kind, shards):
    asked = []
    monkeypatch.setattr(command, "ProcessPoolExecutor", Now)
    monkeypatch.setattr(command, "make_data", lambda *given, **more: asked.append((given, more)))
    command.STAGES[kind](Work(Path("w"), "cpu", threads=1, workers=3))
    given = Path("w/data"), kind, range(shards)
    assert asked == [(given, {"worker": i, "workers": 3}) for i in range(3)]


def test_every_network_is_trained_on_the_data_with_its_own_settings(tmp_path, monkeypatch):
    calls = {}

    def training(name, made):
        def call(*args, **options):
            calls[name] = args, options
            return made

        return call

    finished = tmp_path / "finished"
    finished.mkdir()
    (finished / "config.json").write_text("made")
    for name, made in {
        "train_eg3d": "generator",
        "train_perceptual": None,
        "train_vae": None,
        "train_editor": None,
        "refine_editor": finished,
        "train_i2t": None,
        "save_eg3d": None,
        "load_eg3d": "loaded",
        "make_data": None,
        "load_editor": SimpleNamespace(vae="vae"),
        "make_clip_views": None,
        "train_clip": None,
    }.items():
        monkeypatch.setattr(command, name, training(name, made))
    work = Work(tmp_path, "cpu", threads=1, workers=1, effort=0.1)
    data, models = tmp_path / "data", tmp_path / "models"
    models.mkdir()
    for name in ("eg3d", "renders", "perceptual", "editor", "i2t", "clip"):
        command.STAGES[name](work)

    def steps(name, key="settings"):
        return calls[name][1][key].steps

    stages = [steps("train_eg3d", key) for key in ("points", "images", "sharp")]
    assert stages == [430, 52, 90]  # a tenth of 4300, 520 and 900
    assert calls["train_eg3d"][0] == (data, tmp_path / "eg3d")
    assert calls["save_eg3d"][0] == (models / PARTS["eg3d"], "generator")
    assert calls["make_data"] == ((data, "renders", range(2)), {"eg3d": "loaded"})
    assert calls["load_eg3d"][0] == (models / PARTS["eg3d"],)
    assert calls["train_perceptual"][0] == (data, models / PARTS["perceptual"])
    assert calls["train_vae"][0] == calls["train_editor"][0] == (data, tmp_path / "editor")
    assert calls["refine_editor"][0] == (data, tmp_path / "editor", models / PARTS["perceptual"])
    trained = "train_perceptual", "train_vae", "train_editor", "refine_editor"
    assert [steps(name) for name in trained] == [60, 200, 1500, 110]
    assert calls["refine_editor"][1]["edits"].count == 240
    assert (models / PARTS["editor"] / "config.json").read_text() == "made"
    args, options = calls["train_i2t"]
    assert args == (data, models / PARTS["i2t"])
    assert options["eg3d_path"] == models / PARTS["eg3d"] and options["identities"] == 100
    assert options["settings"].iterations == round(0.1 * command.I2T_SETTINGS.iterations)
    assert calls["make_clip_views"][0] == (data, range(2), "loaded", "vae")
    assert calls["load_editor"][0] == (models / PARTS["editor"],)
    assert calls["train_clip"][0] == (data, models / "clip")
    assert steps("train_clip") == round(0.1 * command.CLIP_SETTINGS.steps)
    for name in (*trained, "train_i2t", "train_clip"):
        assert calls[name][1]["threads"] == 1 and calls[name][1]["device"] == "cpu"
