"""How the suite runs, golden data of EG3D's reference implementation, and its small generators."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from freestyle_core.models.config import EG3DConfig
from freestyle_core.models.eg3d import EG3D
from freestyle_core.types import CameraBatch

TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"

if "PYTEST_XDIST_WORKER" in os.environ:  # several at once: threads would get into each other's way
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
    torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests together, for what they share, and all that need ComfyUI."""
    for item in items:
        place = item.path.relative_to(TESTS)
        group = place.parts[0] if place.parts[0] == "comfy" else place.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """Leave the number of threads as it was: trainings set it, and sums depend on it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _generator(name: str) -> SimpleNamespace:
    """Return the generator, its reference inputs and outputs, and its official arguments."""
    io_path = GOLDEN / f"{name}_io.safetensors"
    with safe_open(io_path, "pt") as file:
        init_kwargs = json.loads(file.metadata()["init_kwargs"])
    eg3d = EG3D(EG3DConfig.from_official(init_kwargs, 16, name=name))
    eg3d.load_state_dict(load_file(GOLDEN / f"{name}_state.safetensors"))
    eg3d.requires_grad_(False)
    io = load_file(io_path)
    cameras = CameraBatch(io["c"][:, :16].view(-1, 4, 4), io["c"][:, 16:].view(-1, 3, 3))
    return SimpleNamespace(eg3d=eg3d, io=io, cameras=cameras, init_kwargs=init_kwargs)


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """An FFHQ-like generator: 8XDC, 16 x 16 rays, 64 x 64 images."""
    return _generator("eg3d_tiny")


@pytest.fixture(scope="session")
def cars() -> SimpleNamespace:
    """A ShapeNet-like generator: 2X, white background, box of 1.6."""
    return _generator("eg3d_tiny_cars")


@pytest.fixture(scope="session")
def ops() -> dict[str, torch.Tensor]:
    """Inputs and outputs of single operations."""
    return load_file(GOLDEN / "eg3d_ops.safetensors")


@pytest.fixture(scope="session")
def golden_cameras() -> dict[str, torch.Tensor]:
    """Camera matrices of EG3D's samplers."""
    return load_file(GOLDEN / "eg3d_cameras.safetensors")


@pytest.fixture
def small_config() -> EG3DConfig:
    """A generator small enough to train in a test; box and background as in the clay models."""
    return EG3DConfig(
        name="small",
        licence="none",
        z_dim=8,
        w_dim=8,
        plane_resolution=16,
        plane_channels=4,
        channel_base=64,
        channel_max=8,
        image_resolution=16,
        neural_resolution=8,
        decoder_hidden=8,
        feature_channels=5,
        superresolution="2X",
        sr_channels=(6, 4),
        sr_input_resolution=8,
        white_background=True,
        depth_samples=6,
        importance_samples=6,
        camera_pivot=(0.0, 0.0, 0.0),
        empty_outside_box=True,
    )
