"""The matrix on tiny models: resumption, failures, what is shared, what is kept."""

import json
from dataclasses import replace

import pytest
import torch

from freestyle_core import kept_edits
from freestyle_core.errors import Cancelled
from freestyle_core.evaluation import ablate, runners
from freestyle_core.evaluation.ablate import Failure, Tally, run_pairs
from freestyle_core.evaluation.cells import CellStore
from freestyle_core.evaluation.fits import Cost, Fit, load_fit, save_fit
from freestyle_core.evaluation.matrix_pictures import TILE, grid
from freestyle_core.evaluation.methods import Method
from freestyle_core.evaluation.results import collect
from freestyle_core.files.media.image import load_image
from freestyle_core.method.sample import sample_portrait
from freestyle_core.models.i2t import fresh_i2t
from tests.evaluation.matrices import FULL, METHODS, PLANES, STYLES, TAU, tiny_matrix, tiny_models
from tests.tiny import tiny_eg3d, tiny_set


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def fitted(monkeypatch):
    """The (method, pair) of every fit that is really made."""
    made = []
    real = runners.RUNNERS["style"]

    def counted(shop, method, pair, progress):
        made.append((method.name, pair.name))
        return real(shop, method, pair, progress)

    monkeypatch.setitem(runners.RUNNERS, "style", counted)
    return made


def files(root):
    return sorted(path.name for path in (root / "cells").iterdir())


def test_all_methods_of_a_pair_come_before_the_next_and_nothing_is_made_twice(
    models, tmp_path, fitted
):
    two = (FULL, PLANES)
    matrix = tiny_matrix(models, tmp_path, methods=two)
    reports = []
    assert run_pairs(matrix, lambda cell, share: reports.append((cell, share))) == []
    pairs = ["elf/3", "zombie/4", "elf/4", "zombie/3"]
    assert fitted == [(method.name, pair) for pair in pairs for method in two]
    assert list(dict.fromkeys(cell for cell, share in reports if share == 1)) == list(range(8))
    assert all(0 <= share <= 1 for _, share in reports)
    assert len(files(tmp_path)) == 3 * 8  # numbers, picture and views of each
    fitted.clear()
    again = tiny_matrix(models, tmp_path, methods=two)
    assert run_pairs(again, lambda cell, share: None) == []
    assert fitted == []
    cell = matrix.store.load(matrix.keys(FULL, matrix.pairs[0])[2])
    assert {"sharpness", "truth_psnr", "truth_perceptual", "edit_fidelity"} <= set(cell["scores"])
    # an untrained head is nowhere solid, so it has no surface whose roughness could be told
    assert "roughness" not in cell["scores"]
    assert cell["missing"]["roughness"]
    assert set(cell["cost"]["processor_seconds"]) == {"render the views", "edit", "fine-tune"}
    assert cell["pair"] == {"style": "elf", "prompt": "an elf", "seed": 3}
    views = load_image(matrix.store.strip(matrix.keys(FULL, matrix.pairs[0])[2]))
    assert views.shape == (3, 16, 5 * 16)
    sheet = grid(matrix)
    matrix.store.strip(matrix.keys(PLANES, matrix.pairs[1])[2]).unlink()
    less = grid(matrix)  # four tiles of the second row and the second pair are grey
    changed = (sheet - less).abs().amax(0) > 0.01
    rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
    assert int(rows[-1] - rows[0]) < TILE and 3 * TILE < int(columns[-1] - columns[0]) < 5 * TILE


def test_a_matrix_stopped_in_a_cell_goes_on_with_that_cell(models, tmp_path, fitted):
    class Stop(BaseException):
        pass

    def stop(cell, share):
        if cell == 4 and share > 0:
            raise Stop

    matrix = tiny_matrix(models, tmp_path, seeds=(3,))
    with pytest.raises(Stop):
        run_pairs(matrix, stop)
    assert len(fitted) == 5 and len(files(tmp_path)) == 3 * 4
    assert not list(tmp_path.rglob(".freestyle-*"))  # nothing half-written
    before, _ = list(fitted), fitted.clear()
    again = tiny_matrix(models, tmp_path, seeds=(3,))
    assert run_pairs(again, lambda cell, share: None) == []
    assert fitted[0] == before[4] and len(fitted) == 2
    assert set(fitted) | set(before) == {(m.name, p.name) for m in METHODS for p in matrix.pairs}


def test_a_failing_cell_loses_no_other_and_is_named_and_tried_again(models, tmp_path, monkeypatch):
    broken = Method("broken", "broken", "rival", runner="broken")

    def breaks(shop, method, pair, progress):
        if pair.style == "elf":
            raise RuntimeError("no head\nin sight")
        return runners.run_style(shop, PLANES, pair, progress)

    monkeypatch.setitem(runners.RUNNERS, "broken", breaks)
    matrix = tiny_matrix(models, tmp_path, methods=(broken, PLANES), seeds=(3,))
    failed = run_pairs(matrix, lambda cell, share: None)
    assert failed == [Failure("broken", "elf/3", "RuntimeError: no head")]
    record = collect(matrix, failed, {"commit": "c"})
    assert [list(row["cells"]) for row in record["methods"]] == [
        ["zombie/3"],
        ["elf/3", "zombie/3"],
    ]
    assert record["failed"] == [
        {"method": "broken", "pair": "elf/3", "reason": "RuntimeError: no head"}
    ]
    json.dumps(record, allow_nan=False)
    assert len(run_pairs(matrix, lambda cell, share: None)) == 1

    def stopped(shop, method, pair, progress):
        raise Cancelled("enough")

    monkeypatch.setitem(runners.RUNNERS, "broken", stopped)
    with pytest.raises(Cancelled):
        run_pairs(matrix, lambda cell, share: None)


def test_another_protocol_measures_again_and_fits_nothing(models, tmp_path, fitted):
    one = {"styles": STYLES[:1], "seeds": (3,), "methods": (PLANES,)}
    matrix = tiny_matrix(models, tmp_path, **one)
    run_pairs(matrix, lambda cell, share: None)
    other = replace(matrix, settings=replace(matrix.settings, tolerance=0.02))
    run_pairs(other, lambda cell, share: None)
    assert len(fitted) == 1 and len(files(tmp_path)) == 6
    first, second = (m.store.load(m.keys(PLANES, m.pairs[0])[2]) for m in (matrix, other))
    assert first["cost"] == second["cost"]  # of the fit that was really made
    assert first["scores"]["sharpness"] == second["scores"]["sharpness"]
    unknown = replace(matrix, world=None)
    assert unknown.keys(PLANES, matrix.pairs[0])[2] != matrix.keys(PLANES, matrix.pairs[0])[2]
    assert unknown.keys(PLANES, matrix.pairs[0])[1] == matrix.keys(PLANES, matrix.pairs[0])[1]


def test_methods_that_edit_alike_share_the_edits_and_each_counts_them(
    models, tmp_path, monkeypatch
):
    edited = []
    real = kept_edits.stylize_views

    def counted(editor, images, style, **options):
        edited.append(len(images))
        return real(editor, images, style, **options)

    monkeypatch.setattr(kept_edits, "stylize_views", counted)
    matrix = tiny_matrix(models, tmp_path, styles=STYLES[:1], seeds=(3,))
    run_pairs(matrix, lambda cell, share: None)
    assert edited == [5, 5]  # front and 2 x 2, for tau 0.9 and for tau 1
    costs = [
        matrix.store.load(matrix.keys(m, matrix.pairs[0])[2])["cost"]["seconds"]["edit"]
        for m in (FULL, PLANES)
    ]
    assert costs[1] > 0.5 * costs[0] > 0


def test_a_network_that_is_not_there_leaves_its_method_out(models, tmp_path, fitted):
    flat = Method("no-spatial", "flat", "ablation", FULL.preset, i2t="flat")
    fresh = Method("no-pretraining", "fresh", "ablation", FULL.preset, i2t="fresh")
    matrix = tiny_matrix(models, tmp_path, methods=(flat, fresh), styles=STYLES[:1], seeds=(3,))
    assert "give it with --i2t-flat" in matrix.shop.missing(flat)
    run_pairs(matrix, lambda cell, share: None)
    assert fitted == [("no-pretraining", "elf/3")]
    network = fresh_i2t(models.eg3d.config, seed=5)
    with_flat = replace(matrix, shop=replace(matrix.shop, flat=(network, "h")))
    assert with_flat.shop.missing(flat) is None
    assert with_flat.shop.fitting("flat").i2t is network
    hashes = [with_flat.shop.hashes(m).get("i2t") for m in (flat, fresh, FULL, PLANES)]
    assert hashes[0] == "h" and len(set(hashes)) == 4 and hashes[3] is None
    # planes are learnt without a network, whatever that is
    bare = replace(matrix.shop, models=replace(models, i2t=None))
    assert bare.missing(PLANES) is None
    assert bare.missing(FULL) == "an I2T network; give it with --i2t"


def test_the_original_and_the_truth_are_made_once_for_all_methods(models, tmp_path, monkeypatch):
    seen = []
    real = ablate.render_views
    monkeypatch.setattr(
        ablate,
        "render_views",
        lambda head, cameras: seen.append(len(cameras)) or real(head, cameras),
    )
    matrix = tiny_matrix(models, tmp_path, styles=STYLES[:1], seeds=(3,))
    run_pairs(replace(matrix, methods=(FULL,)), lambda cell, share: None)
    once = list(seen)
    run_pairs(tiny_matrix(models, tmp_path / "b", styles=STYLES[:1], seeds=(3,)), lambda *x: None)
    assert seen == once * 2  # three methods cost no more than one


def test_what_was_fitted_survives_its_file_with_the_renderer_it_needs(models, tmp_path):
    eg3d, tuned = tiny_eg3d(), tiny_eg3d(seed=9)
    cost = Cost({"edit": 1.0}, {"edit": 2.0}, 30.0)
    for generator in (eg3d, tuned):
        head = sample_portrait(generator, 3)
        path = tmp_path / f"{generator is tuned}.safetensors"
        save_fit(path, "key", Fit(head, tiny_set(eg3d), cost, ("faithful",)), eg3d)
        again = load_fit(path, "key", eg3d)
        cameras = tiny_set(eg3d).cameras
        assert torch.equal(
            again.render(cameras).image, Fit(head, tiny_set(eg3d), cost).render(cameras).image
        )
        assert (again.cost, again.notes) == (cost, ("faithful",))
        assert torch.equal(again.edited.images, tiny_set(eg3d).images)
    assert load_fit(path, "other", eg3d) is None
    path.write_bytes(path.read_bytes()[:-9])
    assert load_fit(path, "key", eg3d) is None
    assert load_fit(tmp_path / "none", "key", eg3d) is None


def test_a_pair_that_another_process_works_on_is_left_to_it(models, tmp_path, fitted):
    matrix = tiny_matrix(models, tmp_path, methods=(PLANES,), seeds=(3,))
    with CellStore(tmp_path).claimed(matrix.pairs[0]):
        run_pairs(matrix, lambda cell, share: None)
    assert fitted == [("planes", "zombie/3")]


def test_reports_of_cells_add_up_whatever_their_order():
    seen = []
    tally = Tally(4, lambda done, total: seen.append((done, total)))
    for report in ((2, 0.5), (0, 1.0), (2, 1.0), (0, 1.0)):
        tally(*report)
    assert seen == [(0, 4), (0.5, 4), (1.5, 4), (2.0, 4), (2.0, 4)]
    assert TAU.edit == {"tau": 1.0}


def test_a_method_for_few_pairs_is_tried_on_the_first_ones(models, tmp_path, fitted):
    slow = replace(PLANES, name="slow", preset=replace(PLANES.preset, iterations=3), pairs=1)
    matrix = tiny_matrix(models, tmp_path, methods=(slow, PLANES), seeds=(3,))
    assert [(m.name, p.name) for m, p in matrix.cells()] == [
        ("slow", "elf/3"), ("planes", "elf/3"), ("planes", "zombie/3")
    ]  # fmt: skip
    reports = []
    run_pairs(matrix, lambda *report: reports.append(report))
    assert fitted == [(m.name, p.name) for m, p in matrix.cells()]
    assert {cell for cell, share in reports if share == 1} == {0, 1, 2}
