"""The words of all nodes, from a running ComfyUI into locales/: English written, Chinese compared.

    python -m tests.comfy.locales

starts a server, writes locales/en/nodeDefs.json from the nodes themselves, and lists what
locales/zh/nodeDefs.json lacks or has too much. COMFYUI_PATH and COMFYUI_PYTHON name the ComfyUI
and its interpreter.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.comfy.client import start_server

LOCALES = Path(__file__).parents[2] / "locales"
CATEGORY = "FreeStyle 3D"
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"


def locale_path(language: str) -> Path:
    """Return where ComfyUI looks for the words of a language."""
    return LOCALES / language / "nodeDefs.json"


def english(object_info: dict[str, Any]) -> dict[str, Any]:
    """Return all display names, descriptions and tooltips of this pack, as ComfyUI reads them."""
    return {
        node_id: {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": dict(_inputs(info["input"])),
            "outputs": {
                str(slot): {"name": name, "tooltip": tip}
                for slot, (name, tip) in enumerate(
                    zip(info["output_name"], info["output_tooltips"], strict=True)
                )
            },
        }
        for node_id, info in sorted(object_info.items())
        if info["category"].split("/")[0] == CATEGORY
    }


def _inputs(sections: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, str]]]:
    for section in ("required", "optional"):
        for name, spec in sections.get(section, {}).items():
            options = spec[1] if len(spec) > 1 else {}
            words = {"name": options.get("display_name") or name}
            if options.get("tooltip"):
                words["tooltip"] = options["tooltip"]
            yield f"{prefix}{name}", words
            if spec[0] == DYNAMIC_COMBO:
                for option in options["options"]:
                    yield from _inputs(option["inputs"], f"{prefix}{name}_")  # "." becomes "_"


def keys(words: Any, path: str = "") -> set[str]:
    """Return the place of every text, as in `Node.inputs.seed.tooltip`."""
    if not isinstance(words, dict):
        return {path}
    start = f"{path}." if path else ""
    return {key for name, value in words.items() for key in keys(value, f"{start}{name}")}


def write(path: Path, words: dict[str, Any]) -> None:
    """Write a locale file as everyone would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(words, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read(language: str) -> dict[str, Any]:
    """Return the words of a language; none when there is no file yet."""
    path = locale_path(language)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def main() -> None:
    from tests.comfy.conftest import install_pack

    comfy = Path(os.environ.get("COMFYUI_PATH", Path.home() / "comfy" / "ComfyUI"))
    with tempfile.TemporaryDirectory() as folder:
        install_pack(Path(folder))
        server = start_server(comfy, os.environ.get("COMFYUI_PYTHON", sys.executable), Path(folder))
        try:
            words = english(server.get("/object_info"))
        finally:
            server.stop()
    write(locale_path("en"), words)
    ours, theirs = keys(words), keys(read("zh"))
    lines = [f"zh lacks {key}" for key in sorted(ours - theirs)]
    lines += [f"zh has the unknown {key}" for key in sorted(theirs - ours)]
    sys.stdout.write("\n".join([*lines, f"{len(ours)} texts in {len(words)} nodes"]) + "\n")


if __name__ == "__main__":
    main()
