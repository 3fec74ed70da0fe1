"""Evaluate Portrait in a real server: a picture, a table and JSON of one portrait."""

import json

from PIL import Image

from tests.comfy.graphs import EDITED, node
from tests.comfy.test_behaviour import succeed

GRAPH = {
    **EDITED,
    "scores": node(
        "FreeStyleEvaluatePortrait",
        portrait=["head", 0],
        original=["head", 0],
        images=["edit", 0],
        cameras=["cameras", 0],
        style="an elf",
        clip="off",
    ),
    "picture": node("PreviewImage", images=["scores", 0]),
    "text": node("PreviewAny", source=["scores", 1]),
    "json": node("PreviewAny", source=["scores", 2]),
}


def test_a_portrait_is_measured_in_the_graph(server):
    run = succeed(server, GRAPH)
    shown = server.outputs(run)
    record = json.loads(shown["json"]["text"][0])
    assert record["protocol"]["prompt"] == "an elf" and record["protocol"]["edited_views"] == 5
    assert record["scores"]["edit_fidelity"] > 0 and record["scores"]["clipped_gain"] == 0
    assert "edit_fidelity" in shown["text"]["text"][0]
    assert "not measured: clip" in shown["text"]["text"][0]
    picture = Image.open(server.file(shown["picture"]["images"][0]))
    assert picture.width > 1000 and picture.height > 300
