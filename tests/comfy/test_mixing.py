"""Style Mix in a part of the head, and Style Mix of Many, on a real server."""

import pytest

from tests.comfy.graphs import FULL, node

LIMIT = 300


def solid(value, width):
    return node("SolidMask", value=value, width=width, height=16)


@pytest.fixture(scope="module")
def prompt():
    """Two heads and their mix inside the left half of the front view, each seen from the front."""
    made = {
        "eg3d": FULL["eg3d"],
        "a": node("FreeStyleEG3DSampler", eg3d=["eg3d", 0], seed=1, truncation=0.7),
        "b": node("FreeStyleEG3DSampler", eg3d=["eg3d", 0], seed=2, truncation=0.7),
        "black": solid(0.0, 16),
        "white": solid(1.0, 8),
        "mask": node(
            "MaskComposite",
            destination=["black", 0],
            source=["white", 0],
            x=0,
            y=0,
            operation="add",
        ),
        "mix": node(
            "FreeStyleStyleMix",
            portrait_a=["a", 0],
            portrait_b=["b", 0],
            amount=1.0,
            mask=["mask", 0],
            through=True,
        ),
        "many": node(
            "FreeStyleStyleMixMany",
            portrait_a=["a", 0],
            portrait_b=["b", 0],
            portrait_c=["mix", 0],
            weight_a=0.5,
            weight_b=0.0,
            weight_c=0.0,
            weight_d=1.0,  # of none
        ),
    }
    for name in ("a", "b", "mix", "many"):
        made[f"view of {name}"] = node("FreeStyleTriplaneRender", portrait=[name, 0])
        made[f"hash of {name}"] = node("ProbeHash", value=[f"view of {name}", 0])
    return made


def test_a_mask_mixes_and_weights_choose(server, prompt):
    run = server.run(prompt, LIMIT)
    assert run.end.kind == "execution_success", run.end.data
    seen = {name: server.outputs(run)[f"hash of {name}"] for name in ("a", "b", "mix", "many")}
    assert seen["mix"] not in (seen["a"], seen["b"])
    assert seen["many"] == seen["a"]  # the only weight above 0 of what is connected


REFUSED = {
    "mask of another size": ({"white": solid(1.0, 12)}, {"mask": ["white", 0]}, "12 x 16 pixels"),
    "empty mask": ({}, {"mask": ["black", 0]}, "the mask is empty; paint over"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_masks_that_are_none_are_refused_in_one_line(server, prompt, case):
    nodes, inputs, message = REFUSED[case]
    mix = {**prompt["mix"], "inputs": {**prompt["mix"]["inputs"], **inputs}}
    run = server.run({**prompt, **nodes, "mix": mix}, LIMIT)
    assert run.end.kind == "execution_error"
    said = run.end.data["exception_message"].strip()
    assert message in said and "\n" not in said


def test_weights_of_nothing_are_refused(server, prompt):
    many = {**prompt["many"], "inputs": {**prompt["many"]["inputs"], "weight_a": 0.0}}
    run = server.run({**prompt, "many": many}, LIMIT)
    assert run.end.kind == "execution_error"
    assert "all weights are 0" in run.end.data["exception_message"]
