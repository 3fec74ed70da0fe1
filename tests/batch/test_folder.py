"""The folder of a batch, its page, pictures and status, without any model."""

import html
import io
import json
import re
import time
from types import SimpleNamespace

import pytest
from PIL import Image

from freestyle_core.batch import pace as pace_module
from freestyle_core.batch import page as page_module
from freestyle_core.batch.cost import JobStages, job_cost, stage_costs
from freestyle_core.batch.folder import BatchFolder
from freestyle_core.batch.job_file import Entry
from freestyle_core.batch.jobs import make_jobs
from freestyle_core.batch.model_files import files_hash, model_hashes
from freestyle_core.batch.pace import Pace
from freestyle_core.batch.page import Page
from freestyle_core.batch.previews import TILE, write_live
from freestyle_core.batch.status import status_of
from freestyle_core.errors import FileFormatError, WriteError
from freestyle_core.files.bundle import write_atomically
from freestyle_core.files.claims import awaited, claimed
from freestyle_core.pipeline import ModelPaths
from freestyle_core.presets import BALANCED, FAST

MODELS = {"eg3d": "e", "editor": "d", "perceptual": "p"}


def jobs(*prompts, **values):
    return make_jobs([Entry("entry 1", {"prompts": list(prompts), **values})], MODELS)


def finish(folder, job, **record):
    with folder.making(job.key) as work:
        (work / "front.png").write_bytes(b"png")
        said = {
            "prompts": list(job.settings.prompts),
            "seed": job.settings.seed,
            "preset": job.preset,
        }
        folder.finish(job.key, work, {**said, "files": ["front.png"], "seconds": 61.0, **record})


@pytest.fixture
def folder(tmp_path):
    folder = BatchFolder(tmp_path / "many <b>")
    folder.prepare()
    return folder


def test_a_job_appears_whole_or_not_at_all(folder):
    (job,) = jobs("an elf")
    with pytest.raises(ValueError), folder.making(job.key) as work:
        (work / "front.png").write_bytes(b"x")
        raise ValueError("stopped")
    assert list(folder.jobs.iterdir()) == []
    with folder.making(job.key) as work:
        (work / "front.png").write_bytes(b"x")  # never finished
    assert list(folder.jobs.iterdir()) == []
    finish(folder, job)
    assert folder.finished() == [job.key] and folder.done(job.key)["seed"] == 0
    # a file in the way is named, and nothing is left
    other = jobs("sand")[0]
    folder.job(other.key).write_text("a file")
    with pytest.raises(WriteError, match="cannot write into"):
        finish(folder, other)
    assert sorted(path.name for path in folder.jobs.iterdir()) == sorted([job.key, other.key])


def test_a_file_that_cannot_be_written_is_named_without_its_hidden_folder(folder):
    with pytest.raises(WriteError) as caught, folder.making("ab") as work:
        (work / "front.png").mkdir()
        with write_atomically(work / "front.png") as part:
            part.write_bytes(b"x")
    assert str(caught.value).startswith("cannot write front.png: ")


def test_claims_are_one_process_at_a_time_and_leave_with_what_is_done(folder):
    (job,) = jobs("an elf")
    with folder.claimed(job.key) as mine, folder.claimed(job.key) as theirs:
        assert (mine, theirs) == (True, False)
    assert folder.lock(job.key).exists()
    finish(folder, job)
    with folder.claimed(job.key):
        pass
    assert not folder.lock(job.key).exists()


def test_whoever_waits_for_a_claim_may_give_up(tmp_path):
    path, asked = tmp_path / "locks" / "a.lock", []

    def gives_up():
        asked.append(1)
        if len(asked) == 3:
            raise KeyboardInterrupt

    with claimed(path) as mine, pytest.raises(KeyboardInterrupt):
        assert mine
        with awaited(path, gives_up):
            raise AssertionError("it is not free")
    with awaited(path):
        with claimed(path) as second:
            assert not second


def test_status_counts_what_lies_there_and_names_who_works(folder):
    done, failed, rest = jobs("an elf", "sand", "ice")
    folder.keep_plan([done, failed, rest], {})
    finish(folder, done)
    folder.failed(failed, "no brush")
    finish(folder, jobs("a zombie")[0])  # of another job file
    runs = folder.root / "runs"
    runs.mkdir()
    state = {"machine": "m", "process": 3, "time": time.time(), "seconds_left": 40}
    (runs / "m-3.json").write_text(json.dumps(state))
    (runs / "m-4.json").write_text(json.dumps({**state, "process": 4, "time": 0}))  # long dead
    (runs / "m-5.json").write_text("{")
    status = status_of(folder)
    assert (status.jobs, status.finished, status.seconds_left) == (3, 1, 40)
    assert [(x["key"], x["reason"]) for x in status.failed] == [(failed.key, "no brush")]
    assert [run["process"] for run in status.runs] == [3]


def page_text(folder):
    return Page(folder).write().read_text(encoding="utf-8")


def test_the_page_has_every_result_and_what_failed_and_cannot_be_broken_out_of(folder):
    evil = '</script><img src=x> & "elf"'
    one, two, three = jobs(evil, "sand", "ice", seed=2**63)
    folder.keep_plan([one, two, three], {})
    finish(folder, one)
    folder.failed(two, "<b>no</b>")
    text = page_text(folder)
    assert "many &lt;b&gt;" in text and "1 of 3 portraits, 1 failed" in text
    assert text.count("</script>") == 2  # of the data and of the code, none of the style
    assert html.escape(evil) in text and "&lt;b&gt;no&lt;/b&gt;" in text
    data = json.loads(re.search(r'id="jobs">(.*?)</script>', text, re.S)[1])
    assert data[0]["prompt"] == evil and ["made in", "1:01"] in data[0]["facts"]
    # what a browser reads from elsewhere: nothing
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)
    assert [f"jobs/{one.key}/front.png"] == re.findall(r'<img src="([^"]+)"', text)


def test_a_page_reads_a_result_once_and_has_only_so_many(folder, monkeypatch):
    made = jobs("an elf", "sand")
    folder.keep_plan(made, {})
    page = Page(folder)
    for job in made:
        finish(folder, job)
    page.write()
    (folder.job(made[0].key) / "done.json").write_text("{")
    assert "2 of 2" in page.write().read_text()
    monkeypatch.setattr(page_module, "MOST_CARDS", 1)
    text = page.write().read_text()
    assert text.count('class="card"') == 1
    assert "2 of 2 portraits; the first 1 are shown, all are in jobs/" in text


def test_the_live_picture_has_what_is_made_first_and_skips_what_is_no_picture(tmp_path):
    def png(colour):
        written = io.BytesIO()
        Image.new("RGB", (8, 8), colour).save(written, format="PNG")
        return written.getvalue()

    (tmp_path / "a.png").write_bytes(png((0, 0, 255)))
    (tmp_path / "b.png").write_bytes(b"half")
    path = tmp_path / "live.png"
    write_live(path, [png((255, 0, 0))], [tmp_path / "b.png", tmp_path / "a.png"])
    with Image.open(path) as sheet:
        assert sheet.size == (2 * TILE, TILE)
        assert sheet.getpixel((5, 5)) == (255, 0, 0)
        assert sheet.getpixel((TILE + 5, 5)) == (0, 0, 255)
    path.unlink()
    write_live(path, [], [tmp_path / "none.png"])
    assert not path.exists()


def test_stages_of_a_job_are_one_progress():
    told = []
    stages = JobStages([1.0, 3.0], lambda done, total, preview=None: told.append(done / total))
    with stages.stage("first") as progress:
        progress(1, 2)
    with stages.stage("second") as progress:
        progress(1, 3)
    assert told == [0.0, 0.125, 0.25, 0.25, 0.5, 1.0] and set(stages.times) == {"first", "second"}


def test_the_work_of_a_job_follows_its_numbers():
    fast, balanced = FAST.settings("an elf"), BALANCED.settings("an elf")
    # 10 views, 8 steps each, 36 steps of training, 30 frames, a mesh of (128 / 192)^3
    assert stage_costs(fast) == pytest.approx([0.8, 1.76, 6.12, 2.4, 2.0 * (128 / 192) ** 3, 1.5])
    assert job_cost(balanced) > 2 * job_cost(fast)
    two = stage_costs(FAST.settings("an elf", "sand"))
    assert len(two) == 10 and two[3] == pytest.approx(12.24)


def test_a_pace_is_of_the_work_done_since_the_first_worker_was_ready(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    one, two = jobs("an elf", "sand")
    pace = Pace([one, two])
    report = SimpleNamespace(jobs=4, finished=2, failed=[])
    assert pace.said(report)["share"] == 0.5 and pace.left is None
    pace.start()
    now[0] += 4
    pace.share(one.key, 0.5)
    assert pace.left is None  # too early
    now[0] += 6
    assert pace.left == pytest.approx(30.0)  # a quarter of the work in ten seconds
    assert pace.per_hour == pytest.approx(180.0)
    pace.finish(one.key)
    pace.finish(two.key)
    said = pace.said(report)
    assert (said["share"], said["seconds_left"]) == (1.0, 0)
    assert pace.changed() and not pace.changed()  # told once, and then only with news


def test_models_are_named_by_what_their_files_hold(tmp_path):
    own = model_hashes(ModelPaths())
    assert set(own) == {"eg3d", "i2t", "editor", "perceptual"}
    assert model_hashes(ModelPaths()) == own
    editor = tmp_path / "editor"
    (editor / "unet").mkdir(parents=True)
    (editor / "unet" / "w").write_bytes(b"1")
    first = files_hash(editor)
    (editor / "unet" / "w").write_bytes(b"2")
    second = files_hash(editor)
    (editor / "unet" / "w").rename(editor / "unet" / "v")
    assert len({first, second, files_hash(editor)}) == 3
    assert "i2t" not in model_hashes(ModelPaths(i2t=None))
    assert model_hashes(ModelPaths(i2t="fresh"))["i2t"] == "fresh"
    with pytest.raises(FileFormatError, match="is not there"):
        files_hash(tmp_path / "none")
