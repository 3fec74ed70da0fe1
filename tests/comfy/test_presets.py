"""What the nodes make of a preset, of a number left at 0, and of no network, on a real server."""

import re

import pytest

from freestyle_core.presets import PRESETS
from tests.comfy.graphs import EDITED, FULL, changed, node
from tests.comfy.test_behaviour import pictures, succeed, texts

ALONE = {  # the head alone learns: no I2T
    **EDITED,
    "train": node(
        "FreeStyleI2TFinetune",
        **{key: value for key, value in FULL["train"]["inputs"].items() if key != "i2t"},
    ),
    "after": node("FreeStyleTriplaneRender", portrait=["train", 0]),
    "show": node("PreviewImage", images=["after", 0]),
}


def steps(run):
    """Return how many training steps were made, and how many there were to be at first."""
    said = re.findall(r"training, step (\d+)/(\d+)", " ".join(texts(run.during("train"))))
    return int(said[-1][0]), int(said[0][1])


def test_planes_learn_without_a_network_in_the_presets_steps(server):
    run = succeed(server, changed(ALONE, train={"iterations": 0, "preset": "fast"}))
    assert steps(run) == (PRESETS["fast"].iterations,) * 2


def test_the_papers_preset_needs_no_network(server):
    run = succeed(server, changed(ALONE, train={"iterations": 3, "preset": "paper"}))
    assert steps(run) == (3, 3)


def test_a_network_that_is_to_be_trained_must_be_connected(server):
    for train in ("i2t", "both"):
        with pytest.raises(RuntimeError, match=f"train is set to {train}, which needs a network"):
            server.post("/prompt", {"prompt": changed(ALONE, train={"train": train})})


def test_a_time_budget_ends_the_training_early(server):
    run = succeed(server, changed(ALONE, train={"iterations": 20000, "time_budget_s": 0.5}))
    made, planned = steps(run)
    assert planned == 20000 and 0 < made < 20000


def test_the_preset_says_the_steps_of_the_edit_where_they_are_0(server):
    shown = {**EDITED, "show": node("PreviewImage", images=["edit", 0])}
    preset = succeed(server, changed(shown, edit={"steps": 0, "preset": "fast", "seed": 77}))
    by_hand = {"steps": PRESETS["fast"].steps, "preset": "balanced", "seed": 77}
    typed = succeed(server, changed(shown, edit=by_hand))
    assert "5 of 5 pictures taken from disk" in " ".join(texts(typed.during("edit")))
    assert pictures(server, preset) == pictures(server, typed)
