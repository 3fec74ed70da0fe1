"""Seeds of 64 bits; those below 2^32 give what they always gave, to the bit."""

import pytest
import torch

from freestyle_core.errors import InputError
from freestyle_core.files.editors.load import load_editor
from freestyle_core.method.finetune import FinetuneSettings, finetune_portraits
from freestyle_core.method.sample import latent
from freestyle_core.method.stylize import StylizeSettings, stylize_views
from freestyle_core.pipeline import PortraitSettings
from freestyle_core.pretrain.train import PretrainSettings
from freestyle_core.seeds import MAX_SEED, folded, generator, step_generator
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_portrait, tiny_set
from tests.tiny_editor import save_tiny_editor

SETTINGS = (StylizeSettings, FinetuneSettings, PretrainSettings)
LARGEST_BEFORE = 2**32 - 1


def exact(values):
    """Return the doubles that were printed for float32 numbers as those numbers."""
    return torch.tensor(values, dtype=torch.float64).float()


@pytest.mark.parametrize(
    ("seed", "plain", "of_step_5"),
    [
        (0, [1.5409960746765137, -0.293428897857666], [-0.4867807626724243, -0.6038215756416321]),
        (7, [-0.1467950940132141, 0.7861412763595581], [0.1293376386165619, -2.545241594314575]),
        (
            LARGEST_BEFORE,
            [1.2197630405426025, -0.3929794728755951],
            [-0.4549899697303772, -0.931024968624115],
        ),
    ],
)
def test_noise_of_seeds_below_2_to_32_is_what_it_was(seed, plain, of_step_5):
    """The numbers were printed by the version that knew no larger seeds."""
    assert torch.equal(torch.randn(2, generator=generator(seed)), exact(plain))
    assert torch.equal(torch.randn(2, generator=step_generator(seed, 5)), exact(of_step_5))


def test_heads_of_seeds_below_2_to_32_are_what_they_were():
    first = [1.764052391052246, 0.40015721321105957, 0.978738009929657]
    last = [0.6484086513519287, 0.6693235039710999, -1.0805437564849854]
    assert torch.equal(latent(0, 3)[0], exact(first))
    assert torch.equal(latent(LARGEST_BEFORE, 3)[0], exact(last))


def test_the_upper_bits_of_a_seed_count():
    """PyTorch's generator alone would take 5 and 5 + 2^32 for the same."""
    large = [5 + 2**32, 5 + 2**63, MAX_SEED]
    numbers = [torch.randn(4, generator=generator(seed)) for seed in (5, *large)]
    steps = [torch.randn(4, generator=step_generator(seed, 1)) for seed in (5, *large)]
    heads = [latent(seed, 4) for seed in (5, *large)]
    for values in (numbers, steps, heads):
        assert len({tuple(value.flatten().tolist()) for value in values}) == 4
    assert all(0 <= folded(seed) < 2**32 for seed in large)
    assert folded(MAX_SEED) == 1152295698  # sha256 of eight bytes of ones


def test_edits_and_fine_tunings_tell_large_seeds_apart(tmp_path):
    editor = load_editor(save_tiny_editor(tmp_path / "editor"))
    images = torch.rand(1, 3, 16, 16)
    edits = [
        stylize_views(
            editor, images, "an elf", settings=StylizeSettings(steps=1, tau=1.0, seed=seed)
        )
        for seed in (5, 5 + 2**32)
    ]
    assert not torch.equal(*edits)
    eg3d = tiny_eg3d()
    tuned = [
        finetune_portraits(
            tiny_i2t(),
            "parent",
            [tiny_portrait(eg3d)],
            [tiny_set(eg3d)],
            lambda a, b: a.new_zeros(a.shape[0]),
            settings=FinetuneSettings(iterations=2, density_points=64, seed=seed),
        ).losses["total"]
        for seed in (5, 5 + 2**32)
    ]
    assert tuned[0] != tuned[1]


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, "7"])
def test_other_seeds_are_refused_everywhere(seed):
    for refuse in (folded, generator, lambda value: latent(value, 4)):
        with pytest.raises(InputError, match="seed"):
            refuse(seed)
    for settings in SETTINGS:
        with pytest.raises(InputError, match="seed"):
            settings(seed=seed)
    with pytest.raises(InputError, match="seed"):
        PortraitSettings(prompts=("an elf",), seed=seed)


def test_the_largest_seed_is_taken_everywhere():
    for settings in SETTINGS:
        assert settings(seed=MAX_SEED).seed == MAX_SEED
    assert PortraitSettings(prompts=("an elf",), seed=MAX_SEED).seed == MAX_SEED
