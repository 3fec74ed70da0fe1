import pytest
import torch

from freestyle_core.errors import InputError, ShapeError
from freestyle_core.models.perceptual import PerceptualConfig, PerceptualDistance, PerceptualNet


def net(**changes):
    torch.manual_seed(0)
    return PerceptualNet(PerceptualConfig(**{"channels": (4, 6, 8), **changes}))


def pictures(count, seed=0, size=16):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_every_stage_halves_the_size():
    shapes = [tuple(f.shape) for f in net().features(pictures(2))]
    assert shapes == [(2, 4, 16, 16), (2, 6, 8, 8), (2, 8, 4, 4)]


def test_the_heads_have_the_configured_sizes():
    styles, identity = net(styles=5, identity=7)(pictures(2))
    assert styles.shape == (2, 5) and identity.shape == (2, 7)


class FixedFeatures(torch.nn.Module):
    """One stage with 2 channels on 1 x 2 positions: (3, 4) and (1, 0), or (4, 3) and (1, 0)."""

    def features(self, image):
        first = [3.0, 4.0] if image.sum() == 0 else [4.0, 3.0]
        return [torch.tensor([[[[first[0], 1.0]], [[first[1], 0.0]]]])]


def test_the_distance_is_squared_difference_of_unit_features_averaged():
    distance = PerceptualDistance(FixedFeatures())
    # (0.6, 0.8) - (0.8, 0.6): 0.04 + 0.04 = 0.08 at one of two positions: mean 0.04
    got = distance(torch.zeros(1, 3, 1, 2), torch.ones(1, 3, 1, 2))
    torch.testing.assert_close(got, torch.tensor([0.04]))


def test_a_picture_is_at_distance_zero_from_itself_and_nearer_to_a_similar_one():
    distance = PerceptualDistance(net())
    a, other = pictures(3), pictures(3, seed=1)
    assert torch.equal(distance(a, a), torch.zeros(3))
    near, far = distance(a, 0.9 * a + 0.1 * other), distance(a, other)
    assert (near < far).all() and (near > 0).all()


def test_images_of_a_batch_do_not_influence_each_other():
    distance = PerceptualDistance(net())
    a, b = pictures(2), pictures(2, seed=1)
    torch.testing.assert_close(distance(a, b)[1:], distance(a[1:], b[1:]))


def test_gradients_reach_the_image_but_not_the_network():
    source = net()
    distance = PerceptualDistance(source)
    image = pictures(1).requires_grad_()
    distance(image, pictures(1, seed=1)).sum().backward()
    assert image.grad.abs().min() > 0
    assert all(p.grad is None and not p.requires_grad for p in distance.parameters())
    assert all(p.requires_grad for p in source.parameters())  # the distance has its own copy


def test_a_uniform_image_gives_finite_gradients():
    image = torch.ones(1, 3, 16, 16, requires_grad=True)
    PerceptualDistance(net())(image, torch.ones(1, 3, 16, 16)).sum().backward()
    assert torch.isfinite(image.grad).all()


def test_wrong_shapes_are_refused():
    distance = PerceptualDistance(net())
    with pytest.raises(ShapeError, match="one shape"):
        distance(pictures(1), pictures(2))
    with pytest.raises(ShapeError, match="at least 4 pixels"):
        distance(pictures(1, size=2), pictures(1, size=2))


def test_a_config_survives_json_and_refuses_no_channels():
    config = PerceptualConfig(channels=(4, 6), styles=3)
    assert PerceptualConfig.from_dict(config.to_dict()) == config
    with pytest.raises(InputError, match="channels"):
        PerceptualConfig(channels=())
