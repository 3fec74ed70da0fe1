"""The contact sheets of the clay models: which picture stands where.

Generator, editor and procedural world are stand-ins that give pictures of one brightness each.
"""

from types import SimpleNamespace

import pytest
import torch

from freestyle_core.clay import sheets
from freestyle_core.clay.evaluate import FIRST_SEED
from freestyle_core.clay.styles.captions import canonical
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.files.media.image import load_image
from freestyle_core.types import CameraRig

SIZE = 4
MODELS = SimpleNamespace(
    eg3d=SimpleNamespace(
        config=SimpleNamespace(rig=lambda: CameraRig(2.7, (0.0, 0.0, 0.0), 4.2647))
    ),
    editor="editor",
)


def flat(level, views=1):
    return torch.full((views, 3, SIZE, SIZE), level / 255)


@pytest.fixture(autouse=True)
def world(monkeypatch):
    """Rendered seeds are 0 to 99 bright (even when truncated), truth 100 to 149, edits 150 up."""
    prompts = [canonical(name) for name in STYLES]

    def sample_portrait(eg3d, seed, psi=1.0):
        return seed - FIRST_SEED if seed >= FIRST_SEED else seed + (100 if psi != 0.7 else 0)

    def draw(head, cameras, resolution):
        return (flat(100 + head, len(cameras)),)

    def stylize_views(editor, source, prompt):
        words = prompts if prompt in prompts else sheets.PROMPTS
        return flat(150 + words.index(prompt))

    monkeypatch.setattr(sheets, "sample_portrait", sample_portrait)
    monkeypatch.setattr(
        sheets,
        "render_views",
        lambda seed, cameras: SimpleNamespace(image=flat(seed, len(cameras))),
    )
    monkeypatch.setattr(sheets, "code_of_seed", lambda seed: seed - FIRST_SEED)
    monkeypatch.setattr(sheets, "plain_head", lambda code: code)
    monkeypatch.setattr(
        sheets, "styled_head", lambda code, style: 10 + list(STYLES).index(style.name)
    )
    monkeypatch.setattr(sheets, "draw", draw)
    monkeypatch.setattr(sheets, "stylize_views", stylize_views)


def cells(name, tmp_path):
    """Write a sheet and return the brightness of its cells, row by row."""
    sheets.SHEETS[name](MODELS, tmp_path / "sheet.png")
    picture = load_image(tmp_path / "sheet.png")
    small = torch.nn.functional.avg_pool2d(picture[None], SIZE)[0, 0]
    return (small * 255).round().int().tolist()


def test_heads_stand_beside_the_generators_from_five_sides(tmp_path):
    assert cells("identities", tmp_path) == [[100 + i] * 5 + [i] * 5 for i in range(8)]


def test_every_style_shows_source_truth_and_edit_four_to_a_row(tmp_path):
    rows = cells("edits", tmp_path)
    assert len(rows) == -(-len(STYLES) // 4) and {len(row) for row in rows} == {12}
    listed = [cell for row in rows for cell in row]
    for index in range(len(STYLES)):
        assert listed[3 * index : 3 * index + 3] == [index % 4, 110 + index, 150 + index]
    assert set(listed[3 * len(STYLES) :]) <= {255}  # white where none is left


def test_free_words_stand_beside_their_own_head(tmp_path):
    listed = [cell for row in cells("prompts", tmp_path) for cell in row]
    assert listed == [level for i in range(12) for level in (i, 150 + i)]


def test_portraits_show_head_edits_and_the_result_from_five_sides(tmp_path, monkeypatch):
    asked = []

    def style_views(models, settings):
        asked.append((settings.prompts, settings.seed))
        edited = torch.cat([flat(100 + view) for view in range(5)])
        sets = [SimpleNamespace(images=edited)]
        return SimpleNamespace(original=flat(10, 5), sets=sets, portraits=[len(asked)])

    monkeypatch.setattr(sheets, "style_views", style_views)
    rows = cells("portraits", tmp_path)
    assert asked == [((style,), seed) for style, seed in sheets.SHOWN]
    # the unstyled front, the first, middle and last edit, the portrait
    assert rows == [[10, 100, 102, 104, *[i] * 5] for i in range(1, 5)]


def test_good_faces_are_shown_from_three_sides_as_the_command_samples_them(tmp_path):
    rows = cells("faces", tmp_path)
    assert rows == [
        [seed for seed in sheets.GOOD_SEEDS[i : i + 4] for _ in range(3)] for i in (0, 4, 8)
    ]
