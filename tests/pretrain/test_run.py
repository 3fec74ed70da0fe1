"""Pre-training on disk: what a run leaves, and how it goes on."""

import json
from pathlib import Path

import pytest
import torch

from freestyle_core.errors import InputError, MismatchError, WriteError
from freestyle_core.files.bundle import load_bundle, load_header, save_bundle, weights_hash
from freestyle_core.files.media.image import load_image
from freestyle_core.files.networks import load_i2t
from freestyle_core.pretrain.run import pretrain_to_file
from freestyle_core.pretrain.train import PretrainSettings
from tests.tiny import tiny_eg3d, tiny_i2t

ROOT = Path(__file__).resolve().parents[2]
CONFIG = tiny_i2t().config
SETTINGS = PretrainSettings(
    iterations=6,
    batch_size=2,
    warmup=1,
    statistics=2,
    held_out=1,
    preview_every=3,
    validate_every=3,
)


class Killed(BaseException):
    pass


def run(out, *, seed=0, settings=SETTINGS, **options):
    return pretrain_to_file(tiny_eg3d(seed), out, settings=settings, config=CONFIG, **options)


def stop_at(step):
    def progress(done, total, preview=None):
        if done == step:
            raise Killed

    return progress


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_run_leaves_the_network_its_log_and_its_previews(tmp_path):
    eg3d, out = tiny_eg3d(), tmp_path / "i2t.safetensors"
    made = run(out)
    assert names(tmp_path) == ["i2t.jsonl", "i2t.safetensors", "i2t_previews"]
    loaded = load_i2t(out, eg3d=eg3d)
    assert weights_hash(loaded.state_dict()) == weights_hash(made.i2t.state_dict())
    extra = load_header(out).extra
    assert extra["settings"]["iterations"] == 6 and extra["psnr"] == made.psnr
    start, *steps = lines(tmp_path / "i2t.jsonl")
    assert start["event"] == "start" and start["eg3d"] == weights_hash(eg3d.state_dict())
    assert [line["step"] for line in steps] == [3, 6]
    assert all({"loss", "rate", "psnr", "seconds_left", "time"} <= set(line) for line in steps)
    assert names(tmp_path / "i2t_previews") == ["00000003.png", "00000006.png"]
    assert load_image(tmp_path / "i2t_previews" / "00000006.png").shape == (3, 16, 48)


def test_a_stopped_run_goes_on_to_the_same_weights_and_no_line_is_there_twice(tmp_path):
    whole = run(tmp_path / "whole.safetensors")
    out = tmp_path / "parts.safetensors"
    with pytest.raises(Killed):
        run(out, resume=True, progress=stop_at(4))
    assert "parts.checkpoint" in names(tmp_path) and "parts.safetensors" not in names(tmp_path)
    log = tmp_path / "parts.jsonl"
    # what a killed process could have left behind: a line too many, and half a line
    log.write_text(log.read_text() + '{"event": "step", "step": 5}\n{"event": "st')
    parts = run(out, resume=True)
    assert weights_hash(parts.i2t.state_dict()) == weights_hash(whole.i2t.state_dict())
    assert parts.losses == whole.losses
    assert [(x["event"], x["step"]) for x in lines(log)] == [
        ("start", 0),
        ("step", 3),
        ("resume", 4),
        ("step", 6),
    ]
    assert not (tmp_path / "parts.checkpoint").exists()


def test_a_finished_run_is_only_loaded_again(tmp_path):
    out = tmp_path / "i2t.safetensors"
    made = run(out)
    stamp = out.stat().st_mtime_ns
    again = run(out, resume=True, progress=stop_at(0))  # would stop if it began to work
    assert weights_hash(again.i2t.state_dict()) == weights_hash(made.i2t.state_dict())
    assert out.stat().st_mtime_ns == stamp


def test_another_run_never_overwrites_an_unfinished_or_a_finished_one(tmp_path):
    out = tmp_path / "i2t.safetensors"
    other = PretrainSettings(iterations=7, batch_size=2, statistics=2)
    with pytest.raises(Killed):
        run(out, progress=stop_at(2))
    with pytest.raises(InputError, match="holds an unfinished run; go on with --resume"):
        run(out)
    with pytest.raises(InputError, match="other settings or another EG3D; restore them"):
        run(out, settings=other, resume=True)
    with pytest.raises(InputError, match="other settings or another EG3D; restore them"):
        run(out, seed=5, resume=True)
    run(out, resume=True)
    with pytest.raises(InputError, match="was made by a run with other settings"):
        run(out, settings=other, resume=True)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    (tmp_path / "i2t.checkpoint").write_bytes(b"half")
    with pytest.raises(Exception, match="not a complete safetensors file"):
        run(tmp_path / "i2t.safetensors", resume=True)


@pytest.mark.parametrize(
    "name, value",
    [
        ("network.start", torch.zeros(2)),
        ("network.another", torch.zeros(2)),
        ("average.start", None),
        ("optimizer.0.exp_avg", torch.zeros(3)),
        ("optimizer.0.step", None),
        ("optimizer.x.step", torch.zeros(())),
        ("losses.plane", torch.zeros(3)),
        ("losses.plane", None),
        ("losses.other", torch.zeros(2)),
    ],
)
def test_a_checkpoint_with_other_tensors_is_refused_by_name(tmp_path, name, value):
    out = tmp_path / "i2t.safetensors"
    with pytest.raises(Killed):
        run(out, progress=stop_at(2))
    bundle = load_bundle(tmp_path / "i2t.checkpoint", "checkpoint")
    state = {k: v for k, v in bundle.state.items() if k != name}
    if value is not None:
        state[name] = value
    save_bundle(tmp_path / "i2t.checkpoint", "checkpoint", bundle.config, state)
    with pytest.raises(MismatchError, match=f"does not fit its training run: {name} is .*delete"):
        run(out, resume=True)


def test_a_full_disk_under_the_log_is_named(tmp_path, monkeypatch):
    opened = Path.open

    def full(path, mode="r", *args, **options):
        if mode == "a":
            raise OSError(28, "No space left on device")
        return opened(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(
        WriteError, match=r"cannot write .*i2t\.jsonl: No space left on device; free"
    ):
        run(tmp_path / "i2t.safetensors")


def test_a_damaged_log_does_not_hinder_going_on(tmp_path):
    out = tmp_path / "i2t.safetensors"
    with pytest.raises(Killed):
        run(out, progress=stop_at(4))
    with (tmp_path / "i2t.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\n")
    run(out, resume=True)
    assert [line["step"] for line in lines(tmp_path / "i2t.jsonl")] == [0, 3, 4, 6]
