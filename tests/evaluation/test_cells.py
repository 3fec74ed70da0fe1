"""The order of the pairs, and what a cell's hash is of."""

from dataclasses import replace

import pytest

from freestyle_core.errors import FileFormatError, InputError
from freestyle_core.evaluation import cells
from freestyle_core.evaluation.cells import (
    CellStore,
    Pair,
    cell_inputs,
    fit_inputs,
    key_of,
    pairs_of,
)
from freestyle_core.evaluation.methods import SHORT, SHORT_NAMES, Method, methods
from freestyle_core.presets import PAPER

PAIR = Pair("elf", "an elf", 3)
METHOD = Method("full", "full method", "paper")
HASHES = {"eg3d": "a", "i2t": "b"}


def test_every_style_comes_before_a_style_comes_twice_and_heads_take_turns():
    pairs = pairs_of([("a", "an a"), ("b", "a b"), ("c", "a c")], [7, 8])
    assert [(p.style, p.seed) for p in pairs] == [
        ("a", 7), ("b", 8), ("c", 7), ("a", 8), ("b", 7), ("c", 8)
    ]  # fmt: skip
    assert [p.prompt for p in pairs[:3]] == ["an a", "a b", "a c"]
    many = pairs_of([(x, x) for x in "abcde"], [1, 2, 3])
    assert len(set(many)) == 15


OTHER = {
    "head": (METHOD, replace(PAIR, seed=4), HASHES),
    "words": (METHOD, replace(PAIR, prompt="an old elf"), HASHES),
    "weights": (METHOD, PAIR, {**HASHES, "i2t": "c"}),
    "a network less": (METHOD, PAIR, {"eg3d": "a"}),
    "views": (replace(METHOD, preset=replace(PAPER, views=5)), PAIR, HASHES),
    "edit": (replace(METHOD, edit={"tau": 1.0}), PAIR, HASHES),
    "training": (replace(METHOD, tune={"lambda_dr": 0.0}), PAIR, HASHES),
    "what learns": (replace(METHOD, preset=replace(PAPER, train="planes")), PAIR, HASHES),
    "network": (replace(METHOD, i2t="fresh"), PAIR, HASHES),
    "runner": (replace(METHOD, runner="hfgi3d"), PAIR, HASHES),
    "rival's settings": (METHOD, PAIR, HASHES, {"steps": 3}),
}


@pytest.mark.parametrize("what", OTHER)
def test_every_input_of_a_fit_changes_its_hash(what):
    assert key_of(fit_inputs(*OTHER[what])) != key_of(fit_inputs(METHOD, PAIR, HASHES))


def test_names_and_order_change_no_hash_but_versions_do(monkeypatch):
    before = key_of(fit_inputs(METHOD, PAIR, HASHES))
    named = replace(METHOD, name="views-10", label="10 x 10 + 1 views", part="views")
    assert key_of(fit_inputs(named, replace(PAIR, style="elves"), HASHES)) == before
    assert key_of(fit_inputs(METHOD, PAIR, dict(reversed(HASHES.items())))) == before
    for version in ("FIT_VERSION", "EDIT_VERSION", "FINETUNE_VERSION"):
        with monkeypatch.context() as patch:
            patch.setattr(cells, version, 99)
            assert key_of(fit_inputs(METHOD, PAIR, HASHES)) != before


def test_what_is_only_shown_and_what_came_later_change_no_hash(monkeypatch):
    before = key_of(fit_inputs(METHOD, PAIR, HASHES))
    shown = replace(METHOD, preset=replace(PAPER, frames=5, resolution=32))
    assert key_of(fit_inputs(shown, PAIR, HASHES)) == before
    # a setting at what versions before it did is not looked at, at any other value it is
    assert "skip_empty" not in fit_inputs(METHOD, PAIR, HASHES)["settings"]["tune"]
    skipping = replace(METHOD, preset=replace(PAPER, skip_empty=True))
    assert fit_inputs(skipping, PAIR, HASHES)["settings"]["tune"]["skip_empty"] is True
    assert "reedit" not in fit_inputs(METHOD, PAIR, HASHES)["settings"]
    monkeypatch.setattr(cells, "LATER", {})
    assert fit_inputs(METHOD, PAIR, HASHES)["settings"]["reedit"] == 0


def test_a_cell_depends_on_its_protocol_too(monkeypatch):
    fit = fit_inputs(METHOD, PAIR, HASHES)
    before = key_of(cell_inputs(fit, {"clip": "clay"}))
    assert key_of(cell_inputs(fit, {"clip": "B/32"})) != before
    monkeypatch.setattr(cells, "CELL_VERSION", 99)
    assert key_of(cell_inputs(fit, {"clip": "clay"})) != before


def test_a_cell_is_kept_whole_or_not_at_all(tmp_path):
    store = CellStore(tmp_path)
    assert store.load("k") is None
    store.save("k", {"scores": {"psnr": 1.5}})
    assert store.load("k") == {"scores": {"psnr": 1.5}}
    with pytest.raises(FileFormatError, match="finite numbers"):
        store.save("k", {"scores": {"psnr": float("nan")}})
    assert store.load("k") == {"scores": {"psnr": 1.5}}
    store.cell("k").write_text('{"scores": {')  # torn
    assert store.load("k") is None
    store.cell("k").write_text("[]")
    assert store.load("k") is None


def test_one_process_at_a_time_works_on_a_pair(tmp_path):
    store = CellStore(tmp_path)
    with store.claimed(PAIR) as mine, CellStore(tmp_path).claimed(PAIR) as theirs:
        assert (mine, theirs) == (True, False)
        with store.claimed(replace(PAIR, seed=4)) as other:
            assert other
    with store.claimed(PAIR) as again:
        assert again


def test_the_papers_ablations_are_the_papers_settings_but_for_one_thing():
    long = {method.name: method for method in methods(short=False)}
    full = long["full"].settings("an elf", 3)
    assert (full.views, full.edit.steps, full.edit.tau) == (10, 20, 0.9)
    assert (full.tune.train, full.tune.iterations, full.psi) == ("i2t", 450, 1.0)
    changed = {
        "no-sdedit": replace(full, edit=replace(full.edit, tau=1.0)),
        "no-prompt": replace(full, edit=replace(full.edit, decorative="", negative="")),
        "no-i2t": replace(full, tune=replace(full.tune, train="modulation")),
        "no-density": replace(full, tune=replace(full.tune, lambda_dr=0.0)),
        "no-pretraining": full,
        "no-spatial": full,
        "batch-2": replace(full, tune=replace(full.tune, batch_size=2, iterations=225)),
        "views-5": replace(full, views=5),
    }
    for name, settings in changed.items():
        assert long[name].settings("an elf", 3) == settings, name
    assert (long["no-pretraining"].i2t, long["no-spatial"].i2t) == ("fresh", "flat")
    assert (
        long["no-prompt"].settings("an elf", 3).edit.prompt("an elf") == "turn the head into an elf"
    )


def test_the_short_matrix_does_less_of_everything_and_knows_its_names():
    short = {method.name: method for method in methods(short=True)}
    assert list(short) == list(SHORT_NAMES)
    settings = short["full"].settings("an elf", 3)
    assert (settings.views, settings.tune.iterations) == (SHORT.views, SHORT.iterations)
    assert short["hfgi3d"].lite and not methods(False, ["hfgi3d"])[0].lite
    chosen = methods(True, ["planes", "full"])
    assert [method.name for method in chosen] == ["planes", "full"]
    with pytest.raises(InputError, match="there is no method 'ful'; choose from full,"):
        methods(True, ["ful"])
    with pytest.raises(InputError, match="each method once"):
        methods(True, ["full", "full"])
