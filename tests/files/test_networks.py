"""Networks as files: what a bundle must hold, wherever it lies."""

import pytest
import torch

from freestyle_core.errors import FileFormatError
from freestyle_core.files import networks
from freestyle_core.files.bundle import load_bundle, save_bundle
from freestyle_core.files.networks import is_shipped, load_eg3d, save_eg3d
from tests.tiny import tiny_eg3d


@pytest.fixture(params=["foreign", "shipped"])
def place(request, tmp_path, monkeypatch):
    """Return a folder for networks: any, or that of the embedded models."""
    if request.param == "shipped":
        monkeypatch.setattr(networks, "ASSETS", tmp_path / "assets" / "clay")
    folder = tmp_path / "assets" / "clay"
    folder.mkdir(parents=True)
    assert is_shipped(folder / "eg3d.safetensors") == (request.param == "shipped")
    return folder


def saved(path, change):
    """Write a generator whose tensors are changed, and return its file."""
    save_eg3d(path, tiny_eg3d())
    bundle = load_bundle(path, "eg3d")
    save_bundle(path, "eg3d", bundle.config, change(dict(bundle.state)))
    return path


def test_a_loaded_network_is_the_saved_one_and_can_be_trained(place):
    eg3d = tiny_eg3d()
    save_eg3d(place / "one.safetensors", eg3d)
    with torch.inference_mode():
        loaded = load_eg3d(place / "one.safetensors")
    assert not loaded.training
    for name, value in eg3d.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    assert not any(value.is_inference() for value in loaded.parameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "decoder.net.0.bias"}, "lacks tensor"),
        (lambda s: {**s, "other": torch.zeros(2)}, "has the unknown tensor other"),
        (lambda s: {k: v[None] for k, v in s.items()}, "has misshapen tensor"),
    ],
    ids=["lacks one", "one too many", "other shapes"],
)
def test_what_does_not_fit_its_config_is_refused(place, change, said):
    path = saved(place / "odd.safetensors", change)
    with pytest.raises(FileFormatError, match=said) as caught:
        load_eg3d(path)
    assert str(path) in str(caught.value)


def test_only_what_lies_among_the_assets_is_shipped(tmp_path):
    assert is_shipped(networks.embedded("eg3d")) and is_shipped(networks.embedded("editor") / "vae")
    assert not is_shipped(tmp_path / "eg3d.safetensors")
    assert not is_shipped(networks.ASSETS / ".." / ".." / ".." / "eg3d.safetensors")
