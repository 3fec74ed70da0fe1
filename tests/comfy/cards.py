"""Make the pictures of the bundled workflows anew, by running them as they are in a real ComfyUI.

    python -m tests.comfy.cards                    # all that are made of a run's pictures
    python -m tests.comfy.cards text_to_turntable  # one, by its name in flows.py

ComfyUI is looked for as the tests look for it. Each takes as long as the workflow; the cards of the
mesh and of the full-size models are drawn by hand.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.comfy.client import Server, start_server
from tests.comfy.conftest import comfy_folder, comfy_python, install_pack
from tests.comfy.flows import TITLES, WORKFLOWS, frames_of, load, node_of
from tests.comfy.to_api import to_api

SIDE = 512  # pixels of a card
QUALITY = 90
TIME_LIMIT = 3600  # seconds for one workflow
SIDES = (0, 0.25, 0.75)  # shares of a turn: from the front, from the right, from the left

Shown = Callable[[str, int], list[np.ndarray]]  # pictures [H,W,3] that a node of a type showed


def turn(shown: Shown) -> Image.Image:
    """Return the head and the finished portrait from three sides."""
    frames = shown("SaveVideo", 0)
    return sheet([shown("PreviewImage", 0)[0], *(frames[int(s * len(frames))] for s in SIDES)], 2)


def from_photo(shown: Shown) -> Image.Image:
    """Return what was found in the photograph, and the finished portrait from three sides."""
    found = Image.fromarray(shown("PreviewImage", 0)[0])
    found = found.crop((0, 0, found.width, found.width))
    frames = shown("SaveVideo", 0)
    return sheet([np.asarray(found), *(frames[int(s * len(frames))] for s in SIDES)], 2)


def front(shown: Shown) -> Image.Image:
    """Return one frame."""
    frames = shown("SaveVideo", 0)
    return sheet([frames[len(frames) // 8]], 1)


def sweep(shown: Shown) -> Image.Image:
    """Return nine frames of a mix, from one style to the other, row by row."""
    frames = shown("SaveVideo", 0)
    half = np.linspace(0, len(frames) // 2, 9).astype(int)  # the second half goes back
    return sheet([frames[i] for i in half], 3)


def around(shown: Shown) -> Image.Image:
    """Return four frames of a turn."""
    frames = shown("SaveVideo", 0)
    return sheet([frames[i * len(frames) // 4] for i in range(4)], 2)


def saved(shown: Shown) -> Image.Image:
    """Return the saved sheet, as large as the card holds it."""
    picture = Image.fromarray(shown("SaveImage", 0)[0])
    scale = SIDE / max(picture.size)
    picture = picture.resize((round(scale * picture.width), round(scale * picture.height)))
    card = Image.new("RGB", (SIDE, SIDE), "white")
    card.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return card


CARDS: dict[str, Callable[[Shown], Image.Image]] = {
    "text_to_turntable": turn,
    "portrait_form": front,
    "prompt_seed_sheet": saved,
    "two_styles_mixed": sweep,
    "joint_finetune_mix": sweep,
    "any_editor": around,
    "style_packs": sweep,
    "photo_to_portrait": from_photo,
    "people_by_styles": saved,
}


def sheet(pictures: list[np.ndarray], columns: int) -> Image.Image:
    """Return pictures [H,W,3] in rows on one card."""
    edges = np.linspace(0, SIDE, columns + 1).round().astype(int)
    card = Image.new("RGB", (SIDE, SIDE), "white")
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        size = (edges[column + 1] - edges[column], edges[row + 1] - edges[row])
        small = Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS)
        card.paste(small, (edges[column], edges[row]))
    return card


def make(server: Server, name: str) -> Path:
    """Run a workflow, write its card, and return the file."""
    prompt = to_api(load(name), server.get("/object_info"))
    run = server.run(prompt, TIME_LIMIT)
    if run.end.kind != "execution_success":
        raise RuntimeError(f"{name}: {run.end.data}")
    outputs = server.outputs(run)

    def shown(kind: str, index: int) -> list[np.ndarray]:
        node = node_of(prompt, kind)
        files = [server.file(item) for item in outputs[node]["images"]]
        if kind == "SaveVideo":
            return list(frames_of(files[index]))
        return [np.asarray(Image.open(file).convert("RGB")) for file in files]

    path = WORKFLOWS / f"{TITLES[name]}.jpg"
    CARDS[name](shown).save(path, quality=QUALITY)
    return path


def main() -> None:
    """Make the cards that are named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CARDS)}")
    names = parser.parse_args().names or list(CARDS)
    unknown = [name for name in names if name not in CARDS]
    if unknown:
        parser.error(f"no card {unknown[0]!r}; there are {', '.join(CARDS)}")
    folder = comfy_folder()
    with tempfile.TemporaryDirectory() as base:
        install_pack(Path(base))
        server = start_server(folder, comfy_python(folder), Path(base))
        try:
            for name in names:
                sys.stdout.write(f"{make(server, name)}\n")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
