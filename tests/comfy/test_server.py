"""The pack in the real ComfyUI: it registers, a run can be stopped, values survive.

Skipped where there is no ComfyUI. The tests use tiny untrained models that stand in the user's
model folders. What the bundled workflows make is in test_workflows.py.
"""

import io
import re
import urllib.request

import numpy as np
import pytest
import torch
from PIL import Image

from freestyle_core.files.media.mesh import load_mesh
from freestyle_core.files.media.splat import load_splats
from tests.comfy.flows import TIME_LIMIT, node_of, reduced

DISPLAY_NAMES = {
    "EG3D Sampler",
    "MultiView Camera Grid",
    "Ip2p SDEdit Stylize",
    "I2T Finetune",
    "Triplane Render",
    "Style Mix",
    "Load EG3D",
    "Load Ip2p Editor",
    "Load I2T",
    "Turntable Cameras",
    "Save Portrait",
    "Load Portrait",
    "Portrait Mesh",
    "Portrait Viewer",
    "Finetune Cache",
    "I2T Pretrain",
    "Style Sweep",
    "Ip2p Editor from Model",
    "Evaluate Portrait",
    "Edit Views Again",
    "Style Mix of Many",
    "Apply Style",
    "Save Style",
    "Align Photo",
    "Photo to Portrait",
    "Mesh Confidence",
    "Portrait to SPLAT",
}
EMBEDDED = "clay (embedded)"


@pytest.fixture(scope="session")
def object_info(server):
    return server.get("/object_info")


def test_every_node_registers_without_a_warning(server, object_info):
    ours = {i: n for i, n in object_info.items() if n["category"] == "FreeStyle 3D"}
    assert {node["display_name"] for node in ours.values()} == DISPLAY_NAMES
    assert all(re.fullmatch(r"FreeStyle[A-Za-z0-9_]+", name) for name in ours)
    log, started, _ = server.log().partition("Starting server")  # later lines are of prompts
    assert started
    assert "IMPORT FAILED" not in log and "Error while calling" not in log
    lines = log.replace(str(server.base), "").splitlines()
    about_us = [line for line in lines if re.search("freestyle", line, re.IGNORECASE)]
    times = [re.fullmatch(r"(\S*INFO\S*)? *[\d.]+ seconds: \S+", line) for line in about_us]
    assert len(times) == 2 and all(times), about_us  # ours and the probe's: no line but that


def test_every_input_and_output_is_explained(object_info):
    for name, node in object_info.items():
        if node["category"] != "FreeStyle 3D":
            continue
        assert node["description"], name
        specs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        for key, spec in specs.items():
            assert len(spec[1].get("tooltip", "")) > 15, (name, key)
        assert all(len(tip or "") > 10 for tip in node["output_tooltips"]), name


def test_every_node_has_a_help_page_with_a_picture(server, object_info):
    folder = f"http://127.0.0.1:{server.port}/extensions/FreeStyle3D/docs/"

    def served(name):
        with urllib.request.urlopen(folder + name, timeout=10) as reply:
            return reply.read()

    for name, node in object_info.items():
        if node["category"] == "FreeStyle 3D":
            page = served(f"{name}.md").decode()
            assert page.startswith(f"# {node['display_name']}\n")
            pictures = re.findall(r"!\[(.+)\]\((\S+)\)", page)
            assert pictures, name
            for _, file in pictures:
                width, height = Image.open(io.BytesIO(served(file))).size
                assert min(width, height) > 100, (name, file)


def test_loaders_list_the_embedded_model_first_then_the_users_files(object_info):
    def choices(node_id):
        return object_info[node_id]["input"]["required"]["model"][1]["options"]

    assert choices("FreeStyleLoadEG3D") == [EMBEDDED, "official.pkl", "tiny.safetensors"]
    first, *made = choices("FreeStyleLoadI2T")  # tests before this one may have made some
    assert first == EMBEDDED and "tiny.safetensors" in made
    editors = [EMBEDDED, "tiny-editor", "download timbrooks/instruct-pix2pix"]
    assert choices("FreeStyleLoadIp2pEditor") == editors


def test_progress_shows_a_bar_a_preview_and_the_time_left(server, object_info):
    prompt = reduced("text_to_turntable", object_info, "tiny")
    prompt[node_of(prompt, "FreeStyleIp2pSDEditStylize")]["inputs"]["seed"] = 11
    run = server.run(prompt, TIME_LIMIT)
    training = node_of(prompt, "FreeStyleI2TFinetune")
    steps = [e.data["value"] for e in run.of("progress") if e.data["node"] == training]
    assert steps[0] == 0 and steps[-1] == 6 and steps == sorted(steps)
    texts = [event.data.decode(errors="replace") for event in run.of("text")]
    assert any("training, step 6/6" in text for text in texts)
    assert run.of("preview")


@pytest.mark.parametrize("stopped_in", ["FreeStyleIp2pSDEditStylize", "FreeStyleI2TFinetune"])
def test_stopping_takes_effect_within_one_step(server, object_info, stopped_in):
    prompt = reduced("text_to_turntable", object_info, "tiny")
    node = node_of(prompt, stopped_in)
    prompt[node]["inputs"].update(
        seed=5,
        **{
            "FreeStyleIp2pSDEditStylize": {"steps": 100, "batch_size": 1},
            "FreeStyleI2TFinetune": {"iterations": 20000},
        }[stopped_in],
    )
    stop = {}

    def interrupt(server, run, event):
        here = event.kind == "progress" and event.data["node"] == node
        if here and event.data["value"] >= 2 and not stop:
            stop.update(at=event.data["value"], after=len(run.events))
            server.post("/interrupt", {"prompt_id": run.prompt_id})

    run = server.run(prompt, TIME_LIMIT, interrupt)
    assert run.end.kind == "execution_interrupted", run.end.data
    late = [e.data["value"] for e in run.events[stop["after"] :] if e.kind == "progress"]
    assert max(late, default=stop["at"]) <= stop["at"] + 1


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


SAMPLED = {
    "eg3d": node("FreeStyleLoadEG3D", model="tiny.safetensors"),
    "portrait": node("FreeStyleEG3DSampler", eg3d=["eg3d", 0], seed=3, truncation=0.7),
}


def test_a_model_from_the_models_folder_and_a_saved_portrait_give_the_same_picture(server):
    def graph(portrait):
        return {
            **portrait,
            "cameras": node(
                "FreeStyleMultiViewCameraGrid",
                portrait=["portrait", 0],
                views_per_side=2,
                yaw_range_deg=20.0,
                pitch_range_deg=10.0,
            ),
            "render": node(
                "FreeStyleTriplaneRender", portrait=["portrait", 0], cameras=["cameras", 0]
            ),
            "show": node("SaveImage", images=["render", 0], filename_prefix="shown"),
        }

    made = graph(
        {
            **SAMPLED,
            "save": node(
                "FreeStyleSavePortrait", portrait=["portrait", 0], filename_prefix="a/head"
            ),
        }
    )
    loaded = graph({"portrait": node("FreeStyleLoadPortrait", portrait="a/head_00001_ [output]")})
    pictures = []
    for prompt in (made, loaded):
        run = server.run(prompt, 60)
        assert run.end.kind == "execution_success", run.end.data
        shown = server.outputs(run)["show"]["images"]
        pictures.append([np.asarray(Image.open(server.file(item))) for item in shown])
    assert len(pictures[0]) == 5 and pictures[0][0].std() > 1
    assert np.array_equal(pictures[0], pictures[1])


def test_the_mesh_reaches_other_nodes_with_its_colours(server):
    prompt = {
        **SAMPLED,
        "mesh": node(
            "FreeStylePortraitMesh",
            portrait=["portrait", 0],
            resolution=32,
            filename_prefix="mesh/own",
            density_level=0.3,
        ),
        "core": node("SaveGLB", mesh=["mesh", 0], filename_prefix="mesh/core"),
        "file": node("Preview3D", model_file=["mesh", 1]),
    }
    run = server.run(prompt, 60)
    assert run.end.kind == "execution_success", run.end.data
    own = load_mesh(server.base / "output" / "mesh" / "own_00001_.glb")
    core = load_mesh(server.file(server.outputs(run)["core"]["3d"][0]))
    assert server.outputs(run)["file"]["result"][0] == "mesh/own_00001_.glb"
    torch.testing.assert_close(core.vertices, own.vertices)
    assert torch.equal(core.faces, own.faces)
    major, minor = map(int, server.get("/system_stats")["system"]["comfyui_version"].split(".")[:2])
    if (major, minor) >= (0, 22):  # before, ComfyUI's meshes had no colours
        torch.testing.assert_close(core.colors, own.colors, atol=0.005, rtol=0)


def test_splats_reach_other_nodes_upright(server, object_info):
    prompt = {
        **SAMPLED,
        "splat": node(
            "FreeStylePortraitToSplat",
            portrait=["portrait", 0],
            resolution=32,
            steps=2,
            filename_prefix="splat/own",
            views=4,
            density_level=0.3,
            axes="3dgs",
        ),
    }
    if "SplatToFile3D" in object_info:
        prompt["core"] = node("SplatToFile3D", splat=["splat", 0], format="ply")
        prompt["file"] = node("SaveGLB", mesh=["core", 0], filename_prefix="splat/core")
    run = server.run(prompt, 60)
    assert run.end.kind == "execution_success", run.end.data
    own = load_splats(server.base / "output" / "splat" / "own_00001_.ply")
    assert len(own) > 0
    if "core" in prompt:
        core = load_splats(server.base / "output" / "splat" / "core_00001_.ply")
        for name in ("positions", "scales", "rotations", "opacities", "colors"):
            torch.testing.assert_close(
                getattr(core, name), getattr(own, name), atol=2e-5, rtol=1e-4
            )


def test_bad_input_is_refused_before_the_run(server, object_info):
    def refused(says, kept, **nodes):
        nodes["out"] = {"class_type": kept[0], "inputs": {kept[1]: ["bad", 0], **kept[2]}}
        with pytest.raises(RuntimeError, match=says):
            server.post("/prompt", {"prompt": nodes})

    missing = {"portrait": "../../secret [output]"}
    refused(
        "no portrait file",
        ("FreeStyleSavePortrait", "portrait", {"filename_prefix": "x"}),
        bad={"class_type": "FreeStyleLoadPortrait", "inputs": missing},
    )
    specs = object_info["FreeStyleIp2pSDEditStylize"]["input"]["required"]
    values = {k: v[1]["default"] for k, v in specs.items() if "default" in v[1]}
    wordless = {**values, "style": "  ", "editor": ["editor", 0], "images": ["images", 0]}
    size = {"width": 64, "height": 64, "batch_size": 1, "color": 0}
    refused(
        "style is empty",
        ("PreviewImage", "images", {}),
        bad={"class_type": "FreeStyleIp2pSDEditStylize", "inputs": wordless},
        editor={"class_type": "FreeStyleLoadIp2pEditor", "inputs": {"model": EMBEDDED}},
        images={"class_type": "EmptyImage", "inputs": size},
    )
