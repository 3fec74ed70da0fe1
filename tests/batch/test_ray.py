"""Actors of Ray: what each gets, how one works, and a real cluster where Ray is installed."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from freestyle_core.batch.folder import BatchFolder
from freestyle_core.batch.ray_engine import (
    MISSING,
    RayEngine,
    RayWorker,
    Share,
    connect,
    environment,
    ray_package,
    shares,
)
from freestyle_core.batch.run import Run
from freestyle_core.batch.worker import DONE, FAILED, Outcome
from freestyle_core.errors import Cancelled, InputError
from tests.batch.small import (
    kills_itself_once,
    ready_folder,
    small_entry,
    small_plan,
    small_tasks,
)

ROOT = Path(__file__).resolve().parents[2]
TWO = small_entry(prompts=["an elf", "sand"], seed=3)


def test_a_cluster_is_shared_out():
    assert shares({"CPU": 16.0, "GPU": 2.0}, None) == (Share(1.0, 1.0), 2)
    assert shares({"CPU": 16.0, "GPU": 2.0}, 4) == (Share(1.0, 0.5), 4)
    assert shares({"CPU": 2.0, "GPU": 4.0}, None) == (Share(0.5, 1.0), 4)
    assert shares({"CPU": 8.0}, None) == (Share(1.0), 8)
    assert shares({"CPU": 8.0}, 3) == (Share(2.0), 3)
    assert shares({"CPU": 2.0}, 4) == (Share(0.5), 4)
    assert shares({}, None) == (Share(1.0), 1)


def test_an_actor_finds_the_program_and_its_threads(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    assert environment(Share(3.0)) == {
        "PYTHONPATH": f"{ROOT}{os.pathsep}elsewhere",
        "OMP_NUM_THREADS": "3",
    }
    monkeypatch.delenv("PYTHONPATH")
    assert environment(Share(0.5)) == {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match="needs the package ray: pip install") as caught:
        ray_package()
    assert str(caught.value) == MISSING


def test_an_actor_writes_into_the_shared_folder(tiny_paths, tmp_path):
    task = small_tasks(tiny_paths, TWO)[0]
    actor = RayWorker(small_plan(tiny_paths, tmp_path), Share(), False)
    assert actor.ready() == ""
    outcome, files = actor.work(task)
    assert (outcome.state, files) == (DONE, {})
    process, share, picture = actor.share()
    assert (process, share) == (os.getpid(), 1.0)
    assert BatchFolder(tmp_path).is_done(task.job.key)


def test_files_come_back_as_bytes_and_are_kept_whole(tiny_paths, tmp_path):
    task = small_tasks(tiny_paths, TWO)[0]
    plan = small_plan(tiny_paths, tmp_path / "here")
    actor = RayWorker(plan, Share(), True)
    outcome, files = actor.work(task)
    assert sorted(files) == ["done.json", "front.png"] and not (tmp_path / "here").exists()
    engine = RayEngine(plan, bytes_back=True)
    assert engine._kept(task, outcome, files) == outcome
    folder = BatchFolder(plan.root)
    assert folder.done(task.job.key)["files"] == ["front.png"]
    assert (folder.job(task.job.key) / "front.png").read_bytes() == files["front.png"]
    # it keeps none of them, and a failure there is one here
    own = Path(actor._own.name)
    assert list((own / "jobs").iterdir()) == []
    failed = Outcome(task.job.key, FAILED, "no brush")
    assert engine._kept(task, failed, {}) == failed
    assert folder.failure(task.job.key)["reason"] == "no brush"
    actor.stop()
    assert not own.exists()


def test_an_actor_that_is_stopped_leaves_its_job(tiny_paths, tmp_path):
    actor = RayWorker(small_plan(tiny_paths, tmp_path), Share(), False)
    actor.stop()
    with pytest.raises(Cancelled, match="the run was stopped"):
        actor.work(small_tasks(tiny_paths, TWO)[0])
    assert BatchFolder(tmp_path).finished() == [] and not list(tmp_path.rglob(".freestyle-*"))


def test_models_that_cannot_be_loaded_are_told(tiny_paths, tmp_path):
    plan = small_plan(tiny_paths, tmp_path)
    plan = type(plan)(plan.root, plan.paths, refuses, plan.write, plan.begun)
    assert RayWorker(plan, Share(), False).ready() == "there is no device here"


def refuses():
    raise InputError("there is no device here")


needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the package ray is not installed")


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """Return the address of a head node of two processors that this test has started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["start", "--head", "--block", f"--port={port}", "--num-cpus=2", "--num-gpus=0"]
    words += ["--include-dashboard=false", "--disable-usage-stats"]
    log = tmp_path_factory.mktemp("ray") / "head.log"
    run = "import sys; from ray.scripts.scripts import main; sys.exit(main())"
    with open(log, "w") as stream:
        node = subprocess.Popen(
            [sys.executable, "-c", run, *words],
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that all of it can be ended
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )
    try:
        end = time.monotonic() + 180
        while "Ray runtime started" not in log.read_text():
            assert node.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.5)
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(node.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            node.wait(30)
        with suppress(ProcessLookupError):  # what it has started and not ended
            os.killpg(node.pid, signal.SIGKILL)
        node.wait()


@pytest.mark.slow  # Ray and each of its processes import everything anew
@needs_ray
@pytest.mark.parametrize("bytes_back", [False, True], ids=["folder", "bytes"])
def test_two_actors_of_a_cluster_and_one_that_is_killed(
    tiny_paths, tmp_path, head, bytes_back, monkeypatch
):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    tasks = small_tasks(tiny_paths, small_entry(prompts=["an elf", "sand"], seeds=[3, 4]))
    folder = ready_folder(tmp_path / "out", tasks)
    write = partial(kills_itself_once, tmp_path / "killed")
    plan = small_plan(tiny_paths, folder.root, write=write)
    events = []
    engine = RayEngine(plan, workers=2, address=head, bytes_back=bytes_back)
    report = Run(tasks, folder, engine, events.append).run()
    assert (report.made, report.failed) == (4, [])
    assert sorted(folder.finished()) == sorted(task.job.key for task in tasks)
    assert not list(folder.root.rglob(".freestyle-*"))
    makers = {folder.done(task.job.key)["process"] for task in tasks}
    assert os.getpid() not in makers and len(makers) >= 2
    assert int((tmp_path / "killed").read_text()) not in makers


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "here:port"])
def test_a_cluster_that_is_not_there_is_one_line(address):
    with pytest.raises(InputError, match=f"nobody answers at {address}") as caught:
        connect(None, address)
    assert "\n" not in str(caught.value)


def test_a_cluster_that_is_there_is_joined():
    joined = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        connect(SimpleNamespace(init=lambda **given: joined.append(given["address"])), address)
        connect(SimpleNamespace(init=lambda **given: joined.append(given["address"])), "auto")
    assert joined == [address, "auto"]
