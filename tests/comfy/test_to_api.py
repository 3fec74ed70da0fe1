"""The converter, against small hand-made /object_info entries."""

import pytest

from tests.comfy.to_api import to_api, widget_values

COMBO = ["COMBO", {"options": ["clay (embedded)"]}]
OBJECT_INFO = {
    "Load": {"input": {"required": {"model": COMBO}}, "display_name": "Load It"},
    "Sample": {
        "input": {
            "required": {
                "model": ["FREESTYLE_EG3D", {}],
                "seed": ["INT", {"control_after_generate": True}],
                "truncation": ["FLOAT", {}],
            },
            "optional": {"words": ["STRING", {}]},
        }
    },
}


def node(number, kind, values=(), links=(), **more):
    inputs = [{"name": name, "type": "X", "link": link} for name, link in links]
    return {"id": number, "type": kind, "inputs": inputs, "widgets_values": list(values), **more}


def test_values_go_to_their_widgets_and_links_to_their_source():
    workflow = {
        "nodes": [
            node(1, "MarkdownNote", ["# text"]),
            node(2, "Load", ["clay (embedded)"]),
            node(3, "Sample", [7, "fixed", 0.5, "typed"], [("model", 10), ("words", 11)]),
            node(4, "Load", ["other"], mode=2),
        ],
        "links": [[10, 2, 0, 3, 0, "FREESTYLE_EG3D"], [11, 2, 1, 3, 3, "STRING"]],
    }
    assert to_api(workflow, OBJECT_INFO) == {
        "2": {
            "class_type": "Load",
            "inputs": {"model": "clay (embedded)"},
            "_meta": {"title": "Load It"},
        },
        "3": {
            "class_type": "Sample",
            "inputs": {"seed": 7, "truncation": 0.5, "words": ["2", 1], "model": ["2", 0]},
            "_meta": {"title": "Sample"},
        },
    }


def test_a_choice_unfolds_its_own_widgets():
    codec = ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "auto", "inputs": {"required": {}}}]}]
    options = [
        {"key": "auto", "inputs": {"required": {"codec": codec}}},
        {"key": "raw", "inputs": {"required": {}}},
    ]
    info = {
        "input": {
            "required": {
                "prefix": ["STRING", {}],
                "format": ["COMFY_DYNAMICCOMBO_V3", {"options": options}],
                "size": ["INT", {}],
            },
            "optional": {"codec": ["COMBO", {"options": ["auto"], "hidden": True}]},
        }
    }
    assert widget_values(info, ["v", "auto", "auto", 3]) == {
        "prefix": "v",
        "format": "auto",
        "format.codec": "auto",
        "size": 3,
    }
    assert widget_values(info, ["v", "raw", 3]) == {"prefix": "v", "format": "raw", "size": 3}


def test_a_choice_that_is_also_a_socket_takes_its_value():
    spec = ["STRING,FILE_3D_GLB", {"widgetType": "STRING"}]
    assert widget_values({"input": {"required": {"model_file": spec}}}, ["a.glb"]) == {
        "model_file": "a.glb"
    }


def test_missing_trailing_values_keep_the_default():
    assert widget_values(OBJECT_INFO["Sample"], [7, "fixed"]) == {"seed": 7}


@pytest.mark.parametrize("broken", [{"mode": 4}, {"type": "Reroute"}])
def test_what_is_not_covered_is_refused(broken):
    workflow = {"nodes": [{**node(2, "Load", ["x"]), **broken}], "links": []}
    with pytest.raises(ValueError, match="bypassed or unknown"):
        to_api(workflow, OBJECT_INFO)
