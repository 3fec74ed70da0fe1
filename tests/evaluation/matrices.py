"""A matrix on tiny models: two methods that learn planes, one of a network, on drawn truths."""

from dataclasses import replace

import torch

from freestyle_core.evaluation.ablate import Matrix
from freestyle_core.evaluation.cells import CellStore, pairs_of
from freestyle_core.evaluation.methods import Method
from freestyle_core.evaluation.runners import Workshop
from freestyle_core.evaluation.settings import EvaluateSettings
from freestyle_core.files.bundle import weights_hash
from freestyle_core.files.editors.load import load_editor
from freestyle_core.pipeline import Models
from freestyle_core.presets import Preset
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_perceptual
from tests.tiny_editor import save_tiny_editor

BASE = Preset(views=2, steps=2, train="i2t", iterations=2, sample_share=1.0, fade=0.4)
FULL = Method("full", "full method", "paper", BASE)
PLANES = Method("planes", "planes", "ours", replace(BASE, train="planes"))
TAU = Method("no-sdedit", "tau 1", "ablation", BASE, edit={"tau": 1.0})
METHODS = (FULL, PLANES, TAU)
STYLES = (("elf", "an elf"), ("zombie", "a zombie"))
SETTINGS = EvaluateSettings(path_frames=3, most_pairs=2, most_views=5, pictures=2)


class GreyWorld:
    """Knows every head: all are one grey ball of the size of the picture."""

    name = "grey 1"
    styles = ("elf", "zombie")
    first_seed = 0

    def fits(self, eg3d):
        return eg3d.config.name == "tiny"

    def prompt(self, style):
        return dict(STYLES)[style]

    def truth(self, style, seed):
        shade = 0.25 if style == "elf" else 0.5
        return lambda cameras: torch.full((len(cameras), 3, 16, 16), shade)


def tiny_models(folder):
    """Return a family of tiny models; the editor is written into a folder and read again."""
    save_tiny_editor(folder / "editor")
    parts = {"eg3d": tiny_eg3d(), "i2t": tiny_i2t(), "perceptual": tiny_perceptual()}
    editor = load_editor(folder / "editor")
    networks = {**parts, "unet": editor.unet, "vae": editor.vae, "text": editor.text_encoder}
    hashes = {name: weights_hash(part.state_dict()) for name, part in networks.items()}
    return Models(parts["eg3d"], parts["i2t"], parts["perceptual"], editor, hashes)


def tiny_matrix(models, root, *, methods=METHODS, seeds=(3, 4), styles=STYLES, **others):
    """Return a matrix in a folder."""
    store = CellStore(root)
    return Matrix(
        Workshop(models, store.edits),
        methods,
        pairs_of(styles, seeds),
        store,
        **{"world": GreyWorld(), "settings": SETTINGS, **others},
    )


def matrix_of_folder(models, root):
    """Return a matrix of planes alone, as a process of its own would make it."""
    return tiny_matrix(tiny_models(models), root, methods=(PLANES,))
