"""A batch on tiny models in one process: what is made, what is not made twice, what fails."""

import os
import shutil
import time

import pytest
import torch

from freestyle_core import kept_edits
from freestyle_core.batch import folder as folder_module
from freestyle_core.batch import shared
from freestyle_core.batch.engine import Event
from freestyle_core.batch.run import MOST_LOSSES, Run
from freestyle_core.batch.status import status_of
from freestyle_core.batch.worker import BUSY, DONE, THERE, Worker, one_line
from freestyle_core.errors import Cancelled, FreeStyleError, InputError
from freestyle_core.files.claims import claimed
from tests.batch.small import (
    HereEngine,
    ready_folder,
    small_entry,
    small_plan,
    small_tasks,
    write_front,
)

TWO_STYLES = small_entry(prompts=["an elf", "a zombie"], seed=3)


@pytest.fixture
def batch(tiny_paths, tmp_path):
    """Return what runs tasks of some entries in a folder, and that folder."""

    def go(*entries, engine=HereEngine, tell=lambda event: None, root=tmp_path / "out", **plan):
        tasks = small_tasks(tiny_paths, *(entries or (TWO_STYLES,)))
        folder = ready_folder(root, tasks)
        return Run(tasks, folder, engine(small_plan(tiny_paths, root, **plan)), tell).run(), folder

    return go


def hidden(folder):
    return [path for path in folder.root.rglob(".freestyle-*")]


def test_a_batch_from_nothing_to_its_page(batch, tmp_path):
    events = []
    report, folder = batch(tell=events.append)
    assert (report.jobs, report.made, report.there, report.failed) == (2, 2, 0, [])
    keys = [job["key"] for job in folder.plan()["jobs"]]
    assert sorted(folder.finished()) == sorted(keys)
    for key, prompt in zip(keys, ["an elf", "a zombie"], strict=True):
        names = sorted(path.name for path in folder.job(key).iterdir())
        assert names == ["done.json", "front.png"]
        done = folder.done(key)
        assert done["prompts"] == [prompt] and done["seed"] == 3
        assert done["files"] == ["front.png"] and done["settings"]["tune"]["iterations"] == 2
    assert hidden(folder) == [] and list((folder.root / "runs").iterdir()) == []
    # the second style takes the views of the head; edits are nobody else's, and are not kept
    assert report.shared == {"views": 5, "edits": 0}
    assert [path.name[:5] for path in folder.shared.iterdir()] == ["head-"]
    ended = [event for event in events if event["event"] == "job"]
    assert [(event["key"], event["state"]) for event in ended] == [(key, DONE) for key in keys]
    shares = [event["share"] for event in events if event["event"] == "progress"]
    assert shares == sorted(shares) and 0 <= shares[0] < 1
    page = (folder.root / "index.html").read_text()
    assert "2 of 2 portraits" in page and f"jobs/{keys[1]}/front.png" in page
    assert (folder.root / "live.png").is_file()
    assert status_of(folder).finished == 2


def test_what_killed_runs_said_of_themselves_goes(batch, tmp_path):
    runs = tmp_path / "out" / "runs"
    runs.mkdir(parents=True)
    for name, age in (("m-1.json", 100), ("m-2.json", 1)):
        (runs / name).write_text("{}")
        os.utime(runs / name, times=(time.time() - age,) * 2)
    batch(small_entry(prompt="an elf"))
    assert [path.name for path in runs.iterdir()] == ["m-2.json"]


def test_what_is_there_is_not_made_again_and_a_new_job_is(batch):
    batch()
    made = []
    report, folder = batch(
        small_entry(prompts=["an elf", "a zombie"], seeds=[3, 4]),
        engine=lambda plan: HereEngine(plan, lambda task: made.append(task.job.name) or True),
    )
    assert (report.there, report.made) == (2, 2)
    assert made == ["an elf, seed 4, balanced", "a zombie, seed 4, balanced"]
    # a job file without them loses nothing
    report, folder = batch(small_entry(prompt="an elf", seed=4))
    assert (report.there, report.made) == (1, 0) and len(folder.finished()) == 4
    assert "1 of 1 portraits; 3 of earlier job files" in (folder.root / "index.html").read_text()


def test_nothing_is_loaded_when_nothing_is_to_do(batch):
    batch()
    report, _ = batch(engine=lambda plan: HereEngine(plan, make=None))
    assert (report.there, report.made) == (2, 0)


def test_the_second_style_of_a_head_renders_nothing_anew(batch, monkeypatch):
    rendered, real = [], shared.render_views
    monkeypatch.setattr(shared, "render_views", lambda *a, **k: rendered.append(1) or real(*a, **k))
    report, folder = batch(small_entry(prompts=["an elf", "a zombie", "sand"], seed=3))
    assert len(rendered) == 1 and report.shared["views"] == 10
    # and what it takes is what it would have rendered
    _, alone = batch(small_entry(prompt="a zombie", seed=3), root=folder.root.parent / "alone")
    key = alone.finished()[0]
    fronts = [(where.job(key) / "front.png").read_bytes() for where in (folder, alone)]
    assert fronts[0] == fronts[1] and len(rendered) == 2  # nobody shares it there


def test_edits_are_made_once_for_trainings_of_other_lengths(batch, monkeypatch):
    edited, real = [], kept_edits.stylize_views
    monkeypatch.setattr(
        kept_edits,
        "stylize_views",
        lambda e, i, *a, **k: edited.append(len(i)) or real(e, i, *a, **k),
    )
    report, _ = batch(
        small_entry(prompt="an elf", seed=3), small_entry(2, prompt="an elf", seed=3, iterations=3)
    )
    assert report.made == 2 and edited == [5] and report.shared == {"views": 5, "edits": 5}


def test_texts_are_encoded_once(tiny_paths, tmp_path, monkeypatch):
    worker = Worker(small_plan(tiny_paths, tmp_path))
    calls, encoder = [], worker.models.editor.text_encoder
    hook = encoder.register_forward_hook(lambda module, inputs, output: calls.append(inputs))
    tasks = small_tasks(tiny_paths, small_entry(prompt="an elf", seeds=[3, 4]))
    for task in tasks:
        assert worker.work(task, lambda *report: None).state == DONE
    hook.remove()
    assert len(calls) == 2  # of the prompt alone, and with the negative one
    again = worker.models.editor.encode_text(["an elf"])
    assert torch.equal(again, worker.models.editor.encode_text(["an elf"]))


def broken_for_zombies(folder, made, models, times, device):
    if made.styles[0].prompt == "a zombie":
        (folder / "half.png").write_bytes(b"x")
        raise ValueError("no such\nbrush")
    return write_front(folder, made, models, times, device)


def test_a_failing_job_is_recorded_and_the_rest_goes_on(batch):
    report, folder = batch(
        small_entry(prompts=["a zombie", "an elf"], seed=3), write=broken_for_zombies
    )
    assert report.made == 1
    ((task, reason),) = report.failed
    assert (task.job.prompt, reason) == ("a zombie", "ValueError: no such brush")
    assert not folder.job(task.job.key).exists() and hidden(folder) == []
    assert status_of(folder).failed == [
        {"key": task.job.key, "name": "a zombie, seed 3, balanced", "reason": reason}
    ]
    assert "no such brush" in (folder.root / "index.html").read_text()
    # the next run tries it again, and forgets the failure
    report, folder = batch(small_entry(prompts=["a zombie", "an elf"], seed=3))
    assert (report.there, report.made, report.failed) == (1, 1, [])
    assert status_of(folder).failed == []


def test_what_another_run_has_just_failed_is_not_tried_again_by_this_one(batch, tiny_paths):
    tasks = small_tasks(tiny_paths, TWO_STYLES)
    _, folder = batch(write=broken_for_zombies)
    key = next(task.job.key for task in tasks if task.job.prompt == "a zombie")
    later = folder.failure(key)["time"] - 1
    report, _ = batch(begun=later)
    assert [reason for _, reason in report.failed] == ["ValueError: no such brush"]


def test_jobs_of_another_run_are_left_to_it_and_taken_over_when_it_ends(batch, tiny_paths):
    tasks = small_tasks(tiny_paths, TWO_STYLES)
    elf, zombie = (task.job.key for task in tasks)
    order, held = [], {}

    def watch(plan):
        folder = folder_module.BatchFolder(plan.root)
        held["claim"] = claimed(folder.lock(elf))
        assert held["claim"].__enter__()
        return HereEngine(plan, lambda task: order.append(task.job.key) or True)

    def tell(event):
        if event["event"] == "job" and event["key"] == zombie:
            held["claim"].__exit__(None, None, None)  # the other one ends without a result

    report, _ = batch(engine=watch, tell=tell)
    assert order == [elf, zombie, elf] and report.made == 2


def test_what_another_run_finishes_meanwhile_counts_as_finished(batch, tiny_paths, tmp_path):
    _, other = batch(root=tmp_path / "other")
    tasks = small_tasks(tiny_paths, TWO_STYLES)

    def finish(task):  # between the run's first look and the worker's
        place = tmp_path / "out" / "jobs" / tasks[1].job.key
        if not place.exists():
            shutil.copytree(other.job(tasks[1].job.key), place)
        return True

    report, _ = batch(engine=lambda plan: HereEngine(plan, finish))
    assert (report.made, report.elsewhere, report.finished) == (1, 1, 2)


def test_a_job_that_ends_its_workers_fails_and_the_rest_goes_on(batch):
    tries = []

    def before(task):
        tries.append(task.job.prompt)
        return task.job.prompt != "an elf"

    report, folder = batch(engine=lambda plan: HereEngine(plan, before))
    assert tries == ["an elf"] * MOST_LOSSES + ["a zombie"] and report.made == 1
    ((task, reason),) = report.failed
    assert reason == f"{MOST_LOSSES} workers ended on it (its process ended by signal 9); was " + (
        "memory short?"
    )
    assert folder.failure(task.job.key)["reason"] == reason


def test_a_stop_leaves_no_half_job_and_the_next_run_goes_on(batch, tiny_paths, tmp_path):
    worker = Worker(small_plan(tiny_paths, tmp_path / "out"))
    task = small_tasks(tiny_paths, TWO_STYLES)[0]

    def stops(done, total, preview=None):
        if done > 0.5:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        worker.work(task, stops)
    assert worker.folder.finished() == [] and hidden(worker.folder) == []
    assert worker.folder.failure(task.job.key) is None
    with claimed(worker.folder.lock(task.job.key)) as free:
        assert free
    assert batch()[0].made == 2


def test_a_folder_without_its_last_file_is_made_again(batch):
    _, folder = batch()
    key = folder.finished()[0]
    (folder.job(key) / "done.json").unlink()
    (folder.job(key) / "strange.txt").write_text("of somebody")
    report, _ = batch()
    assert (report.there, report.made) == (1, 1)
    assert sorted(path.name for path in folder.job(key).iterdir()) == ["done.json", "front.png"]


def test_a_full_disk_fails_at_once_and_leaves_nothing(batch, monkeypatch):
    usage = shutil.disk_usage("/")
    small = usage._replace(free=39 * 2**20)
    monkeypatch.setattr(folder_module.shutil, "disk_usage", lambda path: small)
    rendered = []
    monkeypatch.setattr(shared, "render_views", lambda *a, **k: rendered.append(1))
    report, folder = batch()
    assert [reason.split(" has ")[1] for _, reason in report.failed] == [
        "39 MB free, a job needs about 40 MB; free some space"
    ] * 2
    assert rendered == [] and hidden(folder) == []


def full(folder, made, models, times, device):
    raise OSError(28, "No space left on device")


def test_a_disk_that_becomes_full_is_named(batch):
    report, folder = batch(write=full)
    assert "No space left on device; free some space" in report.failed[0][1]
    assert folder.finished() == [] and hidden(folder) == []


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(batch, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="cannot write into .*; choose another --out"):
        batch()


def test_failures_in_one_line():
    assert one_line(InputError("views must be 2\nto 32")) == "views must be 2 to 32"
    assert one_line(KeyError("x")) == "KeyError: 'x'"
    assert one_line(RuntimeError("CUDA out of memory")).startswith("out of memory; use fewer")
    assert one_line(ValueError()) == "ValueError: no reason given"


def test_a_worker_that_finds_its_job_done_or_claimed_says_so(tiny_paths, tmp_path, batch):
    _, folder = batch()
    worker = Worker(small_plan(tiny_paths, folder.root))
    task, other = small_tasks(tiny_paths, TWO_STYLES)
    assert worker.work(task, None).state == THERE
    shutil.rmtree(folder.job(other.job.key))
    with claimed(folder.lock(other.job.key)):
        assert worker.work(other, None).state == BUSY
    assert not folder.lock(task.job.key).exists()  # the claim of what is done leaves no file


def test_no_worker_that_can_start_ends_the_run(batch):
    class Refusing(HereEngine):
        def __enter__(self):
            self.events_now.append(run_event("refused", "no editor there"))
            return self

    with pytest.raises(FreeStyleError, match="a worker cannot start: no editor there"):
        batch(engine=Refusing)


def test_workers_that_end_while_they_load_end_the_run(batch):
    class Dying(HereEngine):
        def __enter__(self):
            return self

        def events(self, seconds):
            return [run_event("lost", "its process ended by signal 9")]

    with pytest.raises(FreeStyleError, match="worker 1 ended 3 times while it loaded the models"):
        batch(engine=Dying)


def run_event(kind, value):
    return Event(0, kind, value)
