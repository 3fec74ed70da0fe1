"""The bundled workflows, made small enough to run in a test."""

import itertools
import json
from pathlib import Path

import av
import numpy as np
import pytest

from freestyle_core.files.networks import embedded
from tests.comfy.to_api import to_api

WORKFLOWS = Path(__file__).parents[2] / "workflows"
TITLES = {
    "text_to_turntable": "1 Text to turntable",
    "portrait_form": "2 Portrait form.app",
    "prompt_seed_sheet": "3 Prompt and seed sheet",
    "two_styles_mixed": "4 Two styles mixed",
    "joint_finetune_mix": "5 Two styles in one network",
    "any_editor": "6 Any editor",
    "portrait_to_mesh": "7 Portrait to mesh",
    "full_size_models": "8 Full-size models (downloads)",
    "half_and_half": "9 Half and half",
    "photo_to_portrait": "10 Photo to portrait",
    "hand_over": "11 Hand over to 3D",
    "style_packs": "12 Styles in seconds",
    "people_by_styles": "13 People by styles",
}  # what ComfyUI's template browser shows: it has no title but the name of the file
NAMES = list(TITLES)
FULL_SIZE = "full_size_models"  # needs what must be downloaded
FRAMES = 6
SMALL = {
    "FreeStyleMultiViewCameraGrid": {"views_per_side": 2},
    "FreeStyleIp2pSDEditStylize": {"steps": 4},
    "FreeStylePhotoToPortrait": {"steps": 4},
    "FreeStyleI2TFinetune": {"iterations": 6},
    "FreeStyleTurntableCameras": {"frames": FRAMES},
    "FreeStylePortraitMesh": {"resolution": 48},
    "FreeStylePortraitViewer": {"columns": 3, "rows": 1},
}
TINY = {
    "FreeStyleLoadEG3D": {"model": "tiny.safetensors"},
    "FreeStyleLoadI2T": {"model": "tiny.safetensors"},
    "FreeStyleLoadIp2pEditor": {"model": "tiny-editor"},
    "FreeStyleI2TFinetune": {"perceptual": "off"},
    "FreeStylePhotoToPortrait": {"perceptual": "off"},
    "FreeStyleApplyStyle": {"pack": "tiny_style [output]"},
    "FreeStylePortraitMesh": {"density_level": 0.3},  # what random weights give
}
TITLE_HEIGHT = 30  # pixels above a node's position
GROWN = {
    "FreeStyleLoadEG3D": 150,
    "FreeStyleSavePortrait": 158,
    "FreeStylePortraitMesh": 334,
    "FreeStyleStyleSweep": 506,
    "FreeStyleApplyStyle": 158,
    "FreeStyleTriplaneRender": 484,
    "FreeStyleIp2pSDEditStylize": 618,
    "FreeStyleI2TFinetune": 764,
    "LossGraphNode": 326,
    "SaveImage": 302,
    "SaveVideo": 362,
}  # pixels below the title once it has run, in the taller renderer: a line of text, a picture
VIDEO_ROWS = 98  # pixels of Save Video above its video, which the classic renderer keeps as wide
TIME_LIMIT = 1200  # seconds for one reduced run; about 60 on two free cores


def load(name):
    """Return a bundled workflow as it is saved."""
    return json.loads(file_of(name, "json").read_text(encoding="utf-8"))


def file_of(name, kind):
    """Return the path of a workflow ("json") or of its picture ("jpg")."""
    return WORKFLOWS / f"{TITLES[name]}.{kind}"


def groups(workflow):
    """Return the boxes (left, top, right, bottom) of all groups."""
    sides = [group["bounding"] for group in workflow["groups"]]
    return [(x, y, x + width, y + height) for x, y, width, height in sides]


def after_a_run(node):
    """Return how many pixels below its title a saved node needs once it has run."""
    video = node["size"][0] + VIDEO_ROWS if node["type"] == "SaveVideo" else 0  # square, as heads
    return max(GROWN.get(node["type"], 0), video)


def box(node, spare=0.0):
    """Return what a saved node covers (left, top, right, bottom), with its title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE_HEIGHT, x + width, y + max(height, after_a_run(node)) + spare


def covers(a, b):
    """Return whether box a holds all of box b."""
    return a[0] <= b[0] and a[1] <= b[1] and b[2] <= a[2] and b[3] <= a[3]


def apart(a, b):
    """Return whether two boxes (left, top, right, bottom) share nothing but an edge."""
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def overlaps(boxes):
    """Return the names of all pairs of boxes, name -> box, that are not apart."""
    pairs = itertools.combinations(boxes.items(), 2)
    return [(a, b) for (a, one), (b, two) in pairs if not apart(one, two)]


def reduced(name, object_info, models):
    """Return a bundled workflow as a prompt with few steps, on "tiny" or "embedded" models."""
    parts = ("eg3d", "i2t", "perceptual", "editor")
    if models == "embedded" and not all(embedded(part).exists() for part in parts):
        pytest.skip("this checkout has no embedded models")
    prompt = to_api(load(name), object_info)
    for node in prompt.values():
        node["inputs"].update(SMALL.get(node["class_type"], {}))
        if models == "tiny":
            node["inputs"].update(TINY.get(node["class_type"], {}))
    for node in [prompt[i] for i in nodes_of(prompt, "FreeStylePhotoToPortrait")]:
        if models == "tiny":  # which has an I2T of its own
            eg3d = [node_of(prompt, "FreeStyleLoadEG3D"), 0]
            own = {"model": "tiny.safetensors", "eg3d": eg3d}
            prompt["i2t"] = {"class_type": "FreeStyleLoadI2T", "inputs": own}
            node["inputs"]["i2t"] = ["i2t", 0]
    return prompt


def nodes_of(prompt, class_type):
    """Return the ids of all nodes of a type."""
    return [i for i, node in prompt.items() if node["class_type"] == class_type]


def node_of(prompt, class_type):
    """Return the id of the first node of a type."""
    return nodes_of(prompt, class_type)[0]


def frames_of(path):
    """Return the pictures of a video, [frames, height, width, 3], bytes."""
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
