"""Pre-training as a user meets it: killed and stopped commands, several processes."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from freestyle_core.__main__ import main
from freestyle_core.cli.commands import pretrain as pretrain_command
from freestyle_core.errors import InputError
from freestyle_core.files.bundle import load_header, weights_hash
from freestyle_core.files.networks import load_i2t, save_eg3d
from freestyle_core.pretrain.run import pretrain_to_file
from freestyle_core.pretrain.train import PretrainSettings, PretrainWatch, _Run
from freestyle_core.training.distributed import SOLO, Workers
from tests.pretrain.test_run import ROOT, lines, names
from tests.tiny import tiny_eg3d, tiny_i2t

# the command line, with two heads instead of 256 for the mean head
SMALL_COMMAND = """
import sys
from freestyle_core.cli.commands import pretrain as pretrain_command
from freestyle_core.__main__ import main
settings = pretrain_command.PretrainSettings
pretrain_command.PretrainSettings = lambda **given: settings(statistics=2, **given)
sys.exit(main(sys.argv[1:]))
"""

# one of two processes: the gradients of one step, then two steps of the command line
WORKER = """
import os, sys, torch
from pathlib import Path
from safetensors.torch import save_file
from freestyle_core.pretrain.train import PretrainSettings, PretrainWatch, _Run
from freestyle_core.training.distributed import open_workers
from tests.tiny import tiny_eg3d, tiny_i2t
settings = PretrainSettings(iterations=2, batch_size=4, statistics=2, held_out=1)
with open_workers(torch.device("cpu")) as (workers, device):
    assert workers.count == 2
    i2t = tiny_i2t(seed=workers.rank)  # the leading process decides
    run = _Run(tiny_eg3d(), i2t, settings, PretrainWatch(), workers, None)
    run.set_statistics()
    run.one_step()
    state = {n: p.grad for n, p in run.network.named_parameters()}
    state["loss"] = torch.tensor(run.losses)
    save_file(state, Path(sys.argv[1]) / f"gradients{workers.rank}.safetensors")
os.environ["MASTER_PORT"] = sys.argv[2]
"""


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def state_of(path):
    return load_i2t(path).state_dict()


@pytest.fixture
def one_thread():
    """Sums in the order of the processes that `environment` makes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_kill_9_at_any_moment_loses_nothing(tmp_path, one_thread):
    """Two kills at arbitrary moments; a checkpoint is written after every step.

    The same weights are promised for the same number of threads, so all runs here have one.
    """
    save_eg3d(tmp_path / "eg3d.safetensors", tiny_eg3d())
    out = tmp_path / "killed" / "i2t.safetensors"
    checkpoint = out.with_suffix(".checkpoint")
    argv = [
        sys.executable,
        "-c",
        SMALL_COMMAND,
        "pretrain",
        "--device",
        "cpu",
        "--batch",
        "2",
        "--eg3d",
        str(tmp_path / "eg3d.safetensors"),
        "--preview",
        "0",
        "--validate",
        "0",
        "--steps",
        "60",
        "--checkpoint",
        "0.0000001",
        "--resume",
        "--out",
        str(out),
    ]
    reached = [0]
    for delay in (0.0, 0.117):
        program = subprocess.Popen(argv, env=environment(), stderr=subprocess.DEVNULL)
        while program.poll() is None:
            time.sleep(0.02)
            if checkpoint.exists() and load_header(checkpoint).config["step"] > reached[-1]:
                break
        time.sleep(delay)
        program.send_signal(signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL, "it was over before it could be killed"
        reached.append(load_header(checkpoint).config["step"])
    assert 0 < reached[1] < reached[2] <= 60
    assert subprocess.run(argv, env=environment(), stderr=subprocess.DEVNULL).returncode == 0
    assert names(out.parent) == ["i2t.jsonl", "i2t.safetensors"]  # nothing half-written is left
    settings = PretrainSettings(iterations=60, batch_size=2, statistics=2, preview_every=0)
    whole = pretrain_to_file(tiny_eg3d(), tmp_path / "whole.safetensors", settings=settings)
    assert weights_hash(state_of(out)) == weights_hash(whole.i2t.state_dict())
    resumed = [x["step"] for x in lines(out.with_suffix(".jsonl")) if x["event"] == "resume"]
    assert resumed == reached[1:]


@pytest.fixture
def sigint():
    """Ctrl-C as in a terminal, whatever this test run has set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_command_between_two_steps_and_says_how_to_go_on(
    tmp_path, capsys, monkeypatch, sigint
):
    save_eg3d(tmp_path / "eg3d.safetensors", tiny_eg3d())
    out = tmp_path / "i2t.safetensors"
    small = pretrain_command.PretrainSettings
    monkeypatch.setattr(
        pretrain_command, "PretrainSettings", lambda **given: small(statistics=2, **given)
    )
    argv = [
        "pretrain",
        "--eg3d",
        str(tmp_path / "eg3d.safetensors"),
        "--steps",
        "20",
        "--batch",
        "1",
        "--device",
        "cpu",
        "--preview",
        "0",
        "--validate",
        "0",
        "--out",
        str(out),
    ]
    step = _Run.one_step

    def interrupted(run):
        step(run)
        if run.step == 7:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(_Run, "one_step", interrupted)
    assert main(argv) == 130
    assert "the same command with --resume goes on where" in capsys.readouterr().err
    assert load_header(out.with_suffix(".checkpoint")).config["step"] == 7
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert main(argv) == 2
    assert "holds an unfinished run; go on with --resume" in capsys.readouterr().err
    assert main([*argv, "--resume"]) == 0
    assert "last loss" in capsys.readouterr().out and out.exists()


def test_two_processes_have_the_gradients_of_one_on_the_same_batch(tmp_path):
    save_eg3d(tmp_path / "eg3d.safetensors", tiny_eg3d())
    out = tmp_path / "shared.safetensors"
    argv = [
        "pretrain",
        "--eg3d",
        str(tmp_path / "eg3d.safetensors"),
        "--steps",
        "3",
        "--batch",
        "4",
        "--device",
        "cpu",
        "--out",
        str(out),
    ]
    ports = free_port(), free_port()
    script = WORKER + SMALL_COMMAND.replace("sys.argv[1:]", "sys.argv[3:]")
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), ports[1], *argv],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(
                RANK=str(rank),
                LOCAL_RANK=str(rank),
                WORLD_SIZE="2",
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=ports[0],
            ),
        )
        for rank in range(2)
    ]
    errors = [program.communicate(timeout=500)[1] for program in programs]
    assert [p.returncode for p in programs] == [0, 0], errors
    both = [load_file(tmp_path / f"gradients{rank}.safetensors") for rank in range(2)]
    settings = PretrainSettings(iterations=2, batch_size=4, statistics=2, held_out=1)
    alone = _Run(tiny_eg3d(), tiny_i2t(seed=0), settings, PretrainWatch(), SOLO, None)
    alone.set_statistics()
    alone.one_step()
    expected = {n: p.grad for n, p in alone.network.named_parameters()}
    expected["loss"] = torch.tensor(alone.losses)
    for name, value in expected.items():
        assert torch.equal(both[0][name], both[1][name]), name
        torch.testing.assert_close(both[0][name], value, rtol=1e-4, atol=1e-7, msg=name)
    start, *rest = lines(out.with_suffix(".jsonl"))
    assert start["processes"] == 2 and [x["step"] for x in rest] == [3]
    settings = PretrainSettings(iterations=3, batch_size=4, statistics=2, preview_every=0)
    whole = pretrain_to_file(tiny_eg3d(), tmp_path / "whole.safetensors", settings=settings)
    # Adam makes steps of full size even of gradients that are nothing but rounding
    differences = [
        (value - whole.i2t.state_dict()[name]).abs().mean() for name, value in state_of(out).items()
    ]
    assert max(differences) < 1e-4


def test_a_batch_that_cannot_be_shared_is_refused():
    workers = Workers()
    workers.count = 3
    with pytest.raises(InputError, match="a batch of 4 cannot be shared by 3 processes"):
        workers.share(torch.zeros(4, 2))
    workers.count, workers.rank = 2, 1
    assert workers.share(torch.arange(4)).tolist() == [2, 3]
