"""Turn a workflow as the browser saves it (UI format 0.4) into the API format that /prompt takes.

The UI format stores widget values by position; /object_info says which inputs are widgets and in
which order. Only what the bundled workflows use is covered: notes, muted nodes, linked widgets,
seeds and dynamic combos. Bypassed nodes, reroutes and subgraphs are refused.
"""

from collections.abc import Iterator
from typing import Any

NOTES = {"Note", "MarkdownNote"}
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
MUTED, BYPASSED = 2, 4


def to_api(workflow: dict, object_info: dict) -> dict[str, dict]:
    """Return the API prompt of a UI workflow: node id -> class_type, inputs, _meta."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    muted = {str(n["id"]) for n in workflow["nodes"] if n.get("mode", 0) == MUTED}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES or str(node["id"]) in muted:
            continue
        if node.get("mode", 0) == BYPASSED or node["type"] not in object_info:
            raise ValueError(f"node {node['id']} of type {node['type']} is bypassed or unknown")
        info = object_info[node["type"]]
        inputs = widget_values(info, node.get("widgets_values", []))
        for socket in node.get("inputs", []):
            source = links.get(socket.get("link"))
            if source is not None and source[0] not in muted:
                inputs[socket["name"]] = source
        title = node.get("title") or info.get("display_name") or node["type"]
        prompt[str(node["id"])] = {
            "class_type": node["type"],
            "inputs": inputs,
            "_meta": {"title": title},
        }
    return prompt


def widget_values(info: dict, values: list[Any]) -> dict[str, Any]:
    """Return the widgets' values by name; widgets past the end of `values` are left out."""
    left = iter(values)
    named: dict[str, Any] = {}
    for section in ("required", "optional"):
        for name, spec in info["input"].get(section, {}).items():
            named.update(_take(name, spec, left))
    return named


def _take(name: str, spec: list, left: Iterator[Any]) -> dict[str, Any]:
    """Take the values of one input, and of what its choice unfolds, from `left`."""
    kind = spec[0]
    options = spec[1] if len(spec) > 1 else {}
    widget = isinstance(kind, list) or options.get("widgetType", kind) in WIDGET_TYPES
    if options.get("forceInput") or options.get("hidden"):
        return {}
    if not widget and kind != DYNAMIC_COMBO:
        return {}
    try:
        named = {name: next(left)}
        if options.get("control_after_generate"):
            next(left)  # "fixed", "randomize", ...: what the browser does after a run
    except StopIteration:
        return {}
    if kind == DYNAMIC_COMBO:
        chosen = next(o for o in options["options"] if o["key"] == named[name])
        for section in ("required", "optional"):
            for inner, inner_spec in chosen["inputs"].get(section, {}).items():
                named.update(_take(f"{name}.{inner}", inner_spec, left))
    return named
