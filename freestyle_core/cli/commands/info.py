"""`info`: versions, devices and models, what a file holds, or whether a run's files are whole."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import FreeStyleError
from ...files.bundle import load_header
from ...files.networks import PARTS, describe, embedded
from ...files.record import differences
from ..console import say
from ..devices import available_devices
from ..machine import versions


def run(args: argparse.Namespace) -> None:
    """Show versions, devices and models, what a file holds, or whether a run's files are whole."""
    if args.file is not None and args.file.is_dir():
        records, wrong = differences(args.file)
        if wrong:
            raise FreeStyleError(f"{args.file}: {'; '.join(wrong)}; run the command again")
        say(f"{args.file}: all files are as {' and '.join(p.name for p in records)} names them")
        return
    if args.file is not None:
        about = describe(args.file)
        say(f"{args.file}: {about['kind']}, {_megabytes(args.file)}")
        for title, values in (("config", about["config"]), ("about", about["extra"])):
            for name, value in sorted(values.items()):
                say(f"  {title} {name}: {_shortened(value)}")
        return
    say(f"freestyle {__version__}")
    for name, version in versions().items():
        say(f"  {name}: {version}")
    say(f"  devices: {', '.join(available_devices())}")
    say("embedded models:")
    for part in PARTS:
        say(f"  {part}: {_embedded_state(part)}")


def _embedded_state(part: str) -> str:
    path = embedded(part)
    if not path.exists():
        return "missing; install the program again"
    if path.is_dir():
        return _megabytes(path)
    header = load_header(path)
    return f"{header.config.get('name', '')}, {_megabytes(path)}"


def _megabytes(path: Path) -> str:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return f"{sum(f.stat().st_size for f in files) / 2**20:.1f} MB"


def _shortened(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:97] + "..."
