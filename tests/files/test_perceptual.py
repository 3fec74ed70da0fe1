"""Which perceptual distance a run gets, and VGG-LPIPS from files on this machine."""

import logging
import socket
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import Conv2d, Linear

from freestyle_core.errors import FileFormatError, FreeStyleError
from freestyle_core.files import perceptual as files
from freestyle_core.files.networks import save_perceptual
from freestyle_core.files.perceptual import VGG, VGG_FILE, find_vgg, load_distance, load_vgg
from freestyle_core.models.perceptual import PerceptualDistance
from tests.tiny import tiny_perceptual


class FakeVGG(nn.Module):
    """Two of the slices of lpips' VGG, with its names."""

    def __init__(self):
        super().__init__()
        self.slice1, self.slice2 = nn.Sequential(), nn.Sequential()
        self.slice1.add_module("0", Conv2d(3, 2, 3))
        self.slice2.add_module("5", Conv2d(2, 2, 3))


class FakeLPIPS(nn.Module):
    def __init__(self, net, pnet_rand, verbose):
        super().__init__()
        assert (net, pnet_rand) == ("vgg", True)  # otherwise lpips would download VGG
        self.net = FakeVGG()

    def forward(self, a, b, normalize):
        assert normalize  # images are in [0,1]
        return (a - b).abs().mean((1, 2, 3), keepdim=True) * self.net.slice1[0].bias[0]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("it reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """PyTorch's empty cache of downloads."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def fake_lpips(monkeypatch, cache):
    module = types.ModuleType("lpips")
    module.LPIPS = FakeLPIPS
    monkeypatch.setitem(sys.modules, "lpips", module)
    return cache


@pytest.fixture
def features(monkeypatch, tmp_path):
    """A perceptual file in place of the embedded one."""
    save_perceptual(tmp_path / "features.safetensors", tiny_perceptual().net)
    monkeypatch.setattr(files, "embedded", lambda part: tmp_path / f"{part}.safetensors")
    (tmp_path / "features.safetensors").rename(tmp_path / "perceptual.safetensors")
    return tmp_path / "perceptual.safetensors"


def vgg_state():
    shapes = {"0.weight": (2, 3, 3, 3), "0.bias": (2,), "5.weight": (2, 2, 3, 3), "5.bias": (2,)}
    return {f"features.{name}": torch.full(shape, 4.0) for name, shape in shapes.items()}


def test_without_its_package_vgg_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(FreeStyleError, match="pip install -r requirements.txt"):
        load_vgg()


@pytest.mark.parametrize(
    "fault", [RuntimeError("operator torchvision::nms does not exist"), OSError("undefined symbol")]
)
def test_a_torchvision_of_another_torch_is_named_and_auto_goes_on(
    fault, monkeypatch, cache, features, caplog
):
    def fail(name):
        raise fault

    monkeypatch.setattr(files, "import_module", fail)
    with pytest.raises(FreeStyleError) as caught:
        load_vgg()
    assert str(fault) in str(caught.value) and "torchvision made for" in str(caught.value)
    distance = load_distance(image_resolution=512)
    assert isinstance(distance, PerceptualDistance) and str(fault) in caplog.text


def test_without_its_weights_vgg_names_address_size_and_folder(fake_lpips, tmp_path):
    with pytest.raises(FileFormatError) as caught:
        load_vgg()
    assert f"https://download.pytorch.org/models/{VGG_FILE} (528 MB) into {fake_lpips}" in str(
        caught.value
    )
    with pytest.raises(FileFormatError, match=str(tmp_path / "lpips")):  # a folder of one's own
        load_distance(VGG, image_resolution=16, folders=[tmp_path / "lpips"])


def test_weights_in_the_cache_are_used_and_frozen(fake_lpips):
    torch.save({**vgg_state(), "classifier.0.weight": torch.ones(1)}, fake_lpips / VGG_FILE)
    distance = load_vgg()
    a, b = torch.zeros(2, 3, 8, 8, requires_grad=True), torch.ones(2, 3, 8, 8)
    got = distance(a, b)
    torch.testing.assert_close(got, torch.tensor([4.0, 4.0]))  # |0 - 1| times the bias on disk
    got.sum().backward()
    assert a.grad is not None
    assert not any(p.requires_grad for p in distance.parameters())


def test_a_given_folder_comes_before_the_cache(fake_lpips, tmp_path):
    folder = tmp_path / "lpips"
    folder.mkdir()
    assert find_vgg([folder]) is None
    torch.save(vgg_state(), fake_lpips / VGG_FILE)
    assert find_vgg([folder]) == fake_lpips / VGG_FILE
    torch.save(vgg_state(), folder / VGG_FILE)
    assert find_vgg([folder]) == folder / VGG_FILE


def test_it_passes_gradients_on_when_loaded_in_inference_mode(fake_lpips):
    torch.save(vgg_state(), fake_lpips / VGG_FILE)
    with torch.inference_mode():
        distance = load_vgg()
        with torch.inference_mode(False):
            a = torch.zeros(1, 3, 8, 8, requires_grad=True)
            distance(a, torch.ones(1, 3, 8, 8)).sum().backward()
    assert a.grad.abs().sum() > 0


def missing(folder):
    state = vgg_state()
    del state["features.5.bias"]
    torch.save(state, folder / VGG_FILE)


def misshapen(folder):
    torch.save({**vgg_state(), "features.0.bias": torch.ones(3)}, folder / VGG_FILE)


BROKEN = {
    "missing": (missing, "no fitting features.5.bias"),
    "misshapen": (misshapen, "no fitting features.0.bias"),
    "no weights": (lambda f: torch.save([1, 2], f / VGG_FILE), "it holds a list"),
    "code": (lambda f: torch.save(Linear(2, 2), f / VGG_FILE), "cannot be read as VGG16"),
    "text": (lambda f: (f / VGG_FILE).write_text("<html>"), "cannot be read as VGG16"),
    "empty": (lambda f: (f / VGG_FILE).write_bytes(b""), "cannot be read as VGG16"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_or_foreign_file_is_refused(case, fake_lpips):
    write, message = BROKEN[case]
    write(fake_lpips)
    with pytest.raises(FileFormatError, match=message) as caught:
        load_vgg()
    assert VGG_FILE in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_auto_takes_vgg_for_large_pictures_where_it_is(fake_lpips, features, caplog):
    caplog.set_level(logging.INFO)
    torch.save(vgg_state(), fake_lpips / VGG_FILE)
    large = load_distance(image_resolution=512)
    assert large.name.startswith("VGG-LPIPS ")
    assert f"perceptual distance: {large.name}" in caplog.text
    small = load_distance(image_resolution=128)
    assert isinstance(small, PerceptualDistance)


@pytest.mark.parametrize("package", [True, False])
def test_auto_falls_back_to_the_features_and_offers_the_download(
    package, request, cache, features, caplog, monkeypatch
):
    if package:
        request.getfixturevalue("fake_lpips")
    else:
        monkeypatch.setitem(sys.modules, "lpips", None)
    distance = load_distance(image_resolution=512)
    assert distance.name.startswith("perceptual features ")
    expected = tiny_perceptual()
    a, b = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(distance(a, b), expected(a, b))
    warning = caplog.text
    assert ("download https://" in warning) if package else ("pip install -r" in warning)
    assert f"until then, {distance.name} stand in" in warning


def test_the_name_changes_with_the_weights(fake_lpips):
    torch.save(vgg_state(), fake_lpips / VGG_FILE)
    first = load_vgg().name
    torch.save({**vgg_state(), "features.0.bias": torch.zeros(2)}, fake_lpips / VGG_FILE)
    assert load_vgg().name != first


@pytest.mark.filterwarnings("error")
def test_the_real_package_with_torchvisions_file_needs_no_network(cache, monkeypatch):
    import lpips
    import torchvision

    def no_network(*args):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    torch.manual_seed(0)
    state = torchvision.models.vgg16(weights=None).features.state_dict()
    torch.save({f"features.{name}": value for name, value in state.items()}, cache / VGG_FILE)
    distance = load_vgg()
    loaded = distance.lpips.net.state_dict()
    assert torch.equal(loaded["slice5.28.weight"], state["28.weight"])
    file = Path(lpips.__file__).parent / "weights/v0.1/vgg.pth"
    own = torch.load(file, map_location="cpu", weights_only=True)
    assert torch.equal(distance.lpips.lin0.model[1].weight, own["lin0.model.1.weight"])
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(2, 3, 64, 64, generator=generator) for _ in range(2))
    a.requires_grad_(True)
    got = distance(a, b)
    assert got.shape == (2,) and (got > 0).all()
    torch.testing.assert_close(distance(b, b), torch.zeros(2))
    got.sum().backward()
    assert a.grad.abs().sum() > 0
