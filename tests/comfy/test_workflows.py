"""The bundled workflows as files: whole, tidy, and with every link where it says it is."""

import itertools
import json
import uuid
from pathlib import Path

import pytest

from tests.comfy.to_api import NOTES

WORKFLOWS = sorted((Path(__file__).parents[2] / "workflows").glob("*.json"))
TITLE_HEIGHT = 30  # pixels above a node's position
CORE = {
    "CreateVideo", "ImageStitch", "LossGraphNode", "Preview3D", "PreviewImage", "SaveVideo",
}  # all are in ComfyUI 0.8


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def box(node):
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE_HEIGHT, x + width, y + height


def test_both_are_there():
    assert [path.stem for path in WORKFLOWS] == ["text_to_turntable", "two_styles_mixed"]


def test_only_core_nodes_and_this_pack(workflow):
    foreign = {node["type"] for node in workflow["nodes"]} - CORE - NOTES
    assert all(name.startswith("FreeStyle") for name in foreign), foreign


def test_links_join_the_sockets_they_name(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, out, target, slot, kind in workflow["links"]:
        output, socket = nodes[source]["outputs"][out], nodes[target]["inputs"][slot]
        assert number in output["links"] and socket["link"] == number
        assert output["type"] == kind and kind in socket["type"].split(",")
    ends = [s["link"] for n in nodes.values() for s in n["inputs"] if s["link"] is not None]
    assert sorted(ends) == [link[0] for link in workflow["links"]]


def test_nothing_overlaps_and_groups_hold_their_nodes(workflow):
    for a, b in itertools.combinations(workflow["nodes"], 2):
        (l1, t1, r1, b1), (l2, t2, r2, b2) = box(a), box(b)
        assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1, (a["type"], b["type"])
    for node in workflow["nodes"]:
        left, top, right, bottom = box(node)
        holders = 0
        for group in workflow["groups"]:
            x, y, width, height = group["bounding"]
            inside = x <= left and y <= top and right <= x + width and bottom <= y + height
            outside = right <= x or x + width <= left or bottom <= y or y + height <= top
            assert inside or outside, (node["type"], group["title"])
            holders += inside
        assert holders == (node["type"] != "MarkdownNote"), node["type"]


def test_it_says_what_it_does_and_seeds_stay_fixed(workflow):
    assert workflow["version"] == 0.4 and uuid.UUID(workflow["id"])
    assert sum(node["type"] == "MarkdownNote" for node in workflow["nodes"]) == 1
    after_a_run = [v for node in workflow["nodes"] for v in node["widgets_values"]]
    assert not {"randomize", "increment", "decrement"} & {v for v in after_a_run if v is not None}
    assert "fixed" in after_a_run
