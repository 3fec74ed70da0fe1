"""Rivals and the whole generator as methods of the matrix."""

from dataclasses import replace

import pytest
import torch

from freestyle_core.baselines.gan_inversion import GanInversionSettings, TuneSettings
from freestyle_core.baselines.latent import LatentSettings
from freestyle_core.evaluation import rivals
from freestyle_core.evaluation.ablate import run_pairs
from freestyle_core.evaluation.fits import load_fit
from freestyle_core.evaluation.methods import RIVALS as NAMES
from freestyle_core.evaluation.methods import Method, methods
from freestyle_core.evaluation.runners import RUNNERS
from freestyle_core.files.bundle import weights_hash
from freestyle_core.method.finetune import FinetuneSettings
from tests.evaluation.matrices import BASE, FULL, STYLES, tiny_matrix, tiny_models

SMALL = GanInversionSettings(
    latent=LatentSettings(steps=4, idle_steps=0, samples=8), tune=TuneSettings(steps=2, stop=0.0)
)
RIVAL = Method("3dgan-inv", "3DGAN-Inv", "rival", BASE, runner="3dgan-inv", lite=True)
GENERATOR = Method("generator", "whole generator", "ablation", BASE, runner="generator")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny_models(tmp_path_factory.mktemp("models"))


def test_rivals_and_the_whole_generator_are_cells_like_all_others(models, tmp_path, monkeypatch):
    own = replace(rivals.RIVALS["3dgan-inv"], lite=SMALL)
    monkeypatch.setitem(rivals.RIVALS, "3dgan-inv", own)
    chosen = (FULL, RIVAL, GENERATOR)
    before = weights_hash(models.eg3d.state_dict())
    matrix = tiny_matrix(models, tmp_path, methods=chosen, styles=STYLES[:1], seeds=(3,))
    assert run_pairs(matrix, lambda cell, share: None) == []
    assert weights_hash(models.eg3d.state_dict()) == before
    pair, fits = matrix.pairs[0], {}
    for method in chosen:
        _, key, cell = matrix.keys(method, pair)
        fits[method.name] = load_fit(matrix.store.fit(key), key, models.eg3d)
        assert "truth_psnr" in matrix.store.load(cell)["scores"]
    # all are judged by the same edited views, but a rival pays for the one it looks at
    edited = [fit.edited.images for fit in fits.values()]
    assert torch.equal(edited[0], edited[1]) and torch.equal(edited[0], edited[2])
    paid = [fits[name].cost.processor_seconds["edit"] for name in ("full", "3dgan-inv")]
    assert paid[1] < 0.5 * paid[0]
    # both train the renderer too, and keep it
    for name in ("3dgan-inv", "generator"):
        renderer = fits[name].result.renderer
        assert weights_hash(renderer.state_dict()) != weights_hash(
            models.eg3d.renderer().state_dict()
        )
        assert fits[name].notes


def test_every_rival_has_published_and_lighter_settings_of_one_seed():
    for name, rival in rivals.RIVALS.items():
        assert name in NAMES and name in RUNNERS
        for method in methods(True, [name]) + methods(False, [name]):
            settings = rivals.rival_settings(method, 5)
            assert (settings.seed, settings.preview_every) == (5, 0)
            base = rival.lite if method.lite else rival.published
            assert replace(settings, seed=base.seed, preview_every=base.preview_every) == base
            assert rivals.rival_record(method, 5)["seed"] == 5
    assert rivals.rival_record(FULL, 5) is None


def test_the_generator_learns_by_the_methods_own_training_settings():
    settings = rivals.generator_settings(GENERATOR, "an elf", 5)
    own = GENERATOR.settings("an elf", 5).tune
    assert settings.tune == replace(own, seed=5) and isinstance(settings.tune, FinetuneSettings)
    assert rivals.rival_record(GENERATOR, 5) == {"learning_rate": settings.learning_rate}
