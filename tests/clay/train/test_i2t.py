from dataclasses import replace

import pytest
import torch

from freestyle_core.clay.train import i2t as script
from freestyle_core.clay.train.i2t import CONFIG, front_cache, held_out_psnr, train_i2t
from freestyle_core.files.networks import load_eg3d, load_i2t, save_eg3d
from freestyle_core.pretrain.data import front_views
from freestyle_core.pretrain.train import PretrainSettings
from tests.tiny import tiny_eg3d, tiny_i2t

SETTINGS = PretrainSettings(
    iterations=4, batch_size=2, warmup=1, statistics=4, preview_every=0, betas=(0.9, 0.99)
)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(script, "CACHE_SHARD", 10)
    monkeypatch.setattr(script, "HELD_OUT", 2)
    monkeypatch.setattr(script, "CHECKPOINT_EVERY", 2)


@pytest.fixture
def eg3d_path(tmp_path):
    save_eg3d(tmp_path / "eg3d.safetensors", tiny_eg3d())
    return tmp_path / "eg3d.safetensors"


def run(folder, eg3d_path, name="i2t", **options):
    return train_i2t(
        folder / "data",
        folder / f"{name}.safetensors",
        eg3d_path=eg3d_path,
        settings=SETTINGS,
        config=tiny_i2t().config,
        identities=20,
        **options,
    )


def test_the_file_holds_the_network_and_names_its_generator(tmp_path, eg3d_path):
    trained = run(tmp_path, eg3d_path)
    loaded = load_i2t(tmp_path / "i2t.safetensors", eg3d=load_eg3d(eg3d_path))
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    # stored in half precision: eleven bits
    torch.testing.assert_close(loaded(image), trained(image), rtol=0.02, atol=0.02)


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path, eg3d_path):
    whole = run(tmp_path, eg3d_path)

    class Stop(Exception):
        pass

    def stopping(*args, **options):
        watch = options["watch"]

        def keep_and_stop(state):
            watch.on_checkpoint(state)
            raise Stop

        return real(*args, **{**options, "watch": replace(watch, on_checkpoint=keep_and_stop)})

    real = script.pretrain
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(script, "pretrain", stopping)
        run(tmp_path, eg3d_path, "parts")
    parts = run(tmp_path, eg3d_path, "parts")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_the_cache_holds_front_views_of_its_codes_and_belongs_to_one_generator(tmp_path):
    eg3d = tiny_eg3d()
    cache = front_cache(tmp_path / "c.pt", eg3d, 20, SETTINGS)
    assert cache.images.shape == (20, 3, 16, 16)
    image, planes = front_views(eg3d, cache.rows(torch.tensor([13])))
    assert (cache.images[13] / 255 - image[0]).abs().max() <= 0.5 / 255 + 1e-5
    grown = front_cache(tmp_path / "c.pt", eg3d, 30, SETTINGS)
    assert torch.equal(grown.ws[:20], cache.ws) and len(grown.images) == 30
    other = front_cache(tmp_path / "c.pt", tiny_eg3d(seed=4), 20, SETTINGS)
    assert not torch.equal(other.ws, cache.ws)


def test_batches_leave_the_held_out_identities_alone(tmp_path):
    eg3d = tiny_eg3d()
    cache = front_cache(tmp_path / "c.pt", eg3d, 20, SETTINGS)
    held_out = {bytes(image.numpy().tobytes()) for image in cache.images[-2:]}
    for step in range(40):
        images, planes = cache(step)
        for image in (images * 255).round().byte():
            assert image.numpy().tobytes() not in held_out
    image, own = front_views(eg3d, eg3d.backbone.mapping.w_avg.expand(1, 6, -1))
    assert planes.shape == (2, *own.shape[1:]) and image.shape[1:] == images.shape[1:]


def test_the_generators_own_planes_have_the_highest_psnr(tmp_path):
    eg3d = tiny_eg3d()
    cache = front_cache(tmp_path / "c.pt", eg3d, 20, SETTINGS)

    class Oracle:
        def __call__(self, image):
            fronts = [front_views(eg3d, cache.rows(torch.tensor([i]))) for i in (18, 19)]
            return min(fronts, key=lambda f: (f[0] - image).abs().sum())[1]

    assert held_out_psnr(cache, Oracle()) == pytest.approx(100.0)  # the floor of the error
    assert held_out_psnr(cache, tiny_i2t()) < 60


def test_the_clay_sizes_fit_the_clay_generator():
    from freestyle_core.clay.train.eg3d import CONFIG as EG3D_CONFIG

    for name in ("image_resolution", "plane_resolution", "plane_channels"):
        assert getattr(CONFIG, name) == getattr(EG3D_CONFIG, name)
    assert CONFIG.layer_resolutions == (4, 8, 16, 32, 64, 128)
