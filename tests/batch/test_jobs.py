"""Jobs: their names, their order and what they share."""

import pytest

from freestyle_core.batch.job_file import Entry
from freestyle_core.batch.jobs import make_jobs, tasks_of
from freestyle_core.errors import InputError

MODELS = {"eg3d": "e", "editor": "d", "perceptual": "p", "i2t": "t"}


def jobs(*values, models=MODELS):
    entries = [Entry(f"entry {number}", value) for number, value in enumerate(values, 1)]
    return make_jobs(entries, models)


def key(models=MODELS, **values):
    (job,) = jobs({"prompt": "an elf", **values}, models=models)
    return job.key


def test_an_entry_is_all_combinations_and_those_of_one_head_stand_together():
    made = jobs({"prompts": ["an elf", "sand"], "seeds": "4-5", "presets": ["fast", "balanced"]})
    # the presets look at a head from other sides, so each is a head of its own
    assert [job.name for job in made] == [
        "an elf, seed 4, fast",
        "sand, seed 4, fast",
        "an elf, seed 4, balanced",
        "sand, seed 4, balanced",
        "an elf, seed 5, fast",
        "sand, seed 5, fast",
        "an elf, seed 5, balanced",
        "sand, seed 5, balanced",
    ]
    assert len({job.key for job in made}) == 8 and len({job.head for job in made}) == 4
    assert made[0].settings.views == 3 and made[0].settings.tune.seed == 4


def test_an_entry_far_below_joins_the_jobs_of_its_head():
    made = jobs({"prompt": "an elf", "seeds": [1, 2]}, {"prompt": "sand", "seed": 1})
    assert [(job.prompt, job.settings.seed) for job in made] == [
        ("an elf", 1), ("sand", 1), ("an elf", 2),
    ]  # fmt: skip
    assert [(task.keep_views, task.keep_edits) for task in tasks_of(made)] == [
        (True, False), (True, False), (False, False),
    ]  # fmt: skip


def test_the_same_job_is_made_once_and_keeps_its_first_place():
    made = jobs({"prompt": "an elf", "seeds": "1-3"}, {"prompts": ["an elf"], "seed": 2})
    assert [job.entry for job in made] == ["entry 1"] * 3


def test_edits_are_shared_by_jobs_that_train_otherwise():
    one, two, other = jobs(
        {"prompt": "an elf"},
        {"prompt": "an elf", "iterations": 9},
        {"prompt": "an elf", "tau": 0.5},
    )
    assert one.edits == two.edits != other.edits and one.head == other.head
    assert [t.keep_edits for t in tasks_of([one, two, other])] == [True, True, False]
    alone = tasks_of([one, two, other], share=False)
    assert [(task.keep_views, task.keep_edits) for task in alone] == [(False, False)] * 3


def test_a_name_is_of_all_inputs_and_of_the_models_that_are_used():
    same = key()
    assert key(seed=0, preset="balanced", views=7, train="planes") == same
    for changed in (
        {"seed": 1},
        {"tau": 0.8},
        {"frames": 30},
        {"style2": "sand"},
        {"level": 9.0},
        {"reedit": True},
    ):
        assert key(**changed) != same
    for part in ("eg3d", "editor", "perceptual"):
        assert key({**MODELS, part: "other"}) != same
    assert key({**MODELS, "i2t": "other"}) == same  # planes are trained
    assert key(train="i2t") != key({**MODELS, "i2t": "other"}, train="i2t")


@pytest.mark.parametrize(
    "values, said",
    [
        ({}, "entry 1: a prompt is missing"),
        ({"prompt": "elf", "prompts": ["elf"]}, "entry 1: give prompt or prompts, not both"),
        ({"prompts": []}, "entry 1: the list of prompts is empty"),
        ({"prompt": 3}, "entry 1: a prompt must be text in quotes, got 3"),
        ({"prompt": "elf", "preset": "slow"}, "entry 1: preset must be one of fast, balanced"),
        ({"prompt": "elf", "sed": 3}, "entry 1: unknown 'sed'; known are prompt"),
        ({"prompt": "elf", "views": 1}, "entry 1: views must be 2 to 32, got 1"),
        ({"prompt": "elf", "views": 2.5}, "entry 1: views must be a whole number, got 2.5"),
        ({"prompt": "elf", "views": True}, "entry 1: views must be a whole number, got True"),
        ({"prompt": "elf", "tau": "much"}, "entry 1: tau must be a number, got 'much'"),
        ({"prompt": "elf", "path": 3}, "entry 1: path must be text, got 3"),
        ({"prompt": "elf", "robust": 1}, "entry 1: robust and reedit must be true"),
        ({"prompt": "elf", "style2": 1}, "entry 1: style2 must be text in quotes, got 1"),
        ({"prompt": "elf", "train": "all"}, "entry 1: train must be one of i2t, planes"),
        ({"prompt": " "}, "entry 1: .*style"),
        ({"prompt": "elf", "seed": 2**64}, "entry 1: .*seed"),
    ],
)
def test_a_mistake_names_its_entry(values, said):
    with pytest.raises(InputError, match=said):
        jobs(values)


def test_an_i2t_that_is_not_there_is_missed_before_the_work():
    without = {part: digest for part, digest in MODELS.items() if part != "i2t"}
    assert key(without) == key()
    with pytest.raises(InputError, match="entry 1: train = 'i2t' needs an I2T .* --i2t"):
        jobs({"prompt": "elf", "preset": "paper"}, models=without)
