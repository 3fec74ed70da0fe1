"""The page of all results: one file that needs no server and nothing from elsewhere.

Pictures and videos lie beside it, in the folders of the jobs. Read `Page.write`.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from ..files.bundle import write_atomically
from ..progress import clock
from .folder import BatchFolder

INDEX = "index.html"
MOST_CARDS = 3000  # that a phone can scroll through
TEMPLATE = Path(__file__).with_name("page.html")
# which settings are shown, and as what
SETTINGS = (
    ("psi", "psi"),
    ("views", "views"),
    ("edit.steps", "edit steps"),
    ("edit.tau", "tau"),
    ("tune.train", "trains"),
    ("tune.iterations", "training steps"),
    ("tune.robust", "robust"),
    ("turntable.frames", "frames"),
)
OF_A_PACK = tuple(pair for pair in SETTINGS if pair[0] in ("psi", "turntable.frames"))


class Page:
    """The page of a folder; what finished jobs say of themselves is read once."""

    def __init__(self, folder: BatchFolder) -> None:
        self._folder = folder
        self._known: dict[str, dict[str, Any]] = {}

    def write(self) -> Path:
        """Write index.html as the folder is now; raises WriteError."""
        folder = self._folder
        planned = folder.plan()["jobs"]
        for key in folder.finished(self._known):
            if key not in self._known:
                record = folder.done(key)
                if record is not None:
                    self._known[key] = record
        failures, failed = [], folder.failures() - self._known.keys()
        for job in planned:
            reason = folder.failure(job["key"]) if job["key"] in failed else None
            if reason is not None:
                failures.append((job["name"], str(reason.get("reason"))))
        text = page_of(folder.root.resolve().name, planned, self._known, failures)
        path = folder.root / INDEX
        with write_atomically(path) as part:
            part.write_text(text, encoding="utf-8")
        return path


def page_of(
    title: str,
    planned: list[dict[str, Any]],
    done: Mapping[str, Mapping[str, Any]],  # by key, what done.json says
    failures: list[tuple[str, str]],  # name of the job, and why
) -> str:
    """Return the text of the page."""
    of_plan = {job["key"] for job in planned}
    order = [job["key"] for job in planned if job["key"] in done]
    order += sorted(key for key in done if key not in of_plan)
    shown = [_shown(number, key, done[key]) for number, key in enumerate(order[:MOST_CARDS])]
    made = sum(key in done for key in of_plan)
    rest = len(of_plan) - made - len(failures)
    state = f"{made} of {len(of_plan)} portraits"
    state += f", {len(failures)} failed" if failures else ""
    if len(order) > made:
        state += f"; {len(order) - made} of earlier job files"
    if len(order) > MOST_CARDS:
        state += f"; the first {MOST_CARDS} are shown, all are in jobs/"
    presets = sorted({job["preset"] for job in shown})
    values = {
        "title": html.escape(title),
        "state": state,
        "done": made,
        "bad": len(failures),
        "open": max(rest, 0),
        "presets": "".join(f"<option>{html.escape(name)}</option>" for name in presets),
        "cards": "\n".join(_card(job) for job in shown),
        "failed": _failed(failures),
        # nothing inside may end the script
        "data": json.dumps(shown).replace("<", "\\u003c"),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)


def _shown(number: int, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
    prompts, seed, preset = record.get("prompts", []), record.get("seed", 0), record.get("preset")
    facts = [("style", " + ".join(prompts)), ("seed", str(seed)), ("preset", str(preset))]
    settings: Any = record.get("settings", {})
    photo, pack = record.get("photo"), record.get("pack")
    if isinstance(photo, dict):
        facts.insert(1, ("photograph", Path(str(photo.get("file"))).name))
    if isinstance(pack, dict):
        facts.append(("strength of the pack", str(pack.get("strength"))))
    for path, label in SETTINGS if pack is None else OF_A_PACK:
        value = settings
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value not in (None, False):
            facts.append((label, f"{value} x {value} + 1" if label == "views" else str(value)))
    facts += [("made in", clock(float(record.get("seconds", 0)))), ("folder", f"jobs/{key}")]
    return {
        "n": number,
        "folder": f"jobs/{key}",
        "prompt": " + ".join(prompts),
        # a seed may be larger than what a script's numbers hold; it is only sorted by it there
        "seed": seed,
        "preset": str(preset),
        "time": record.get("time", 0),
        "files": list(record.get("files", [])),
        "facts": facts,
    }


def _card(job: Mapping[str, Any]) -> str:
    prompt, preset = html.escape(job["prompt"]), html.escape(job["preset"])
    front = f"{job['folder']}/front.png"
    return (
        f'<a class="card" data-n="{job["n"]}" href="{job["folder"]}/views.png">'
        f'<img src="{front}" alt="{prompt}" loading="lazy">'
        f"<p>{prompt}<small>seed {job['seed']}, {preset}</small></p></a>"
    )


def _failed(failures: list[tuple[str, str]]) -> str:
    if not failures:
        return ""
    rows = "".join(
        f"<li>{html.escape(name)}<br><span>{html.escape(why)}</span></li>" for name, why in failures
    )
    return f'<section><h2>Failed</h2><ul class="failed">{rows}</ul></section>'
