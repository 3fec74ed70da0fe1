"""What the procedural world tells the matrix."""

import pickle

import pytest
import torch

from freestyle_core.__main__ import _world
from freestyle_core.clay import __main__ as command
from freestyle_core.clay.draw import draw, styled_head
from freestyle_core.clay.evaluate import FIRST_SEED, PIPELINE_STYLES, code_of_seed
from freestyle_core.clay.styles.captions import HELD_OUT, canonical
from freestyle_core.clay.styles.catalogue import STYLES
from freestyle_core.clay.truth import WORLD
from freestyle_core.errors import InputError
from freestyle_core.geometry.cameras import front_camera
from freestyle_core.models.config import EG3DConfig
from freestyle_core.types import CameraRig
from tests.tiny import tiny_eg3d


def test_the_truth_is_the_drawn_head_of_the_seed_in_the_style():
    camera = front_camera(CameraRig(2.7, (0.0, 0.0, 0.0), 4.2647))
    image = WORLD.truth("zombie", FIRST_SEED)(camera)
    head = styled_head(code_of_seed(FIRST_SEED), STYLES["zombie"])
    assert torch.equal(image, draw(head, camera, 128)[0])
    assert pickle.loads(pickle.dumps(WORLD)) == WORLD == _world()


def test_it_knows_every_style_and_its_words():
    assert set(WORLD.styles) == set(STYLES) and len(WORLD.styles) == len(STYLES)
    assert set(WORLD.styles[:12]) == set(PIPELINE_STYLES)
    assert WORLD.prompt("zombie") == canonical("zombie") and WORLD.first_seed == FIRST_SEED
    with pytest.raises(InputError, match="there is no style 'zomby'; choose from"):
        WORLD.truth("zomby", 0)


def test_it_knows_a_style_by_all_its_wordings():
    assert all(WORLD.style_of(canonical(style)) == style for style in STYLES)
    assert WORLD.style_of("  The walking  DEAD ") == "zombie"
    assert WORLD.style_of(HELD_OUT["elf"][0]) == "elf"
    assert WORLD.style_of("a zombie elf") is None and WORLD.style_of("") is None


def test_only_clay_generators_make_its_heads():
    assert not WORLD.fits(tiny_eg3d())
    assert not WORLD.fits(tiny_eg3d(name="clay"))  # of another size
    clay = type("Generator", (), {"config": EG3DConfig(
        name="clay", image_resolution=128, sr_input_resolution=64, superresolution="2X"
    )})()  # fmt: skip
    assert WORLD.fits(clay)


def test_the_flat_i2t_is_trained_only_when_it_is_asked_for(monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(command, "train_i2t", lambda data, out, **how: asked.update(how, out=out))
    command.EXTRA_STAGES["i2t_flat"](command.Work(tmp_path, "cpu", threads=1, workers=1))
    assert "i2t_flat" not in command.STAGES
    assert asked["config"].code_size == 1 and asked["settings"].iterations == 2050
    assert asked["eg3d_path"] == command.embedded("eg3d")  # none was trained in this folder
    assert asked["out"] == tmp_path / "models" / "i2t_flat.safetensors"
