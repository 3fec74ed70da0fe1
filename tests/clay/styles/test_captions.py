"""Captions: enough wordings, held-out wordings really held out, deterministic sampling."""

from collections import Counter

import pytest
import torch

from freestyle_core.clay.styles.captions import (
    FULL_TEMPLATE,
    HELD_OUT,
    TEMPLATES,
    WORDINGS,
    canonical,
    sample_caption,
)
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.errors import InputError


def _samples(name: str, count: int, seed: int = 0) -> list[str]:
    generator = torch.Generator().manual_seed(seed)
    return [sample_caption(name, generator) for _ in range(count)]


def test_every_style_has_wordings_and_three_held_out():
    assert set(WORDINGS) == set(HELD_OUT) == set(STYLES)
    assert all(len(set(w)) >= 8 for w in WORDINGS.values())
    assert all(len(set(w)) == 3 for w in HELD_OUT.values())


def test_no_wording_names_two_styles():
    trained = [w.lower() for words in WORDINGS.values() for w in words]
    assert len(trained) == len(set(trained))


def test_held_out_wordings_are_never_trained():
    trained = {w.lower() for words in WORDINGS.values() for w in words}
    held_out = {w.lower() for words in HELD_OUT.values() for w in words}
    assert trained.isdisjoint(held_out)


def test_same_seed_same_captions():
    assert _samples("elf", 50, seed=3) == _samples("elf", 50, seed=3)
    assert _samples("elf", 50, seed=3) != _samples("elf", 50, seed=4)


def test_full_template_is_about_half():
    tail = FULL_TEMPLATE.split("{x}")[1].lower()
    full = sum(tail in caption.lower() for caption in _samples("gold", 2000))
    assert 930 <= full <= 1070  # 1000 expected, standard deviation 22


def test_every_wording_template_and_case_is_drawn():
    captions = _samples("Hulk", 4000)
    lowered = Counter(c.lower() for c in captions)
    for wording in WORDINGS["Hulk"]:
        assert lowered[FULL_TEMPLATE.format(x=wording).lower()] > 0
    for template in TEMPLATES:
        assert lowered[template.format(x=canonical("Hulk")).lower()] > 0
    assert any(c.isupper() for c in captions)
    assert any(c.islower() for c in captions)


def test_captions_are_written_in_four_ways_in_the_shares_promised():
    assert all(w == w.lower() for w in WORDINGS["gold"])
    captions = _samples("gold", 4000)
    upper = sum(c.isupper() for c in captions) / 4000
    first = sum(c[0].isupper() and not c.isupper() for c in captions) / 4000
    assert upper == pytest.approx(0.04, abs=0.01)  # standard deviation 0.003
    assert first == pytest.approx(0.11, abs=0.015)  # 0.005
    angry = [c for c in _samples("Hulk", 8000) if "angry hulk" in c.lower()]
    lower = sum(c.islower() for c in angry) / len(angry)
    assert lower == pytest.approx(0.15, abs=0.05)  # 0.018 of about 400


def test_unknown_style_is_a_clear_error():
    with pytest.raises(InputError, match="no captions for style 'cubist'"):
        canonical("cubist")
