"""The bundled workflows in a real ComfyUI: right for the nodes, and run to their end.

Skipped where there is none. Settings are reduced: this shows that everything fits together, not how
good the pictures are.
"""

import itertools

import numpy as np
import pytest
from PIL import Image

from freestyle_core.files.media.mesh import load_mesh
from freestyle_core.geometry.isosurface import is_closed
from tests.comfy.flows import (
    FRAMES,
    FULL_SIZE,
    NAMES,
    TIME_LIMIT,
    TITLE_HEIGHT,
    TITLES,
    apart,
    box,
    covers,
    frames_of,
    groups,
    load,
    node_of,
    nodes_of,
    reduced,
)
from tests.comfy.to_api import MUTED, NOTES, to_api, widget_values

GRID_CELL = 256  # pixels, of Make Image Grid; no tiny model makes pictures so large
MATCHED = "COMFY_MATCHTYPE_V3"  # an output of whatever type its inputs have


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def workflow(name):
    return load(name)


@pytest.fixture(scope="module")
def object_info(server):
    return server.get("/object_info")


def inputs_of(info):
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def options_of(spec):
    return spec[0] if isinstance(spec[0], list) else spec[1].get("options", [])


def test_all_are_offered_as_templates(server):
    assert set(server.get("/workflow_templates")["FreeStyle3D"]) == set(TITLES.values())


def test_every_value_is_one_that_the_node_offers(object_info, name, workflow):
    for saved in workflow["nodes"]:
        if saved["type"] in NOTES or saved["mode"] == MUTED:
            continue
        info = object_info[saved["type"]]
        specs = inputs_of(info)
        values = widget_values(info, saved["widgets_values"])
        if saved["type"].startswith("FreeStyle"):
            assert list(values) == [k for k, v in specs.items() if "default" in v[1]], saved["type"]
        for key, value in values.items():
            if "." in key:  # unfolded by another widget's choice
                continue
            kind, options = specs[key][0], specs[key][1] if len(specs[key]) > 1 else {}
            if kind in ("INT", "FLOAT"):
                assert options["min"] <= value <= options["max"], (saved["type"], key)
            if kind == "COMBO" or isinstance(kind, list):
                missing = name == FULL_SIZE and key == "model"
                missing = missing or (saved["mode"] == MUTED and key == "ckpt_name")
                assert missing or value in options_of(specs[key]), (saved["type"], key)


def test_every_needed_input_is_given_and_of_the_right_kind(object_info, workflow):
    prompt = to_api(workflow, object_info)
    for node in prompt.values():
        info = object_info[node["class_type"]]
        specs = inputs_of(info)
        needed = [
            k
            for k, v in info["input"].get("required", {}).items()
            if "default" not in (v[1] if len(v) > 1 else {})
        ]
        given = {key.split(".")[0] for key in node["inputs"]}  # "inputs.input0" is one of "inputs"
        assert set(needed) <= given, node["class_type"]
        for key, value in node["inputs"].items():
            if isinstance(value, list) and "." not in key:  # those are of any one type
                source, slot = value
                kind = object_info[prompt[source]["class_type"]]["output"][slot]
                if kind != MATCHED:  # of the type of what comes in
                    assert kind in specs[key][0].split(","), (node["class_type"], key)


def test_nothing_overlaps_at_the_heights_of_nodes_2_and_after_a_run(object_info, workflow):
    def tall(node):
        """Return the box with a generous height: rows, shown widgets, badge, button, picture."""
        if node["type"] in NOTES:
            return box(node)
        specs = inputs_of(object_info[node["type"]]).values()
        options = [spec[1] if len(spec) > 1 else {} for spec in specs]
        widgets = sum("default" in o and not o.get("advanced") for o in options)
        seeds = sum(bool(o.get("control_after_generate")) for o in options)
        sockets = max(sum("widget" not in i for i in node["inputs"]), len(node["outputs"]))
        needed = 42 + 22 * sockets + 28 * (widgets + seeds)
        needed += 28 * any(o.get("advanced") for o in options)
        left, top, right, bottom = box(node)
        return left, top, right, max(bottom, top + TITLE_HEIGHT + needed)

    for a, b in itertools.combinations(workflow["nodes"], 2):
        assert apart(tall(a), tall(b)), (a["type"], b["type"])
    for node in workflow["nodes"]:
        for group in groups(workflow):
            assert apart(tall(node), group) or covers(group, tall(node)), (node["type"], group)


def run_and_check(server, object_info, name, models, size):
    """Run a reduced workflow and check every result that it leaves, by kind."""
    prompt = reduced(name, object_info, models)
    run = server.run(prompt, TIME_LIMIT)
    assert run.end.kind == "execution_success", run.end.data
    outputs = server.outputs(run)
    videos, pictures = nodes_of(prompt, "SaveVideo"), nodes_of(prompt, "SaveImage")
    meshes = nodes_of(prompt, "Preview3D")
    assert videos or pictures or meshes or nodes_of(prompt, "SaveAnimatedWEBP")
    for node in videos:
        frames = frames_of(server.file(outputs[node]["images"][0]))
        assert frames.shape == (FRAMES, size, size, 3)
        if models == "embedded":
            changes = np.abs(np.diff(frames.astype(float), axis=0)).mean(axis=(1, 2, 3))
            assert (changes > 0.5).all()  # of 255: the head turns
    grids = [prompt[node]["inputs"]["cell_width"] for node in nodes_of(prompt, "ImageGrid")]
    for node in pictures:
        picture = np.asarray(Image.open(server.file(outputs[node]["images"][0])).convert("RGB"))
        check_sheet(picture, grids[0] if grids else size, models)
    for node in nodes_of(prompt, "SaveAnimatedWEBP"):
        with Image.open(server.file(outputs[node]["images"][0])) as picture:
            assert picture.n_frames == FRAMES and picture.mode == "RGBA"
            opacity = np.asarray(picture)[..., 3]
        if models == "embedded":  # a head in the middle, nothing in the corner above it
            assert opacity[size // 2, size // 2] > 240 and opacity[0, 0] < 15
    for node in meshes:
        path = server.base / "output" / outputs[node]["result"][0]
        check_mesh(load_mesh(path))
    for node in nodes_of(prompt, "FreeStylePortraitViewer"):
        assert outputs[node]["freestyle_orbit"]
    return prompt, outputs


def check_sheet(picture, size, models):
    """Check a sheet of square pictures: whole ones, no two of them the same."""
    height, width, _ = picture.shape
    assert height % size == 0 and width % size == 0 and width > size
    cells = [
        picture[y : y + size, x : x + size].astype(float)
        for y in range(0, height, size)
        for x in range(0, width, size)
    ]
    for (i, a), (j, b) in itertools.combinations(enumerate(cells), 2):
        # tiny models hardly tell one style from another, and the rows of a grid are styles
        if models == "embedded" or size < GRID_CELL or (i - j) % (width // size):
            assert np.abs(a - b).mean() > (1.0 if models == "embedded" else 0.0)


def check_mesh(mesh):
    assert len(mesh.faces) > 100 and is_closed(mesh.faces)
    assert 0.0 <= float(mesh.colors.min()) and float(mesh.colors.std()) > 0.001
    assert 0.05 < float((mesh.vertices.amax(0) - mesh.vertices.amin(0)).max()) < 1.0  # metres


def test_it_runs_on_small_models(server, object_info, name):
    run_and_check(server, object_info, name, "tiny", 16)


@pytest.mark.parametrize("name", ["text_to_turntable", "prompt_seed_sheet"])
def test_it_runs_on_the_embedded_models(server, object_info, name):
    run_and_check(server, object_info, name, "embedded", 128)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(set(NAMES) - {"text_to_turntable", "prompt_seed_sheet", FULL_SIZE})
)
def test_the_others_run_on_the_embedded_models(server, object_info, name):
    run_and_check(server, object_info, name, "embedded", 128)


def test_camera_info_of_core_nodes_gives_the_same_picture_as_our_own_cameras(server, object_info):
    if "CreateCameraInfo" not in object_info:
        pytest.skip("this ComfyUI has no Create Camera Info")
    prompt = {
        "eg3d": {"class_type": "FreeStyleLoadEG3D", "inputs": {"model": "tiny.safetensors"}},
        "head": {
            "class_type": "FreeStyleEG3DSampler",
            "inputs": {"eg3d": ["eg3d", 0], "seed": 3, "truncation": 0.7},
        },
        # the third picture of a grid of two per side is at yaw +20, pitch +10
        "grid": {
            "class_type": "FreeStyleMultiViewCameraGrid",
            "inputs": {
                "portrait": ["head", 0],
                "views_per_side": 2,
                "yaw_range_deg": 20.0,
                "pitch_range_deg": 10.0,
            },
        },
        "info": {
            "class_type": "CreateCameraInfo",
            "inputs": {
                "mode": "orbit",
                "mode.yaw": 20.0,
                "mode.pitch": 10.0,
                "mode.distance": 4.0,
                "target_x": 0.0,
                "target_y": 0.0,
                "target_z": 0.0,
                "roll": 0.0,
                "fov": 35.0,
                "zoom": 1.0,
                "camera_type": "perspective",
            },
        },
    }
    for key, inputs in (("ours", {"cameras": ["grid", 0]}), ("core", {"camera_info": ["info", 0]})):
        prompt[key] = {
            "class_type": "FreeStyleTriplaneRender",
            "inputs": {"portrait": ["head", 0], **inputs},
        }
        prompt[f"{key}_shown"] = {
            "class_type": "SaveImage",
            "inputs": {"images": [key, 0], "filename_prefix": key},
        }
    run = server.run(prompt, TIME_LIMIT)
    assert run.end.kind == "execution_success", run.end.data
    outputs = server.outputs(run)
    ours = [np.asarray(Image.open(server.file(i))) for i in outputs["ours_shown"]["images"]]
    (core,) = (np.asarray(Image.open(server.file(i))) for i in outputs["core_shown"]["images"])
    assert np.abs(core.astype(int) - ours[2].astype(int)).max() <= 1
    assert np.abs(core.astype(int) - ours[1].astype(int)).max() > 1


def test_maps_have_the_size_of_the_pictures_and_background_cuts_the_head_out(server, object_info):
    prompt = reduced("prompt_seed_sheet", object_info, "tiny")
    render = node_of(prompt, "FreeStyleTriplaneRender")
    upstream = {
        i: n
        for i, n in prompt.items()
        if n["class_type"] in ("FreeStyleLoadEG3D", "FreeStyleEG3DSampler")
    }
    upstream[render] = prompt[render]
    for slot, key in ((0, "images"), (2, "depth"), (3, "normals")):
        upstream[key] = {
            "class_type": "SaveImage",
            "inputs": {"images": [render, slot], "filename_prefix": key},
        }
    for slot, key in ((1, "alpha"), (4, "background")):
        upstream[f"{key}_mask"] = {"class_type": "MaskToImage", "inputs": {"mask": [render, slot]}}
        upstream[key] = {
            "class_type": "SaveImage",
            "inputs": {"images": [f"{key}_mask", 0], "filename_prefix": key},
        }
    upstream["joined"] = {
        "class_type": "JoinImageWithAlpha",
        "inputs": {"image": [render, 0], "alpha": [render, 4]},
    }
    upstream["cut out"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["joined", 0], "filename_prefix": "cut_out"},
    }
    run = server.run(upstream, TIME_LIMIT)
    assert run.end.kind == "execution_success", run.end.data
    outputs = server.outputs(run)
    maps = {}
    for key in ("images", "depth", "normals", "alpha", "background"):
        (shown,) = outputs[key]["images"]
        maps[key] = np.asarray(Image.open(server.file(shown)).convert("RGB"))
        assert maps[key].shape == (16, 16, 3)
    assert np.ptp(maps["depth"], axis=2).max() == 0  # grey
    assert not np.array_equal(maps["normals"], maps["depth"])
    alpha, background = (maps[key][..., 0].astype(int) for key in ("alpha", "background"))
    assert 5 < alpha.mean() < 120 and np.ptp(alpha) > 5  # of 255: it is not its own opposite
    assert np.abs(alpha + background - 255).max() <= 1  # the one is the opposite of the other
    (shown,) = outputs["cut out"]["images"]
    opacity = np.asarray(Image.open(server.file(shown)).convert("RGBA"))[..., 3].astype(int)
    assert np.abs(opacity - alpha).max() <= 1  # the head is what stays
