"""Contact sheets that show at a glance what the clay models can do."""

from collections.abc import Callable
from pathlib import Path

import torch

from ..files.media.image import save_image
from ..geometry.cameras import front_camera, orbit_cameras
from ..method.render import render_views
from ..method.sample import sample_portrait
from ..method.stylize import stylize_views
from ..pipeline import Models, PortraitSettings, style_views
from ..presets import DEFAULT, Preset
from ..visualize.contact_sheet import plain_sheet
from .data.shards import RESOLUTION
from .draw import draw, plain_head, styled_head
from .evaluate import FIRST_SEED, code_of_seed
from .styles.captions import canonical
from .styles.catalogue import STYLES

YAWS = (-35.0, 0.0, 35.0, 90.0, 180.0)
IDENTITIES = 8


def identities(models: Models, path: Path) -> None:
    """Write procedural heads (left) beside the generator's (right), from all sides."""
    rig = models.eg3d.config.rig()
    cameras = orbit_cameras(YAWS, [0.0] * len(YAWS), rig)
    rows = []
    for seed in range(FIRST_SEED, FIRST_SEED + IDENTITIES):
        truth = draw(plain_head(code_of_seed(seed)), cameras, RESOLUTION)[0]
        made = render_views(sample_portrait(models.eg3d, seed), cameras).image
        rows.append(torch.cat([truth, made]))
    save_image(path, plain_sheet(rows))


def edits(models: Models, path: Path) -> None:
    """Write, for every style, the generator's front view, the true restyled head and the edit."""
    front = front_camera(models.eg3d.config.rig())
    rows, columns = [], 4
    cells = []
    for i, name in enumerate(STYLES):
        seed = FIRST_SEED + i % 4
        source = render_views(sample_portrait(models.eg3d, seed), front).image
        truth = draw(styled_head(code_of_seed(seed), STYLES[name]), front, RESOLUTION)[0]
        cells.append(
            torch.cat([source, truth, stylize_views(models.editor, source, canonical(name))])
        )
    while len(cells) % columns:
        cells.append(torch.ones_like(cells[0]))
    for start in range(0, len(cells), columns):
        rows.append(torch.cat(cells[start : start + columns]))
    save_image(path, plain_sheet(rows))


PROMPTS = (
    "an old zombie with a red beard",
    "a smiling gold statue",
    "an angry elf with blue hair",
    "a bearded bronze statue with horns",
    "a sad clown",
    "a bald vampire with yellow eyes",
    "a person with green hair",
    "a chubby Na'vi",
    "a laughing skull",
    "a woman with long hair",
    "an old devil with a white beard",
    "a happy robot",
)


def prompts(models: Models, path: Path) -> None:
    """Write free combinations of words: the generator's front view and its edit, per prompt."""
    front = front_camera(models.eg3d.config.rig())
    cells = []
    for i, prompt in enumerate(PROMPTS):
        portrait = sample_portrait(models.eg3d, FIRST_SEED + i)
        source = render_views(portrait, front).image
        cells.append(torch.cat([source, stylize_views(models.editor, source, prompt)]))
    save_image(path, plain_sheet([torch.cat(cells[i : i + 4]) for i in range(0, len(cells), 4)]))


# seeds that, at the command's truncation, make a good first portrait, all different
GOOD_SEEDS = (12, 51, 53, 9, 33, 61, 8, 24, 54, 47, 16, 36)
FACE_YAWS, FACE_PITCHES = (-30.0, 0.0, 30.0), (4.0, 0.0, 4.0)


def faces(models: Models, path: Path) -> None:
    """Write the heads of GOOD_SEEDS from three sides, four heads a row."""
    cameras = orbit_cameras(FACE_YAWS, FACE_PITCHES, models.eg3d.config.rig())
    cells = []
    for seed in GOOD_SEEDS:
        portrait = sample_portrait(models.eg3d, seed, psi=PortraitSettings.psi)
        cells.append(render_views(portrait, cameras).image)
    save_image(path, plain_sheet([torch.cat(cells[i : i + 4]) for i in range(0, len(cells), 4)]))


SHOWN = (("a Na'vi", 12), ("a zombie", 51), ("a bronze statue", 33), ("an elf", 61))  # style, seed
TURN_YAWS, TURN_PITCHES = (-35.0, -18.0, 0.0, 18.0, 35.0), (8.0, 3.0, 0.0, -3.0, -8.0)
SHOWN_EDITS = 3  # edited views in the sheet


def portraits(models: Models, path: Path, *, preset: Preset = DEFAULT) -> None:
    """Write, for some styles, a head, some of its edited views, and the portrait from five sides.

    Each is a run of the portrait command, a minute a style on two cores.
    """
    shown = orbit_cameras(TURN_YAWS, TURN_PITCHES, models.eg3d.config.rig())
    rows = []
    for prompt, seed in SHOWN:
        made = style_views(models, preset.settings(prompt, seed=seed))
        edited = made.sets[0].images
        spread = torch.linspace(0, len(edited) - 1, SHOWN_EDITS).long()
        turned = render_views(made.portraits[0], shown).image
        rows.append(torch.cat([made.original[:1], edited[spread], turned]))
    save_image(path, plain_sheet(rows))


SHEETS: dict[str, Callable[[Models, Path], None]] = {
    "identities": identities,
    "edits": edits,
    "prompts": prompts,
    "faces": faces,
    "portraits": portraits,
}
