"""Jobs that begin with a photograph."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from freestyle_core.batch.folder import BatchFolder, described
from freestyle_core.batch.jobs import make_jobs
from freestyle_core.batch.page import page_of
from freestyle_core.batch.photos import PhotoHeads
from freestyle_core.batch.worker import Worker
from freestyle_core.cli.commands.batch import write_files
from freestyle_core.errors import InputError
from freestyle_core.files.networks import ASSETS
from freestyle_core.files.portrait import load_portrait
from freestyle_core.files.style_pack import save_style_pack
from freestyle_core.pipeline import load_models
from freestyle_core.progress import no_progress
from tests.batch.small import save_models, small_entry, small_plan, small_tasks
from tests.tiny import tiny_eg3d, tiny_pack

MODELS = {"eg3d": "e", "editor": "d", "perceptual": "p"}
PHOTO = str(ASSETS.parent / "pictures" / "photo.jpg")


def entry(**values):
    return small_entry(**{"photo": PHOTO, "prompt": "an elf", **values})


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"))


def test_a_job_is_named_by_the_picture_and_not_by_its_place(tmp_path):
    (one,) = make_jobs([entry()], MODELS)
    assert one.name == "an elf, photo.jpg, balanced" and one.photo.face == 0
    moved = tmp_path / "other.jpg"
    moved.write_bytes(Path(PHOTO).read_bytes())
    (same,) = make_jobs([entry(photo=str(moved))], MODELS)
    assert same.key == one.key and same.head == one.head
    moved.write_bytes(Path(PHOTO).read_bytes() + b"\0")
    changed = [entry(photo=str(moved)), entry(face=1), small_entry(prompt="an elf")]
    for job in make_jobs(changed, MODELS):
        assert job.key != one.key and job.head != one.head and job.edits != one.edits
    two = make_jobs([entry(), entry(prompt="sand")], MODELS)
    assert two[0].head == two[1].head  # so that its views are rendered once


BAD = {
    "missing": ({"photo": "none.jpg"}, "there is no photograph none.jpg"),
    "number": ({"photo": 3}, "photo must be a file's name"),
    "face": ({"face": "first"}, "and face a number"),
    "modulation": ({"train": "modulation"}, "not from a photograph"),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_told_with_their_place(case):
    given, message = BAD[case]
    with pytest.raises(InputError, match=rf"jobs.toml, entry 1: .*{message}"):
        make_jobs([entry(**given)], MODELS)


def test_a_face_needs_a_photograph():
    with pytest.raises(InputError, match="face is one of a photograph's; add photo"):
        make_jobs([small_entry(prompt="an elf", face=1)], MODELS)


def test_a_worker_begins_with_the_photograph(paths, tmp_path):
    pack = tmp_path / "pack.safetensors"
    save_style_pack(pack, tiny_pack(tiny_eg3d()))
    values = {k: v for k, v in entry().values.items() if k in ("photo", "frames", "resolution")}
    by_pack = replace(entry(), values={**values, "level": 0.35, "pack": str(pack)})
    tasks = small_tasks(paths, entry(train="i2t"), by_pack)
    worker = Worker(small_plan(paths, tmp_path / "out", write=write_files))
    folder = BatchFolder(tmp_path / "out")
    outcomes = [worker.work(task, no_progress) for task in tasks]
    assert [(o.state, o.reason) for o in outcomes] == [("done", "")] * 2
    head, front = worker.photos.head(tasks[0].job.photo, 0, no_progress)
    restyled = load_portrait(
        folder.job(tasks[1].job.key) / "portrait.safetensors", eg3d=tiny_eg3d()
    )
    expected = head.triplane.planes + 0.25  # what the pack adds
    torch.testing.assert_close(restyled.triplane.planes, expected)
    assert len(front) == 16
    record = folder.done(tasks[0].job.key)
    assert record["photo"]["file"] == tasks[0].job.photo.file
    page = page_of("out", [described(t.job) for t in tasks], {tasks[0].job.key: record}, [])
    assert "photo.jpg" in page


def test_a_photograph_is_made_a_portrait_once_in_a_row(paths, monkeypatch):
    made = []

    class Counted(PhotoHeads):
        def _made(self, photo, seed, progress):
            made.append((photo.face, seed))
            return super()._made(photo, seed, progress)

    heads = Counted(load_models(paths))
    (job,) = make_jobs([entry()], MODELS)
    first = heads.head(job.photo, 0, no_progress)
    assert heads.head(job.photo, 0, no_progress) is first and made == [(0, 0)]
    heads.head(job.photo, 1, no_progress)
    assert made == [(0, 0), (0, 1)]


def test_what_is_no_face_or_another_picture_by_now_is_a_reason(paths, tmp_path):
    worker = Worker(small_plan(paths, tmp_path / "out", write=write_files))
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(Path(PHOTO).read_bytes())
    (task,) = small_tasks(paths, entry(photo=str(photo)))
    (far,) = small_tasks(paths, entry(face=7))
    photo.write_bytes(b"another")
    outcome = worker.work(task, no_progress)
    assert outcome.state == "failed" and "is another one than when" in outcome.reason
    outcome = worker.work(far, no_progress)
    assert outcome.state == "failed" and "face" in outcome.reason
