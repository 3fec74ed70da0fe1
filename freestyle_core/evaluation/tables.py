"""The tables of `docs/results.md`, made from the record of a matrix and nothing else.

The same record gives the same text, which a test holds the committed page to. Read `page`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics.bootstrap import DRAWS, LEVEL, Interval
from .published import TABLE_1, TABLE_2
from .results import MEMORY, TIME, Results

DASH = "-"
# score: heading, digits
LOOKS = {
    "clip_text": ("CLIP: text", 3),
    "clip_gain": ("CLIP: gain", 3),
    "clip_direction": ("CLIP: direction", 3),
    "truth_psnr": ("truth, dB", 2),
    "truth_perceptual": ("truth, perceptual", 3),
    "edit_fidelity": ("from the edits", 3),
    "identity": ("identity", 3),
    "sharpness": ("sharpness", 0),
    "clipped": ("clipped", 4),
}
SHAPE = {
    "clip_consistency": ("CLIP round the path", 3),
    "warp_short_perceptual": ("warp 6 deg", 4),
    "warp_long_perceptual": ("warp 30 deg", 4),
    "consistency_gain": ("gain over the edits", 2),
    "roughness": ("roughness, deg", 1),
    TIME: ("processor s", 0),
    MEMORY: ("memory, MB", 0),
}
ALL = {**LOOKS, **SHAPE}
PARTS = {
    "paper": "the paper's method",
    "ablation": "taken out, one at a time",
    "ours": "ours beside the paper's",
    "rival": "rivals",
    "views": "views",
    "tau": "tau",
    "steps": "training steps",
    "batch": "batch",
}


def page(results: Results, name: str, notes: str = "") -> str:
    """Return the page in Markdown; `name` is the record's file without its ending.

    `notes` are a person's words about the numbers, which come first.
    """
    parts = [
        _head(results, name),
        notes.strip(),
        _table_1(results),
        _table_2(results),
        _pictures(name),
        _whole(results, "Every score: the look", LOOKS),
        _whole(results, "Every score: shape, consistency, cost", SHAPE),
        _left_out(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(results: Results, name: str) -> str:
    record, done = results.record, results.finished()
    machine = record.get("hardware", {})
    styles = list(record["prompts"].values())
    heads = sorted({pair.rsplit("/", 1)[1] for pair in record["pairs"]})
    protocol = record["protocol"]
    lines = [
        "# Results",
        "",
        f"Made from [`results/{name}.json`](results/{name}.json) by "
        "`python -m freestyle_core ablate --report docs/results`; do not edit by hand. The numbers "
        "themselves:",
        "",
        f"    {record['command']}",
        "",
        f"Commit {record['commit'][:12]}, {record['date']}, {machine.get('cpu', 'unknown CPU')}, "
        f"{machine.get('threads', '?')} thread a process, nothing else promised to be still. "
        f"Styles: {', '.join(styles)}. Heads: {', '.join(heads)}, never trained on, psi "
        f"{record['psi']:g}. **All methods have run on {done} of {len(record['pairs'])} pairs of a "
        "style and a head** that they are meant for; n says how many each has.",
        "",
        f"A mean is followed by the bounds of {LEVEL:.0%} of {DRAWS} bootstrap draws of styles and "
        f"heads, both with replacement; one pair has none. {_clip_said(protocol)} Perceptual "
        f"distances: {protocol.get('perceptual', '')}. Time is that of processors, edited views "
        "that methods share counted for each.",
    ]
    return "\n".join(lines)


def _clip_said(protocol: Mapping[str, Any]) -> str:
    if not protocol.get("clip"):
        return "No CLIP was at hand: its columns are empty."
    return (
        f"CLIP scores are raw cosines of {protocol['clip']} and compare only with each other, not "
        f"with the paper's; texts: `{protocol.get('template', '')}`."
    )


def _table_1(results: Results) -> str:
    rows = []
    for name, theirs in TABLE_1.items():
        ours = [_said(results, name, c) for c in ("clip_text", "truth_perceptual")]
        more = [_said(results, name, c) for c in ("warp_long_perceptual", TIME)]
        rows.append(
            [
                theirs.label,
                f"{theirs.clip:.3f}",
                f"{theirs.minutes:g} min",
                *ours,
                *more,
                _count(results, name),
            ]
        )
    return "\n".join(
        [
            "## Table 1: ours and three rivals",
            "",
            "The user study (text similarity, quality, consistency by 30 people) cannot be run "
            "here and is left out. In its place: CLIP for the text, the distance to the true head "
            "for quality, the warp error at 30 degrees for consistency.",
            "",
            _markdown(
                [
                    "method",
                    "CLIP, as published",
                    "time, as published",
                    "CLIP, ours",
                    "truth, perceptual",
                    "warp 30 deg",
                    "processor s",
                    "n",
                ],
                rows,
            ),
            *_lite(results),
        ]
    )


def _lite(results: Results) -> list[str]:
    rivals = [row for row in results.methods if row["part"] == "rival" and row["cells"]]
    lite = [row["label"] for row in rivals if row["lite"]]
    text = (
        f"{', '.join(lite)}: with their `lite` settings, fewer and smaller steps than published, "
        "as the short matrix has fewer of ours."
    )
    return ["", text] if lite else []


def _table_2(results: Results) -> str:
    rows = []
    for name, theirs in TABLE_2.items():
        rows.append(
            [
                theirs.label,
                f"{theirs.clip:.3f}",
                _said(results, name, "clip_text"),
                DASH if name == "full" else _difference(results, name, "clip_text"),
                _said(results, name, "truth_perceptual"),
                DASH if name == "full" else _difference(results, name, "truth_perceptual"),
                _count(results, name),
            ]
        )
    return "\n".join(
        [
            "## Table 2: the network",
            "",
            _markdown(
                [
                    "method",
                    "CLIP, as published",
                    "CLIP, ours",
                    "over the full method",
                    "truth, perceptual",
                    "over the full method",
                    "n",
                ],
                rows,
            ),
        ]
    )


def _pictures(name: str) -> str:
    return "\n".join(
        [
            f"![Rows of portraits, a method each](results/{name}.png)",
            "",
            "*Fig. 8 on our models: what each method makes, from the same heads.*",
            "",
            f"![Scores of every method with their bounds](results/{name}-matrix.png)",
            "",
            "*Every method: mean and bounds of three scores.*",
        ]
    )


def _whole(results: Results, title: str, columns: dict[str, tuple[str, int]]) -> str:
    known = [column for column in columns if column in results.columns()]
    heads = [ALL[column][0] for column in known]
    rows: list[list[str]] = []
    for part, said in PARTS.items():
        chosen = [row for row in results.methods if row["part"] == part and row["cells"]]
        if chosen:
            rows.append([f"*{said}*", *[""] * (len(known) + 1)])
        for row in chosen:
            scores = [_said(results, row["name"], column) for column in known]
            rows.append([row["label"], *scores, _count(results, row["name"])])
    return "\n".join([f"## {title}", "", _markdown(["method", *heads, "n"], rows)])


def _left_out(results: Results) -> str:
    lines = []
    for row in results.methods:
        if row["missing"] is not None:
            lines.append(f"- {row['label']}: not run; it needs {row['missing']}.")
        elif not row["cells"]:
            lines.append(f"- {row['label']}: no pair is finished yet.")
    for failure in results.record["failed"]:
        lines.append(f"- {failure['method']} on {failure['pair']} failed: {failure['reason']}.")
    return "\n".join(["## Not in the tables", "", *lines]) if lines else ""


def _said(results: Results, name: str, column: str) -> str:
    return _number(results.interval(name, column), ALL[column][1])


def _difference(results: Results, name: str, column: str) -> str:
    return _number(results.difference(name, column), ALL[column][1], sign="+")


def _number(found: Interval | None, digits: int, sign: str = "") -> str:
    if found is None:
        return DASH
    mean = f"{found.mean:{sign}.{digits}f}"
    if found.low is None or found.high is None:
        return mean
    return f"{mean} ({found.low:{sign}.{digits}f} to {found.high:{sign}.{digits}f})"


def _count(results: Results, name: str) -> str:
    row: dict[str, Any] | None = results.method(name)
    return str(len(row["cells"])) if row else "0"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
