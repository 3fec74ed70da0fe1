"""The bundled workflows as files: whole, tidy, and with room for what a run shows."""

import itertools
import uuid

import numpy as np
import pytest
from PIL import Image

from tests.comfy.flows import (
    FULL_SIZE,
    NAMES,
    TITLES,
    WORKFLOWS,
    apart,
    box,
    covers,
    file_of,
    groups,
    load,
)
from tests.comfy.to_api import NOTES

SPARE = 6  # pixels between a node's foot and the next title
SCREEN = (1600, 1000)  # pixels; ComfyUI fits a graph into three quarters of it
MARGIN = 10  # pixels that it leaves around all
LEAST_SCALE = 8 / 14  # below, the classic renderer draws no text: font sizes of ComfyUI
CORE = {
    "CreateVideo",
    "EmptyImage",
    "ImageBlend",
    "ImageFromBatch",
    "ImageGrid",
    "ImageQuantize",
    "ImageStitch",
    "LoadImage",
    "JoinImageWithAlpha",
    "LossGraphNode",
    "MaskComposite",
    "Preview3D",
    "PreviewImage",
    "PrimitiveInt",
    "PrimitiveString",
    "SaveAnimatedWEBP",
    "SaveImage",
    "SaveVideo",
    "SolidMask",
}  # all are in ComfyUI 0.8
NEWER = {"people_by_styles": {"CreateList": "0.13"}}  # core nodes by the version they came with
DOWNLOADS = ("https://huggingface.co/", "https://civitai.com/")  # what the frontend accepts


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def workflow(name):
    return load(name)


def test_all_are_there_and_numbered_in_the_order_to_read_them():
    there = [path.stem for path in WORKFLOWS.glob("*.json")]
    assert sorted(there, key=lambda title: int(title.split()[0])) == list(TITLES.values())
    assert [int(title.split()[0]) for title in TITLES.values()] == list(range(1, 14))


def test_only_core_nodes_and_this_pack(workflow, name):
    foreign = {node["type"] for node in workflow["nodes"]} - CORE - NOTES
    newer = NEWER.get(name, {})
    assert all(x.startswith("FreeStyle") or x in newer for x in foreign), foreign
    (note,) = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    for version in newer.values():  # who has an older ComfyUI reads why it does not open
        assert f"ComfyUI {version}" in note["widgets_values"][0]


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
        assert apart(box(a, SPARE), box(b, SPARE)), (a["type"], b["type"])
    for node in workflow["nodes"]:
        holders = [covers(group, box(node)) for group in groups(workflow)]
        for group, inside in zip(groups(workflow), holders, strict=True):
            assert inside or apart(box(node), group), (node["type"], group)
        assert sum(holders) == (node["type"] != "MarkdownNote"), node["type"]
    for a, b in itertools.combinations(groups(workflow), 2):
        assert apart(a, b)


def test_all_of_it_fits_a_screen_with_its_text(workflow):
    boxes = [*map(box, workflow["nodes"]), *groups(workflow)]
    left, top = (min(b[i] for b in boxes) - MARGIN for i in (0, 1))
    right, bottom = (max(b[i] for b in boxes) + MARGIN for i in (2, 3))
    scale = 0.75 * min(SCREEN[0] / (right - left), SCREEN[1] / (bottom - top))
    assert scale >= LEAST_SCALE


def luminance(color):
    """Return the relative luminance of "#rrggbb", as WCAG defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_titles_of_groups_stand_out_from_their_ground(workflow):
    for group in workflow["groups"]:  # drawn in its color, on two coats of a quarter of it
        shade = [int(group["color"][i : i + 2], 16) for i in (1, 3, 5)]
        ground = [round(0.4375 * c + 0.5625 * 0x20) for c in shade]
        text, below = luminance(group["color"]), luminance("#{:02x}{:02x}{:02x}".format(*ground))
        assert (text + 0.05) / (below + 0.05) >= 3, group["title"]  # WCAG, large text


def test_reroutes_lie_on_the_links_that_name_them(workflow):
    reroutes = {r["id"]: r for r in workflow["extra"].get("reroutes", [])}
    last = {e["id"]: e["parentId"] for e in workflow["extra"].get("linkExtensions", [])}
    through = {number: set() for number in reroutes}
    assert set(last) <= {link[0] for link in workflow["links"]}
    for link, reroute in last.items():
        while reroute is not None:
            through[reroute].add(link)
            reroute = reroutes[reroute].get("parentId")
    assert {k: set(r["linkIds"]) for k, r in reroutes.items()} == through
    assert all(through.values())


def test_it_says_what_how_long_and_how_much_memory(workflow):
    assert workflow["version"] == 0.4 and uuid.UUID(workflow["id"])
    (note,) = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    text = note["widgets_values"][0]
    assert text.startswith("# ") and "Time and memory" in text and "minute" in text
    assert " GB" in text and len(text) > 400


def test_seeds_stay_fixed(workflow):
    after_a_run = [v for n in workflow["nodes"] for v in n["widgets_values"] if isinstance(v, str)]
    assert not {"randomize", "increment", "decrement"} & set(after_a_run)
    assert "fixed" in after_a_run


def test_the_form_offers_widgets_and_shows_results():
    workflow = load("portrait_form")
    nodes = {node["id"]: node for node in workflow["nodes"]}
    form = workflow["extra"]["linearData"]
    assert workflow["extra"]["linearMode"] is True
    shown = [(nodes[i]["type"], widget) for i, widget, _ in form["inputs"]]
    assert ("FreeStyleIp2pSDEditStylize", "style") == shown[0]
    assert ("FreeStyleEG3DSampler", "seed") in shown
    assert {nodes[i]["type"] for i in form["outputs"]} == {"FreeStylePortraitViewer", "SaveVideo"}
    for i, widget, config in form["inputs"]:  # an artist's words, and no more than one line of them
        (slot,) = (s for s in nodes[i]["inputs"] if s.get("widget", {}).get("name") == widget)
        assert slot["label"] in ("Style", "Head", "Strength", "Quality", "Video length")
        assert 0 < len(config["description"]) <= 32
    steps = [n["properties"].get("Execution Message", "") for n in workflow["nodes"]]
    assert sorted(s[:11] for s in steps if s) == [f"Step {k} of 4" for k in (1, 2, 3, 4, 4)]


def test_full_size_models_say_where_they_come_from():
    entries = [
        (entry, node)
        for node in load(FULL_SIZE)["nodes"]
        for entry in node["properties"].get("models", [])
    ]
    assert entries
    for entry, node in entries:
        assert entry["name"] == node["widgets_values"][0]
        assert entry["url"].startswith(DOWNLOADS) and entry["url"].endswith(entry["name"])
        assert entry["directory"] in ("checkpoints", "diffusers", "eg3d", "i2t")


def test_every_workflow_has_a_picture(name):
    with Image.open(file_of(name, "jpg")) as picture:
        assert picture.format == "JPEG" and min(picture.size) >= 256
        assert np.asarray(picture).std() > 10
    assert file_of(name, "jpg").stat().st_size < 200_000
