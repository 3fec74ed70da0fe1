"""Three ways from a picture to a portrait, on tiny networks."""

import pytest
import torch

from freestyle_core.baselines.from_photo import portrait_of_photo
from freestyle_core.errors import InputError
from freestyle_core.geometry.cameras import orbit_cameras
from freestyle_core.method.render import render_views
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_perceptual, tiny_portrait


@pytest.fixture(scope="module")
def given():
    eg3d = tiny_eg3d()
    camera = orbit_cameras([10.0], [5.0], eg3d.config.rig())
    picture = render_views(tiny_portrait(eg3d, 5), camera).image[0]
    return picture, camera, {"eg3d": eg3d, "i2t": tiny_i2t(), "perceptual": tiny_perceptual()}


def error(portrait, picture, camera):
    return float((render_views(portrait, camera).image[0] - picture).square().mean())


def test_one_pass_gives_the_planes_that_the_i2t_makes(given):
    picture, camera, models = given
    portrait = portrait_of_photo(picture, camera, way="i2t", **models)
    with torch.no_grad():
        planes = models["i2t"](picture[None])
    torch.testing.assert_close(portrait.triplane.planes, planes)
    assert portrait.provenance["photo"] == "i2t" and not portrait.is_stylized


def test_planes_learn_the_picture_and_the_generator_stays(given):
    picture, camera, models = given
    before = {k: v.clone() for k, v in models["eg3d"].state_dict().items()}
    once = portrait_of_photo(picture, camera, way="i2t", **models)
    learnt = portrait_of_photo(picture, camera, way="auto", steps=6, **models)
    assert error(learnt, picture, camera) < error(once, picture, camera)
    assert learnt.provenance["photo"] == "planes" and learnt.provenance["steps"] == 6
    assert not learnt.is_stylized and learnt.renderer.parent is None
    assert all(torch.equal(before[k], v) for k, v in models["eg3d"].state_dict().items())


def test_without_an_i2t_the_generator_is_tuned(given):
    picture, camera, models = given
    alone = {**models, "i2t": None}
    portrait = portrait_of_photo(picture, camera, way="auto", steps=2, seed=3, **alone)
    settings = portrait.provenance["settings"]
    assert portrait.renderer.parent is not None and settings["seed"] == 3
    assert (settings["latent"]["steps"], settings["tune"]["steps"]) == (2, 2)
    with pytest.raises(InputError, match="needs the I2T"):
        portrait_of_photo(picture, camera, way="planes", **alone)
    with pytest.raises(InputError, match="got 'magic'"):
        portrait_of_photo(picture, camera, way="magic", **models)


def test_without_a_camera_it_is_a_front_view(given):
    picture, _, models = given
    front = orbit_cameras([0.0], [0.0], models["eg3d"].config.rig())
    a, b = (
        portrait_of_photo(picture, camera, way="planes", steps=3, **models)
        for camera in (None, front)
    )
    assert torch.equal(a.triplane.planes, b.triplane.planes)
