"""EG3D network pickles (`ffhq512-128.pkl`, fine-tuned ones, files of torch.save), nothing run.

`open_official` reads a file into inert records (`pickles.py`, `storages.py`, `archive.py`), finds
the generator among them (`contents.py`) and works out its config: sizes from the tensors, the rest
from the stored constructor and rendering arguments. `names.py` lists all that a file may mention.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from ...errors import FileFormatError, FreeStyleError
from ...models.config import PLANE_AXES, SR_UPSAMPLING, EG3DConfig, check_types
from .archive import START as ARCHIVE
from .archive import read_archive
from .byte_reader import Budget, Source
from .contents import Found, find_generator
from .names import NAMES
from .pickles import Record, read_pickle
from .storages import MAGIC, StoredTensor

SUFFIX = ".pkl"
LICENCE = "NVIDIA Source Code License for EG3D (non-commercial)"
MAX_NAME = 200  # characters of a text argument
MAX_NUMBERS = 16  # in an argument that is a list
# what reading missing arguments, or arguments of the wrong types, can raise
_FOREIGN_DATA = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
FOREIGN_STARTS = {
    b"<": "a web page",
    b"version https://git-lfs": "a pointer of git-lfs, not the file itself",
    b"\x1f\x8b": "compressed",
}


@dataclass(frozen=True)
class Official:
    """The generator of an official file; `tensors` are read while the file is open."""

    config: EG3DConfig
    tensors: dict[str, StoredTensor]  # official names

    def read(self) -> dict[str, Tensor]:
        """Return the state dict, in the precision of the file."""
        return {name: tensor.read() for name, tensor in self.tensors.items()}


@contextmanager
def open_official(path: Path | str) -> Iterator[Official]:
    """Yield the generator that a file holds; raises FileFormatError for anything else."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            snapshot = _read(path, file, size)
            yield _official(path, find_generator(path, snapshot), size)
    except OSError as error:
        raise FileFormatError(
            f"{path} cannot be read ({error.strerror or error}); check the name and the folder"
        ) from error


def _read(path: Path, file: BinaryIO, size: int) -> Any:
    start = file.read(32)
    _check_start(path, start)
    if start.startswith(ARCHIVE):
        return read_archive(file, str(path), Budget())
    source = Source(file, str(path), 0, size)
    snapshot = read_pickle(source, NAMES, Budget())
    if type(snapshot) is int and snapshot == MAGIC:
        raise FileFormatError(
            f"{path} is of the format that torch.save had before torch 1.6; load it with torch "
            "and save it again"
        )
    if source.left:
        raise source.refuse(f"goes on for {source.left} bytes after its end")
    return snapshot


def _check_start(path: Path, start: bytes) -> None:
    if not start:
        raise FileFormatError(f"{path} is empty; copy or download it again")
    for magic, what in FOREIGN_STARTS.items():
        if start.lstrip().startswith(magic):
            raise FileFormatError(
                f"{path} is {what}, not an EG3D network pickle; download it again from its "
                "official page"
            )


def _official(path: Path, found: Found, file_size: int) -> Official:
    tensors = dict(found.tensors)
    if sum(tensor.nbytes for tensor in tensors.values()) > file_size:
        raise FileFormatError(f"{path} has tensors larger than itself; it is damaged")
    tensors.pop("dataset_label_std", None)  # training statistics, which no network reads
    try:
        config = _config(path.stem, found.state, tensors)
    except FreeStyleError as error:
        raise FileFormatError(f"{path} describes no usable generator: {error}") from error
    except _FOREIGN_DATA as error:
        raise FileFormatError(
            f"{path} describes no usable generator ({type(error).__name__}: "
            f"{ascii(str(error))[1:-1][:80]}): settings or tensors of an EG3D are missing or "
            "changed; take the whole network pickle that training wrote"
        ) from error
    return Official(config, tensors)


def _config(name: str, state: Mapping[str, Any], tensors: Mapping[str, StoredTensor]) -> EG3DConfig:
    """Return the config: sizes as the tensors have them, all else as the file's arguments say."""
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    stored = state["_init_kwargs"]
    kwargs = _plain(stored)
    rendering = _plain(state.get("rendering_kwargs") or stored["rendering_kwargs"])
    kind = str(rendering["superresolution_module"]).rsplit("SuperresolutionHybrid", 1)[-1]
    kwargs.update(_backbone_sizes(shapes), rendering_kwargs=rendering)
    kwargs.update(_image_sizes(shapes, SR_UPSAMPLING.get(kind, 1)))
    config = EG3DConfig.from_official(kwargs, state["neural_rendering_resolution"], name=name)
    resolution = kwargs["plane_resolution"]
    config = replace(
        config,
        licence=LICENCE,
        plane_axes=_plane_axes(state),
        plane_channels=shapes[f"backbone.synthesis.b{resolution}.torgb.weight"][0] // 3,
        decoder_hidden=shapes["decoder.net.0.weight"][0],
        feature_channels=shapes["decoder.net.2.weight"][0] - 1,
    )
    check_types(EG3DConfig, vars(config))
    return config


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that are numbers, names, or a few numbers.

    Anything else could contain itself many times over, and grow without end when it is shown.
    """

    def is_simple(value: Any) -> bool:
        short = type(value) is str and len(value) <= MAX_NAME
        return short or value is None or type(value) in (bool, int, float)

    def is_plain(value: Any) -> bool:
        few = type(value) in (list, tuple) and len(value) <= MAX_NUMBERS
        return is_simple(value) or (few and all(map(is_simple, value)))

    return {key: value for key, value in values.items() if is_plain(value)}


def _backbone_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return the constructor arguments that the mapping network's and backbone's tensors imply."""
    (w_dim,) = shapes["backbone.mapping.w_avg"]
    embed = shapes.get("backbone.mapping.embed.weight")
    layers = sum(bool(re.fullmatch(r"backbone\.mapping\.fc\d+\.weight", key)) for key in shapes)
    widths = {}
    for key, shape in shapes.items():
        if found := re.fullmatch(r"backbone\.synthesis\.b(\d{1,5})\.conv1\.weight", key):
            widths[int(found[1])] = shape[0]
    return {
        "z_dim": shapes["backbone.mapping.fc0.weight"][1] - (w_dim if embed else 0),
        "w_dim": w_dim,
        "c_dim": embed[1] if embed else 0,
        "mapping_kwargs": {"num_layers": layers},
        "plane_resolution": max(widths),
        # the smallest numbers that give these widths as min(base // size, max)
        "channel_base": max(size * width for size, width in widths.items()),
        "channel_max": max(widths.values()),
    }


def _image_sizes(shapes: Mapping[str, tuple[int, ...]], upsampling: int) -> dict[str, Any]:
    """Return the constructor arguments that the super-resolution's tensors imply."""
    image = shapes["superresolution.block1.conv1.noise_const"][0]
    channels = [shapes[f"superresolution.block{i}.conv1.weight"][0] for i in (0, 1)]
    return {
        "img_resolution": image,
        "sr_kwargs": {"hidden_channels": channels, "input_resolution": image // upsampling},
    }


def _plane_axes(state: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the axes of the planes from the three matrices that the file's renderer keeps.

    Row 0 of a matrix is the axis along a plane's width, row 1 the one along its height.
    """
    renderer = state["_modules"].get("renderer")
    stored = renderer.state.get("plane_axes") if type(renderer) is Record else None
    if stored is None:
        return PLANE_AXES
    if stored.shape != (3, 3, 3):
        raise ValueError("plane_axes")
    matrices = stored.read().tolist()
    for matrix in matrices:
        if sorted(matrix) != [[0, 0, 1], [0, 1, 0], [1, 0, 0]]:
            raise ValueError("plane_axes")
    return tuple("".join("xyz"[row.index(1)] for row in matrix[:2]) for matrix in matrices)
