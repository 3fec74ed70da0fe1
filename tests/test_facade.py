"""The public names: each can be had from the top, and the homes they had before still answer."""

import importlib

import pytest

import freestyle_core


@pytest.mark.parametrize("name", freestyle_core.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(freestyle_core, name)
    if name == "__version__":
        assert value.count(".") == 2
        return
    assert value.__name__ == name
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'stylise'"):
        _ = freestyle_core.stylise


def test_dir_lists_the_public_names():
    assert dir(freestyle_core) == sorted(freestyle_core.__all__)


# names under which release 0.1 had the seven steps
OLD_NAMES = {
    "sample": {"sample_portrait": "sample_portrait"},
    "render": {"render_views": "render_views", "RenderSettings": "RenderSettings"},
    "stylize": {"stylize": "stylize_views", "StylizeSettings": "StylizeSettings"},
    "fewshot": {"few_shot_set": "few_shot_set"},
    "finetune": {"finetune": "finetune_portraits", "FinetuneSettings": "FinetuneSettings"},
    "mix": {"mix": "mix_portraits", "mix_sweep": "mix_sweep"},
    "mesh": {"extract_mesh": "extract_mesh", "MeshSettings": "MeshSettings"},
}


@pytest.mark.parametrize("module", OLD_NAMES)
def test_the_old_home_of_a_step_still_answers(module):
    old = importlib.import_module(f"freestyle_core.{module}")
    assert set(OLD_NAMES[module]) <= set(old.__all__)
    for name, today in OLD_NAMES[module].items():
        assert getattr(old, name) is getattr(freestyle_core, today)
