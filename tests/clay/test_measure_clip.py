"""The measures of the clay CLIP: one that knows everything scores perfectly, a blind one by chance.

The CLIP here is a stand-in: pictures carry their style as a number, texts are read by their words.
"""

from types import SimpleNamespace

import pytest
import torch

from freestyle_core.clay import measure_clip as measuring
from freestyle_core.clay.measure_clip import measure_clip
from freestyle_core.clay.styles.captions import HELD_OUT, canonical
from freestyle_core.clay.styles.catalogue import STYLES

NAMES = list(STYLES)
PLAIN = len(NAMES)  # the number of the plain head, and of the neutral text


def picture(number):
    return torch.full((1, 3, 4, 4), number / 40)


class Knowing:
    """An axis for every style and one for the plain head; `known` says which texts it reads."""

    def __init__(self, known=lambda text: True, offset=0):
        self.known, self.offset, self.texts = known, offset, []

    def encode_images(self, images):
        numbers = ((images[:, 0, 0, 0] / 2 + 0.5) * 40).round().long()
        axes = torch.eye(PLAIN + 1)[(numbers + self.offset) % (PLAIN + 1)]
        return torch.nn.functional.normalize(axes + 0.5, dim=1)  # pictures have much in common

    def encode_texts(self, texts):
        self.texts += texts
        return torch.eye(PLAIN + 1)[[self._number(text) for text in texts]]

    def _number(self, text):
        if text == "a photo of a person" or not self.known(text):
            return PLAIN
        words = text.removeprefix("a photo of ")
        return next(i for i, n in enumerate(NAMES) if words in (canonical(n), *HELD_OUT[n]))


@pytest.fixture
def world(monkeypatch):
    """Heads are numbers of their style, the generator's are plain, the editor obeys."""

    def draw(head, cameras, resolution):
        return picture(PLAIN if head is None else NAMES.index(head)), None, None

    def style_views(models, settings):
        number = next(i for i, n in enumerate(NAMES) if canonical(n) in settings.prompts)
        return SimpleNamespace(portraits=[number])

    for name, function in {
        "draw": draw,
        "plain_head": lambda z: None,
        "styled_head": lambda z, style: style.name,
        "sample_portrait": lambda eg3d, seed: PLAIN,
        "front_camera": lambda rig: None,
        "render_views": lambda made, cameras: SimpleNamespace(
            image=picture(made).expand(1 if cameras is None else len(cameras), -1, -1, -1)
        ),
        "stylize_views": lambda editor, source, prompt: picture(
            next(i for i, n in enumerate(NAMES) if canonical(n) == prompt)
        ),
        "style_views": style_views,
    }.items():
        monkeypatch.setattr(measuring, name, function)
    eg3d = SimpleNamespace(config=SimpleNamespace(rig=lambda: None))
    return SimpleNamespace(eg3d=eg3d, editor=None)


def test_a_clip_that_knows_everything_is_right_everywhere(world):
    steps = []
    clip = Knowing()
    scores = measure_clip(
        clip, world, 2, portraits=["elf"], progress=lambda done, total: steps.append((done, total))
    )
    for way in ("image_to_style", "text_to_image"):
        for words in ("", "_bare", "_held_out"):
            assert scores[way + words] == 1 and scores[f"{way}{words}_spread"] == 0
    assert scores["edited_to_style"] == scores["edited_to_style_held_out"] == 1
    assert scores["portrait_to_style elf"] == 1
    # a picture is its axis plus a half of everything: 1.5 and 34 times 0.5, of length d
    d = (1.5**2 + PLAIN * 0.25) ** 0.5
    assert scores["gain"] == pytest.approx(1 / d, abs=1e-5)
    assert scores["gain_of_another"] == pytest.approx(0, abs=1e-5)
    assert scores["direction"] == pytest.approx(1, abs=1e-5)
    assert scores["direction_of_another"] == pytest.approx(0.5, abs=1e-5)  # only away from plain
    assert scores["portrait_text elf"] == pytest.approx(1.5 / d, abs=1e-5)
    assert scores["portrait_gain elf"] == pytest.approx(1 / d, abs=1e-5)
    assert scores["portrait_direction elf"] == pytest.approx(1, abs=1e-5)
    assert steps == [(i + 1, 37) for i in range(37)]
    assert {"an elf", "a photo of an elf", f"a photo of {HELD_OUT['elf'][2]}"} <= set(clip.texts)


def test_words_that_are_not_known_cost_their_own_score_only(world):
    held = {f"a photo of {HELD_OUT[name][0]}" for name in NAMES}
    scores = measure_clip(Knowing(lambda text: text not in held), world, 1, portraits=[])
    assert scores["image_to_style"] == 1
    # of the first of three held-out wordings all are read as the plain head: one style in 34 is
    # found by being the first of equals
    assert scores["image_to_style_held_out"] == pytest.approx((2 + 1 / 34) / 3, abs=1e-5)


def test_a_clip_that_is_wrong_is_wrong_everywhere(world):
    scores = measure_clip(Knowing(offset=1), world, 1, portraits=["zombie"])
    assert scores["image_to_style"] == 0
    # nothing looks like the first style: it is found by being the first of equals
    assert scores["text_to_image"] == pytest.approx(1 / 34)
    assert scores["portrait_to_style zombie"] == scores["edited_to_style"] == 0
    assert scores["portrait_gain zombie"] <= 0
