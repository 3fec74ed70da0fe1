"""The status lines of the nodes in the language of the interface. Read `tr`.

The server learns that language only from the settings of its one user: "Comfy.Locale", which the
frontend stores as soon as someone chooses a language there. Where it is not stored, where several
users share a server, and for words that locales/LANGUAGE/status.json lacks, lines are English.
"""

import json
from functools import cache
from pathlib import Path

import folder_paths
from comfy.cli_args import args

LOCALES = Path(__file__).parents[1] / "locales"
SETTINGS = ("default", "comfy.settings.json")  # of the one user, in ComfyUI's user folder


def tr(template: str, *values: object) -> str:
    """Return a text in the interface's language, with `values` in place of its {}."""
    words = _words(_language())
    return words.get(template, template).format(*values)


def _language() -> str:
    if getattr(args, "multi_user", False):
        return ""
    path = Path(folder_paths.get_user_directory(), *SETTINGS)
    try:
        return _stored_language(path, path.stat().st_mtime_ns)
    except OSError:  # nothing was ever set
        return ""


@cache
def _stored_language(path: Path, changed: int) -> str:
    """Return the language that the settings name; read again only when they have changed."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("Comfy.Locale", ""))
    except (OSError, ValueError, AttributeError):  # just being written, or not by ComfyUI
        return ""


@cache
def _words(language: str) -> dict[str, str]:
    known = {path.parent.name: path for path in LOCALES.glob("*/status.json")}
    path = known.get(language)
    return {} if path is None else json.loads(path.read_text(encoding="utf-8"))
