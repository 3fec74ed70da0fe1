"""Jobs that take their style from a pack."""

import json
from dataclasses import replace

import pytest
import torch

from freestyle_core.batch.cost import job_cost
from freestyle_core.batch.folder import BatchFolder, described
from freestyle_core.batch.job_file import read_entries
from freestyle_core.batch.jobs import make_jobs, tasks_of
from freestyle_core.batch.page import page_of
from freestyle_core.batch.worker import Worker
from freestyle_core.cli.commands.batch import write_files
from freestyle_core.errors import InputError
from freestyle_core.files.portrait import load_portrait
from freestyle_core.files.style_pack import load_style_pack, save_style_pack
from freestyle_core.method.sample import sample_portrait
from freestyle_core.packs.apply import apply_style_pack
from freestyle_core.progress import no_progress
from freestyle_core.types import StylePack
from tests.batch.small import save_models, small_entry, small_plan, small_tasks
from tests.tiny import tiny_eg3d, tiny_pack

MODELS = {"eg3d": "e", "editor": "d", "perceptual": "p"}
NOT_OF_PACKS = ("views", "steps", "iterations")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packs")
    pack: StylePack = tiny_pack(tiny_eg3d())
    save_style_pack(folder / "elf.safetensors", pack)
    save_style_pack(folder / "sand.safetensors", replace(pack, prompt="sand"))
    return folder


def entry(**values):
    made = small_entry()
    fit = {k: v for k, v in made.values.items() if k not in NOT_OF_PACKS}
    return replace(made, values={**fit, **values})


def jobs(*entries, models=MODELS):
    return make_jobs(entries, models)


def test_packs_times_seeds_are_jobs_that_share_no_views(shelf):
    files = [str(shelf / f"{name}.safetensors") for name in ("elf", "sand")]
    made = jobs(entry(packs=files, seeds="3-4", strength=0.5))
    assert sorted(job.name for job in made) == [
        "an elf, seed 3, by a pack",
        "an elf, seed 4, by a pack",
        "sand, seed 3, by a pack",
        "sand, seed 4, by a pack",
    ]
    assert len({job.key for job in made}) == 4
    assert {job.pack.strength for job in made} == {0.5}
    assert not any(task.keep_views or task.keep_edits for task in tasks_of(made))
    assert job_cost(made[0].settings, by_pack=True) < job_cost(made[0].settings)


def test_a_job_is_named_by_what_decides_its_files_and_nothing_else(shelf, tmp_path):
    file = shelf / "elf.safetensors"
    (one,) = jobs(entry(pack=str(file)))
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(file.read_bytes())
    assert jobs(entry(pack=str(moved)))[0].key == one.key
    assert jobs(entry(pack=str(file)), models={**MODELS, "editor": "x"})[0].key == one.key
    for changed in (
        jobs(entry(pack=str(file), strength=0.9)),
        jobs(entry(pack=str(file), seed=1)),
        jobs(entry(pack=str(file), psi=0.1)),
        jobs(entry(pack=str(file), frames=3)),
        jobs(entry(pack=str(shelf / "sand.safetensors"))),
        jobs(entry(pack=str(file)), models={**MODELS, "eg3d": "x"}),
    ):
        assert changed[0].key != one.key


def test_several_packs_in_a_field_of_csv(tmp_path):
    (tmp_path / "jobs.csv").write_text("pack,seed\nrobot | an elf,3\n")
    (read,) = read_entries(tmp_path / "jobs.csv")
    assert read.values == {"pack": ["robot", "an elf"], "seed": "3"}


BAD = {
    "words": ({"prompt": "an elf"}, "so prompt means nothing"),
    "training": ({"iterations": 3}, "so iterations means nothing"),
    "strength": ({"strength": 3}, "strength must be from 0 to 2"),
    "strength text": ({"strength": "much"}, "strength must be a number"),
    "missing": ({"pack": "no.safetensors"}, "no style pack"),
    "number": ({"pack": 3}, "a pack must be text"),
    "both": ({"packs": ["a"]}, "give pack or packs, not both"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_pack_cannot_have_is_refused_with_its_place(shelf, case):
    given, message = BAD[case]
    with pytest.raises(InputError, match=rf"jobs.toml, entry 1: .*{message}"):
        jobs(entry(**{"pack": str(shelf / "elf.safetensors"), **given}))


def test_other_mistakes_about_packs(shelf):
    file = str(shelf / "elf.safetensors")
    with pytest.raises(InputError, match="two packs have the words 'an elf'"):
        jobs(entry(packs=[file, file]))
    with pytest.raises(InputError, match="the list of packs is empty"):
        jobs(entry(packs=[]))
    with pytest.raises(InputError, match="strength is how much of a pack; add pack"):
        jobs(small_entry(prompt="an elf", strength=1.0))


def test_a_worker_makes_the_files_of_style_apply(shelf, tmp_path):
    paths = save_models(tmp_path)
    file = shelf / "elf.safetensors"
    (task,) = small_tasks(paths, entry(pack=str(file), seed=3, strength=0.5))
    plan = small_plan(paths, tmp_path / "out", write=write_files)
    told = []
    outcome = Worker(plan).work(task, lambda done, total, *_: told.append(done / total))
    assert outcome.state == "done", outcome.reason
    folder = BatchFolder(tmp_path / "out")
    place = folder.job(task.job.key)
    assert sorted(path.name for path in place.iterdir()) == [
        "done.json",
        "front.png",
        "mesh.glb",
        "portrait.safetensors",
        "run.json",
        "turntable.mp4",
        "views.png",
    ]
    eg3d = tiny_eg3d()
    got = load_portrait(place / "portrait.safetensors", eg3d=eg3d)
    expected = apply_style_pack(load_style_pack(file), sample_portrait(eg3d, 3, psi=0.7), 0.5)
    assert torch.equal(got.triplane.planes, expected.triplane.planes)
    record = folder.done(task.job.key)
    assert record["pack"]["strength"] == 0.5 and record["seed"] == 3
    assert json.loads((place / "run.json").read_text())["strength"] == 0.5
    assert told == pytest.approx(sorted(told)) and told[-1] == 1
    page = page_of("out", [described(task.job)], {task.job.key: record}, [])
    assert "strength of the pack" in page and "training steps" not in page


def test_a_pack_that_changes_meanwhile_is_a_reason(shelf, tmp_path):
    paths = save_models(tmp_path)
    file = tmp_path / "elf.safetensors"
    file.write_bytes((shelf / "elf.safetensors").read_bytes())
    (task,) = small_tasks(paths, entry(pack=str(file)))
    save_style_pack(file, replace(tiny_pack(tiny_eg3d()), prompt="a zombie"))
    outcome = Worker(small_plan(paths, tmp_path / "out")).work(task, no_progress)
    assert (
        outcome.state == "failed" and "is another one than when the batch began" in outcome.reason
    )
    assert not BatchFolder(tmp_path / "out").is_done(task.job.key)
