"""What the tests of the commands share."""

from pathlib import Path

from freestyle_core.__main__ import main

ROOT = Path(__file__).resolve().parents[3]


FILES = [
    "edited.png",
    "front.png",
    "mesh.glb",
    "portrait.safetensors",
    "run.json",
    "turntable.mp4",
    "views.png",
]


def names(folder):
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def failed(capsys, argv, code):
    """Run a command that must fail with one line on stderr, and return that line."""
    try:
        got = main(argv)
    except SystemExit as stop:
        got = stop.code
    lines = capsys.readouterr().err.splitlines()
    assert got == code, lines
    messages = [line for line in lines if not line.startswith("[")]  # finished stages
    assert len(messages) == 1, lines
    return messages[0]
