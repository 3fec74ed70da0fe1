"""Official EG3D network pickles (`ffhq512-128.pkl` and its kin): config and tensors, run nothing.

`open_official` reads a file into inert records (`pickles.py`, `storages.py`), finds the averaged
generator G_ema among them and works out its config: sizes from the tensors, the rest from the
stored constructor and rendering arguments. `NAMES` lists all that such a file may mention.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import FileFormatError, FreeStyleError
from ...models.config import PLANE_AXES, SR_UPSAMPLING, EG3DConfig, check_types
from .byte_reader import Blob, Budget, Source
from .pickles import Record, Vocabulary, read_pickle, unfit
from .storages import StoredTensor, read_storage, rebuild_parameter, rebuild_tensor

SUFFIX = ".pkl"
GENERATOR = "TriPlaneGenerator"
LICENCE = "NVIDIA Source Code License for EG3D (non-commercial)"
PERSISTENT_VERSIONS = range(1, 7)  # of the format in which classes travel with their source
MAX_DEPTH = 12  # of modules inside modules; official files have 5
MAX_TENSORS = 4096  # in one network; official files have 177
MAX_MODULES = 4096
MAX_NAME = 200  # characters of a text argument
MAX_NUMBERS = 16  # in an argument that is a list
LAYERS = {  # attributes that this library's layers have built in
    ("SynthesisBlock", "architecture"): "skip",
    ("SynthesisLayer", "activation"): "lrelu",
    ("SynthesisLayer", "use_noise"): True,
}
NUMPY_FORMATS = {"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i", "b1": "<?"}
# what reading missing arguments, or arguments of the wrong types, can raise
_FOREIGN_DATA = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
FOREIGN_STARTS = {
    b"PK\x03\x04": "a zip or a newer torch file",
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
    """Yield what an official EG3D pickle holds; raises FileFormatError for anything else."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            _check_start(path, file.read(32))
            source = Source(file, str(path), 0, size)
            snapshot = read_pickle(source, NAMES, Budget())
            if source.left:
                raise source.refuse(f"goes on for {source.left} bytes after its end")
            yield _generator(path, snapshot, size)
    except OSError as error:
        raise FileFormatError(
            f"{path} cannot be read ({error.strerror or error}); check the name and the folder"
        ) from error


def _check_start(path: Path, start: bytes) -> None:
    if not start:
        raise FileFormatError(f"{path} is empty; download it again from its official page")
    for magic, what in FOREIGN_STARTS.items():
        if start.lstrip().startswith(magic):
            raise FileFormatError(
                f"{path} is {what}, not an EG3D network pickle; download it again from its "
                "official page"
            )


# What stands in for the names of the file ---------------------------------------------------------


def _empty_dict(arguments: tuple, budget: Budget) -> dict:
    if arguments:
        raise unfit("has an OrderedDict made from something")
    return {}


def _set_of(arguments: tuple, budget: Budget) -> set:
    if len(arguments) != 1 or type(arguments[0]) is not list:
        raise unfit("has a set that is not made from a list")
    budget.opcodes -= len(arguments[0])
    if any(type(item) is not str for item in arguments[0]):
        raise unfit("has a set of something else than names")
    return set(arguments[0])


def _persistent_object(arguments: tuple, budget: Budget) -> Record:
    """Return an object whose class travels with its source text; that text is left aside."""
    if len(arguments) != 1 or type(arguments[0]) is not dict:
        raise unfit("has a persistent object that is not described by a dict")
    said = arguments[0]
    kind, version, state = said.get("class_name"), said.get("version"), said.get("state")
    if said.get("type") != "class" or type(kind) is not str or type(state) is not dict:
        raise unfit("has a persistent object without class name or state")
    if type(version) is not int or version not in PERSISTENT_VERSIONS:
        raise unfit("has a persistent object of an unknown version")
    return Record(kind, state)


def _numpy_dtype(arguments: tuple, budget: Budget) -> Record:
    if not arguments or type(arguments[0]) is not str or arguments[0] not in NUMPY_FORMATS:
        raise unfit("has a numpy type that networks do not use")
    return Record(arguments[0])


def _numpy_number(arguments: tuple, budget: Budget) -> float | int | bool:
    if len(arguments) != 2 or type(arguments[0]) is not Record or type(arguments[1]) is not Blob:
        raise unfit("has a numpy number without type or bytes")
    dtype, data = arguments
    order = dtype.state[1] if type(dtype.state) is tuple and len(dtype.state) > 1 else "<"
    code = NUMPY_FORMATS.get(dtype.kind)
    if code is None or type(order) is not str or order not in ("<", "|", "="):
        raise unfit("has a numpy number of an unknown type")
    if data.length != struct.calcsize(code):
        raise unfit(f"has a numpy number of {data.length} bytes, which do not fit its type")
    return struct.unpack(code, data.read(8))[0]


def _record_makers(*names: tuple[str, str]) -> dict[tuple[str, str], Any]:
    return {name: (lambda kind=name[1]: Record(kind)) for name in names}


NAMES = Vocabulary(
    calls={
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_object,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
        ("torch._utils", "_rebuild_parameter_with_state"): rebuild_parameter,
        ("torch.storage", "_load_from_bytes"): read_storage,
        ("collections", "OrderedDict"): _empty_dict,
        ("builtins", "set"): _set_of,
        ("__builtin__", "set"): _set_of,
        ("numpy", "dtype"): _numpy_dtype,
        ("numpy._core.multiarray", "scalar"): _numpy_number,
        ("numpy.core.multiarray", "scalar"): _numpy_number,  # numpy 1
    },
    objects={
        ("dnnlib.util", "EasyDict"): dict,
        **_record_makers(
            ("training.triplane", "OSGDecoder"),
            ("training.volumetric_rendering.renderer", "ImportanceRenderer"),
            ("training.volumetric_rendering.ray_marcher", "MipRayMarcher2"),
            ("training.volumetric_rendering.ray_sampler", "RaySampler"),
            ("torch.nn.modules.container", "Sequential"),
            ("torch.nn.modules.activation", "Softplus"),
        ),
    },
)


# From records to a generator ----------------------------------------------------------------------


def _generator(path: Path, snapshot: Any, file_size: int) -> Official:
    record = snapshot.get("G_ema") if type(snapshot) is dict else None
    if type(record) is not Record or record.kind != GENERATOR:
        found = f"a {record.kind[:40]!a}" if type(record) is Record else "none"
        raise FileFormatError(
            f"{path} needs a {GENERATOR} named G_ema and has {found}; "
            "only network pickles of EG3D can be loaded"
        )
    tensors = _NetworkWalk(path).tensors_of(record)
    if sum(tensor.nbytes for tensor in tensors.values()) > file_size:
        raise FileFormatError(f"{path} has tensors larger than itself; it is damaged")
    tensors.pop("dataset_label_std", None)  # training statistics, which no network reads
    try:
        config = _config(path.stem, record.state, tensors)
    except FreeStyleError as error:
        raise FileFormatError(f"{path} describes no usable generator: {error}") from error
    except _FOREIGN_DATA as error:
        raise FileFormatError(
            f"{path} describes no usable generator ({type(error).__name__}: "
            f"{ascii(str(error))[1:-1][:80]}); "
            "download it again from its official page"
        ) from error
    return Official(config, tensors)


class _NetworkWalk:
    """Collects a network's tensors by name; bounded, for records may contain each other."""

    def __init__(self, path: Path) -> None:
        self.path, self.modules = path, 0
        self.tensors: dict[str, StoredTensor] = {}

    def tensors_of(self, record: Record) -> dict[str, StoredTensor]:
        """Return every parameter and persistent buffer of a network under its official name."""
        self._visit(record, "", 0)
        return self.tensors

    def _visit(self, record: Any, prefix: str, depth: int) -> None:
        self.modules += 1
        if type(record) is not Record or type(record.state) is not dict:
            raise self._broken(f"{prefix[:60]!a} is not a network")
        if depth > MAX_DEPTH or self.modules > MAX_MODULES or len(self.tensors) > MAX_TENSORS:
            raise self._broken("its networks are nested without end")
        for (kind, attribute), expected in LAYERS.items():
            if record.kind == kind and record.state.get(attribute, expected) != expected:
                raise self._broken(f"a {kind} with another {attribute} than {expected}")
        passing = record.state.get("_non_persistent_buffers_set", ())
        for group in ("_parameters", "_buffers"):
            for name, tensor in self._items(record, group):
                if tensor is None or (group == "_buffers" and name in passing):
                    continue
                if type(tensor) is not StoredTensor:
                    raise self._broken(f"{(prefix + name)[:60]!a} is not a tensor")
                self.tensors[prefix + name] = tensor
        for name, module in self._items(record, "_modules"):
            if module is not None:
                self._visit(module, f"{prefix}{name}.", depth + 1)

    def _items(self, record: Record, group: str) -> list[tuple[str, Any]]:
        values = record.state.get(group)
        if type(values) is not dict:
            raise self._broken(f"a network without {group}")
        for name in values:
            if type(name) is not str or not re.fullmatch(r"\w{1,64}", name, re.ASCII):
                raise self._broken(f"{group} has an unusable name")
        return list(values.items())

    def _broken(self, reason: str) -> FileFormatError:
        return FileFormatError(
            f"{self.path} does not hold a whole network: {reason}; "
            "download it again from its official page"
        )


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
