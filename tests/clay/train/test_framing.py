"""The framing network: what its training pictures say of themselves, and that it learns."""

import pytest
import torch

from freestyle_core.clay.train.framing import (
    CONFIG,
    ROOM,
    FramingTask,
    misplaced,
    train_framing,
)
from freestyle_core.errors import InputError, ShapeError
from freestyle_core.files.networks import framing_for, load_framing, save_framing
from freestyle_core.models.config import EG3DConfig
from freestyle_core.models.framing import FramingConfig, FramingNet
from freestyle_core.photo.crop import cropped

SMALL = FramingConfig(generator="clay", pixels=32, channels=(8, 8, 8), hidden=16)


def dot(x, y, size=80):
    """Return a white picture with a black dot at a place of the right crop, in its sides."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    middle = torch.tensor([x, y]) / ROOM * size + size / 2 - 0.5
    near = (columns - middle[0]) ** 2 + (rows - middle[1]) ** 2
    return (1 - torch.exp(-near / 8)).expand(3, size, size)


def place(image):
    """Return where the dark of a picture lies, in its sides from its middle."""
    dark = image.mean(0).max() - image.mean(0)
    dark = (dark - 0.5 * dark.max()).clamp_min(0)  # what is paper, and its noise, counts nothing
    at = (torch.arange(dark.shape[0]) + 0.5) / dark.shape[0] - 0.5
    total = dark.sum()
    return torch.stack([(dark.sum(0) * at).sum(), (dark.sum(1) * at).sum()]) / total


def test_labels_say_where_things_have_gone():
    generator = torch.Generator().manual_seed(3)
    x, y = 0.1, -0.15
    images, poses = dot(x, y).expand(8, 3, 80, 80), torch.zeros(8, 2)
    crops, labels = misplaced(images, poses, 64, generator)
    for crop, label in zip(crops, labels, strict=True):
        # undone by what the label says, the dot lies where it was, or at its mirror image
        middle = torch.tensor([0.5, 0.5]) + label[3:5]
        side = float(label[5].exp())
        left, top = (middle - side / 2).tolist()
        back = cropped(crop, left * 64, top * 64, side * 64, 64, white=True)
        angle = torch.deg2rad(-label[2])
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
        found = turn @ place(back)
        assert abs(abs(float(found[0])) - x) < 0.035 and abs(float(found[1]) - y) < 0.035


def test_it_learns():
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(64, 2, generator=generator) - 0.5
    images = torch.stack([dot(*(p * 0.5).tolist(), size=40) for p in places])
    poses = places * torch.tensor([80.0, 60.0])  # the dot is the pose
    task, told = FramingTask(steps=200, batch_size=16), []
    net = train_framing((images * 255).to(torch.uint8), poses, task, SMALL, told.append)
    assert len(told) == 2 and told[-1].startswith("step 200 of 200")
    crops, labels = misplaced(images, poses, 32, generator)
    with torch.no_grad():
        error = (net(crops) - labels)[:, :2].abs().mean()
    assert error < 0.8 * labels[:, :2].abs().mean()


def test_a_file_brings_it_back_and_other_pictures_are_refused(tmp_path):
    net = FramingNet(SMALL).eval()
    save_framing(tmp_path / "f.safetensors", net, dtype=torch.float32)
    again = load_framing(tmp_path / "f.safetensors")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert again.config == SMALL and torch.equal(again(x), net(x))
    with pytest.raises(ShapeError, match=r"\[B,3,32,32\]"):
        net(torch.zeros(2, 3, 64, 64))
    with pytest.raises(InputError, match="multiple"):
        FramingConfig(pixels=30)
    with pytest.raises(InputError, match="channels"):
        FramingConfig(channels=())


def test_only_the_embedded_family_has_one():
    assert framing_for(EG3DConfig()) is None
    config = load_framing().config
    assert config == CONFIG
