"""What other nodes send is held to the same rules as what is typed: every node, every input."""

import pytest

from tests.comfy.graphs import FULL, node

OURS = "FreeStyle 3D"
REFUSED = "FreeStyle3D"  # the class under which our sentences reach ComfyUI
TIME_LIMIT = 600
FREE_TEXT = {
    "FreeStyleAlignPhoto": {"points"},  # empty: none are given
    "FreeStyleEvaluatePortrait": (
        "style",
    ),  # inputs that take any text, so that paths in them are words
    "FreeStyleIp2pSDEditStylize": {"style", "decorative", "negative"},
    "FreeStyleReeditViews": {"style", "decorative", "negative"},
    "FreeStyleI2TFinetune": {"style", "style_2"},
    "FreeStyleSaveStyle": {"style", "licence"},
}
WORDS = {"climb", "climb with backslashes", "absolute", "drive", "dots", "empty", "blank"}

ONE_VIEW = {
    **{name: FULL[name] for name in ("eg3d", "head", "cameras", "views", "editor", "i2t")},
    "front": node("FreeStyleTriplaneRender", portrait=["head", 0]),
}
HEAD = {"portrait": ["head", 0]}
# node -> what it gets besides the one hostile value; missing ones take their defaults. Where the
# work takes long, something is wrong already that is looked at last.
GIVEN = {
    "FreeStyleLoadEG3D": {},
    "FreeStyleLoadIp2pEditor": {},
    "FreeStyleIp2pEditorFromModel": {"model": "x", "clip": "x", "vae": "x"},
    "FreeStyleLoadI2T": {"eg3d": ["eg3d", 0], "model": "tiny.safetensors"},
    "FreeStyleEG3DSampler": {"eg3d": ["eg3d", 0]},
    "FreeStyleAlignPhoto": {"eg3d": ["eg3d", 0], "face": 9},
    "FreeStylePhotoToPortrait": {
        "eg3d": ["eg3d", 0],
        "image": ["front", 0],
        "way": "i2t",
        "perceptual": "off",
    },
    "FreeStyleMultiViewCameraGrid": HEAD,
    "FreeStyleTurntableCameras": HEAD,
    "FreeStyleTriplaneRender": HEAD,
    "FreeStyleIp2pSDEditStylize": {
        "editor": ["editor", 0],
        "images": ["front", 0],
        "style": "",
        "steps": 1,
    },
    "FreeStyleReeditViews": {
        "editor": ["editor", 0],
        "portrait": ["head", 0],
        "cameras": ["cameras", 0],
        "images": ["views", 0],
        "style": "",
        "steps": 1,
    },
    "FreeStyleI2TPretrain": {"eg3d": ["eg3d", 0], "name": "."},
    "FreeStyleI2TFinetune": {
        "i2t": ["i2t", 0],
        "portrait": ["head", 0],
        "cameras": ["cameras", 0],
        "images": ["views", 0],
        "style": "",
        "iterations": 1,
        "perceptual": "off",
    },
    "FreeStyleStyleMix": {"portrait_a": ["head", 0], "portrait_b": ["head", 0]},
    "FreeStyleStyleMixMany": {"portrait_a": ["head", 0], "portrait_b": ["head", 0]},
    "FreeStyleStyleSweep": {
        "portrait_a": ["head", 0],
        "portrait_b": ["head", 0],
        "cameras": ["cameras", 0],
    },
    "FreeStyleApplyStyle": {**HEAD, "pack": "tiny_style [output]", "strength": 0.5},
    "FreeStyleSaveStyle": {
        "eg3d": ["eg3d", 0],
        "editor": ["editor", 0],
        "style": "",
        "heads": 1,
        "views": 2,
        "iterations": 1,
        "perceptual": "off",
    },
    "FreeStyleSavePortrait": HEAD,
    "FreeStyleLoadPortrait": {"portrait": "none [output]"},
    "FreeStylePortraitMesh": {**HEAD, "resolution": 32, "density_level": 0.3},
    "FreeStyleMeshConfidence": {
        **HEAD,
        "cameras": ["cameras", 0],
        "resolution": 32,
        "density_level": 0.3,
    },
    "FreeStylePortraitToSplat": {
        **HEAD,
        "resolution": 32,
        "steps": 2,
        "views": 4,
        "density_level": 0.3,
    },
    "FreeStyleFinetuneCache": {},
    "FreeStylePortraitViewer": {**HEAD, "columns": 3, "rows": 1},
    "FreeStyleEvaluatePortrait": {**HEAD, "style": "", "clip": "off"},
}


@pytest.fixture(scope="module")
def object_info(server):
    return server.get("/object_info")


def everything_under(folder):
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_every_node_is_tried(object_info):
    ours = {name for name, info in object_info.items() if info["category"] == OURS}
    assert ours == set(GIVEN)


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_no_value_from_a_link_ends_in_a_traceback_or_outside_its_folder(server, object_info, name):
    spec = object_info[name]["input"]
    specs = {**spec.get("required", {}), **spec.get("optional", {})}
    defaults = {key: one[1]["default"] for key, one in specs.items() if "default" in one[1]}
    values = {k: v for k, v in {**defaults, **GIVEN[name]}.items() if v is not None}
    prompt = {**ONE_VIEW, "probe": node("ProbeLinks", target=name, **values)}
    before = everything_under(server.base)
    run = server.run(prompt, TIME_LIMIT)
    assert run.end.kind == "execution_success", run.end.data
    calls = server.outputs(run)["probe"]["calls"]
    assert {key for key, *_ in calls} == set(specs)
    for key, kind, outcome, text in calls:
        optional = key in spec.get("optional", {})
        where = (name, key, kind, outcome, text[:300])
        assert outcome in ("done", REFUSED), where
        assert len(text) < 1000, where
        words = key in FREE_TEXT.get(name, ()) and kind in WORDS
        left_open = kind == "nothing" and optional
        empty_camera = key == "camera_info" and kind == "dict"
        assert outcome == REFUSED or words or left_open or empty_camera, where
        if specs[key][0] in ("INT", "FLOAT", "BOOLEAN", "STRING") and not (words or left_open):
            said = (key, "prefix", "file name", "style is empty")
            assert any(words in text for words in said), where
    new = {path.relative_to(server.base) for path in everything_under(server.base) - before}
    assert not any("evil" in str(path) for path in new), new
    assert not list(server.base.parent.glob("*evil*"))


def linked(text):
    return node("ProbeText", text=text)


def test_a_linked_name_writes_nothing_outside_the_i2t_folder(server):
    before = everything_under(server.base.parent)
    for text in ("../../evil", str(server.base / "evil"), "C:\\evil"):
        prompt = {
            "eg3d": FULL["eg3d"],
            "name": linked(text),
            "train": node(
                "FreeStyleI2TPretrain",
                eg3d=["eg3d", 0],
                name=["name", 0],
                steps=1,
                batch_size=1,
                precision="float32",
                seed=0,
            ),
        }
        run = server.run(prompt, TIME_LIMIT)
        assert run.end.kind == "execution_error"
        assert "cannot be a file name" in run.end.data["exception_message"]
    new = everything_under(server.base.parent) - before
    assert not any("evil" in path.name for path in new), new


def test_a_linked_portrait_is_loaded_and_loaded_again_when_the_file_has_changed(server):
    def saved(seed):
        return {
            "eg3d": FULL["eg3d"],
            "head": node("FreeStyleEG3DSampler", eg3d=["eg3d", 0], seed=seed, truncation=0.7),
            "save": node(
                "FreeStyleSavePortrait", portrait=["head", 0], filename_prefix=f"linked/{seed}"
            ),
        }

    folder = server.base / "output" / "linked"
    loaded = {
        "name": linked("linked/1_00001_ [output]"),
        "load": node("FreeStyleLoadPortrait", portrait=["name", 0]),
        "hash": node("ProbeHash", value=["load", 0]),
    }

    def shown(prompt):
        run = server.run(prompt, TIME_LIMIT)
        assert run.end.kind == "execution_success", run.end.data
        return run, server.outputs(run).get("hash")

    shown(saved(1))
    shown(saved(2))
    _, first = shown(loaded)
    again, _ = shown(loaded)
    assert "load" not in again.ran()
    (folder / "2_00001_.safetensors").replace(folder / "1_00001_.safetensors")
    _, changed = shown(loaded)
    assert changed != first
    assert "WARNING" not in "".join(
        line for line in server.log().splitlines() if "rpartition" in line
    )
