import pytest
import torch

from freestyle_core.checkpoint import TrainingState
from freestyle_core.errors import InputError, MismatchError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.pretrain import (
    GeneratorBatches,
    PretrainSettings,
    front_views,
    plane_statistics,
    pretrain,
    sample_ws,
)
from freestyle_core.render import render_views
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_portrait

SETTINGS = PretrainSettings(
    iterations=4, batch_size=2, warmup=1, statistics=8, preview_every=2, psi=(0.7, 0.7)
)


@pytest.fixture
def eg3d():
    return tiny_eg3d()


def test_pre_training_lowers_the_plane_loss_and_leaves_the_inputs_alone(eg3d):
    i2t = tiny_i2t()
    before = weights_hash(i2t.state_dict()), weights_hash(eg3d.state_dict())
    settings = PretrainSettings(
        iterations=60, warmup=5, statistics=32, preview_every=0, betas=(0.9, 0.99)
    )
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(4, 3, 16, 16, generator=generator)
    planes = eg3d.planes(sample_ws(eg3d, 4, generator, psi=(0.7, 0.7))).detach()
    result = pretrain(eg3d, i2t, settings=settings, batches=lambda step: (images, planes))
    assert len(result.losses) == 60
    start = tiny_i2t()
    start.set_plane_statistics(*plane_statistics(eg3d, settings))
    with torch.no_grad():
        first = (start(images) - planes).abs().mean()
        last = (result.i2t(images) - planes).abs().mean()  # of the averaged weights
    assert result.losses[0] == pytest.approx(first.item())
    assert last < 0.85 * first
    assert (weights_hash(i2t.state_dict()), weights_hash(eg3d.state_dict())) == before


def test_statistics_are_the_mean_planes_and_their_deviation_per_channel(eg3d):
    mean, scale = plane_statistics(eg3d, SETTINGS)
    generator = torch.Generator().manual_seed(0)
    planes = torch.cat(
        [eg3d.planes(sample_ws(eg3d, 1, generator, psi=(0.7, 0.7))) for _ in range(8)]
    )
    torch.testing.assert_close(mean, planes.mean(0))
    expected = (planes - planes.mean(0)).square().mean((0, 3, 4)).sqrt()
    torch.testing.assert_close(scale, expected)


def test_a_step_always_draws_the_same_batch_and_other_steps_others(eg3d):
    batches = GeneratorBatches(eg3d, SETTINGS)
    torch.testing.assert_close(batches(3), batches(3), rtol=0, atol=0)
    assert not torch.equal(batches(3)[1], batches(4)[1])


def test_front_views_are_what_the_renderer_shows(eg3d):
    portrait = tiny_portrait(eg3d)
    image, planes = front_views(eg3d, portrait.w)
    torch.testing.assert_close(planes, portrait.triplane.planes)
    shown = render_views(portrait, grid_cameras(1, eg3d.config.rig())[0]).image
    torch.testing.assert_close(image, shown)


def test_truncation_pulls_every_identity_by_its_own_psi(eg3d):
    eg3d.backbone.mapping.w_avg.copy_(torch.arange(8.0))
    full = sample_ws(eg3d, 3, torch.Generator().manual_seed(1), psi=(1.0, 1.0))
    part = sample_ws(eg3d, 3, torch.Generator().manual_seed(1), psi=(0.2, 0.8))
    average = torch.arange(8.0)
    share = (part - average) / (full - average)
    assert (share.amax((1, 2)) - share.amin((1, 2)) < 1e-3).all()
    assert share.min() > 0.2 and share.max() < 0.8
    assert len({round(s, 4) for s in share[:, 0, 0].tolist()}) == 3


def test_a_resumed_run_ends_bit_by_bit_where_an_uninterrupted_one_does(eg3d):
    states = []
    whole = pretrain(
        eg3d, tiny_i2t(), settings=SETTINGS, on_checkpoint=states.append, checkpoint_every=2
    )
    stored = TrainingState(2, dict(states[0].tensors), states[0].task)
    again = pretrain(eg3d, tiny_i2t(seed=7), settings=SETTINGS, resume=stored)
    assert again.losses == whole.losses
    assert weights_hash(again.i2t.state_dict()) == weights_hash(whole.i2t.state_dict())


def test_the_preview_shows_the_truth_beside_the_result_and_cancel_passes_through(eg3d):
    class Stop(BaseException):
        pass

    shapes = []

    def progress(done, total, preview=None):
        if preview is not None:
            shapes.append(tuple(preview.shape))
            raise Stop

    i2t = tiny_i2t()
    before = weights_hash(i2t.state_dict())
    with pytest.raises(Stop):
        pretrain(eg3d, i2t, settings=SETTINGS, progress=progress)
    assert shapes == [(3, 16, 32)]
    assert weights_hash(i2t.state_dict()) == before


def test_it_works_inside_inference_mode(eg3d):
    whole = pretrain(eg3d, tiny_i2t(), settings=SETTINGS)
    with torch.inference_mode():
        inside = pretrain(tiny_eg3d(), tiny_i2t(), settings=SETTINGS)
    assert inside.losses == whole.losses


def test_a_network_with_another_generators_sizes_is_refused(eg3d):
    with pytest.raises(MismatchError, match="plane_resolution 16, but EG3D tiny has 8"):
        pretrain(eg3d, tiny_i2t(plane_resolution=16), settings=SETTINGS)


def test_the_rate_rises_and_then_falls_along_half_a_cosine():
    settings = PretrainSettings(iterations=100, warmup=10, learning_rate=0.002)
    assert settings.rate(4) == pytest.approx(0.001, rel=0.01)  # half way up
    assert settings.rate(50) == pytest.approx(0.001)  # half way down
    assert settings.rate(100) == pytest.approx(0.0)


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"statistics": 0}, {"learning_rate": 2.0}])
def test_settings_outside_their_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        PretrainSettings(**wrong)
