"""What fine-tuning and inversion programs save around a generator: loaded, with nothing run."""

import argparse
import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from freestyle_core.errors import FileFormatError
from freestyle_core.files.bundle import weights_hash
from freestyle_core.files.networks import load_eg3d
from freestyle_core.files.official.byte_reader import Budget, Source
from freestyle_core.files.official.names import NAMES
from freestyle_core.files.official.pickles import Record, Symbol, read_pickle
from tests.official_pickle import arguments_of, layout_of, write_official
from tests.pickle_parts import CANARY, SYSTEM
from tests.pickle_tools import pickled
from tests.pickle_writer import KINDS, Call, Global, New, Writer
from tests.tiny import tiny_eg3d


class ArchiveWriter(Writer):
    """Writes a pickle whose storages are entries of a zip, as torch.save does."""

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.entries, self.kept_tensors = {}, []

    def save_storage(self, value):
        raise AssertionError

    def save(self, value):
        if type(value).__name__ != "Storage":
            return super().save(value)
        kind, count, data = value.plain
        key = str(len(self.entries))
        self.entries[key] = data
        super().save(("storage", Global("torch", kind), key, "cuda:0", count))
        self.emit(b"Q")


def write_archive(path, value, *, compression=zipfile.ZIP_STORED, change=None, folder="archive"):
    """Write what `torch.save(value, path)` would; `value` may name classes that do not exist."""
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    writer.dump(value)
    entries = {f"{folder}/data.pkl": file.getvalue(), f"{folder}/byteorder": b"little"}
    entries |= {f"{folder}/data/{key}": data for key, data in writer.entries.items()}
    entries[f"{folder}/version"] = b"3\n"
    if change is not None:
        change(entries)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(autouse=True)
def storages_know_their_numbers(monkeypatch):
    """Keep the plain elements beside the byte string that the writer of pickles makes of them."""
    from tests import pickle_writer

    made = pickle_writer.Storage.__init__

    def keep(self, tensor):
        made(self, tensor)
        whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
        self.plain = KINDS[tensor.dtype], whole.numel(), whole.numpy().tobytes()

    monkeypatch.setattr(pickle_writer.Storage, "__init__", keep)


def state_of(eg3d, prefix=""):
    return OrderedDict((prefix + k, v.clone()) for k, v in eg3d.state_dict().items())


def assert_is(eg3d, path):
    got = load_eg3d(path)
    assert weights_hash(got.state_dict()) == weights_hash(eg3d.state_dict())
    assert (got.config.box_size, got.config.neural_resolution) == (1.0, 8)
    assert got.config.depth_samples == 6 and got.config.camera_radius == 2.7


BESIDE = {
    "latent": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.ones((2, 3))),
    "records": np.zeros(2, dtype=[("yaw", "f4"), ("name", "U8")]),
    "names": np.array(["a", "bc"]),
    "empty": np.zeros(0, dtype=np.int64),
    "truth": np.array([True, False]),
    "half": np.float16([1, 2]),
    "number": np.float64(0.5),
    "device": torch.device("cuda", 0),
    "cpu": torch.device("cpu"),
    "format": torch.float16,
    "size": torch.Size([1, 14, 512]),
    "w": torch.randn(1, 4, 8),
    "steps": {0: 1.5, 1: None},
    "opts": argparse.Namespace(lr=1e-3, name="pti", device=torch.device("cpu")),
}


@pytest.mark.parametrize("protocol", [3, 4, 5])  # torch.save writes 2, see below
def test_arrays_devices_and_options_beside_the_generator_are_inert(tmp_path, protocol):
    """Written by Python's own pickler with numpy and torch."""
    eg3d = tiny_eg3d()
    snapshot = {"G_ema": state_of(eg3d), **arguments_of(eg3d), **BESIDE}
    path = tmp_path / "own.pkl"
    path.write_bytes(pickle.dumps(snapshot, protocol=protocol))
    assert_is(eg3d, path)


@pytest.mark.parametrize("ending", ["pt", "pth", "pkl", "PT"])
def test_a_file_of_torch_save_loads(tmp_path, ending):
    eg3d = tiny_eg3d()
    path = tmp_path / f"own.{ending}"
    torch.save({"G_ema": state_of(eg3d), **arguments_of(eg3d), **BESIDE}, path)
    assert_is(eg3d, path)


def test_old_numpy_names_are_the_same(tmp_path):
    data = pickle.dumps(BESIDE["latent"], protocol=2)
    for core in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        renamed = data.replace(b"numpy._core.multiarray", core)
        file = io.BytesIO(renamed)
        got = read_pickle(Source(file, "f", 0, len(renamed)), NAMES, Budget())
        assert type(got) is Record and got.kind == "ndarray" and got.state[1] == (2, 3)


@pytest.mark.parametrize("state", [None, (3,), (3, "<"), (3, "|"), (3, "<", None, None)])
def test_a_numpy_number_is_read_in_the_order_that_its_type_names_if_it_does(state):
    dtype = Call(Global("numpy", "dtype"), ("f8", False, True), state)
    number = Call(Global("numpy.core.multiarray", "scalar"), (dtype, struct.pack("<d", -2.5)))
    data = pickled(number)
    assert read_pickle(Source(io.BytesIO(data), "f", 0, len(data)), NAMES, Budget()) == -2.5


def test_a_pickle_may_have_400_000_instructions_and_no_more():
    def read(count):  # of None in a tuple; beside them a mark, the tuple and the end
        data = b"\x80\x04(" + b"N" * count + b"t."
        return read_pickle(Source(io.BytesIO(data), "f", 0, len(data)), NAMES, Budget())

    assert len(read(399_997)) == 399_997
    with pytest.raises(FileFormatError, match="f has over 400000 instructions"):
        read(399_998)


def test_a_device_is_a_record_and_a_format_a_name():
    data = pickle.dumps((torch.device("cuda", 1), torch.float16), protocol=2)
    device, number_format = read_pickle(
        Source(io.BytesIO(data), "f", 0, len(data)), NAMES, Budget()
    )
    assert type(device) is Record and device.kind == "device"
    assert number_format == Symbol(("torch", "float16"))


def bare(eg3d):
    return layout_of(eg3d).network()


SHAPES = {
    "bare generator": lambda eg3d: bare(eg3d),
    "G": lambda eg3d: {"G": bare(eg3d), "D": None},
    "G_ema before G": lambda eg3d: {"G": bare(tiny_eg3d(5)), "G_ema": bare(eg3d)},
    "generator": lambda eg3d: {"generator": bare(eg3d), "step": 3},
    "nested": lambda eg3d: {"model": {"G_ema": bare(eg3d)}},
    "state dict": lambda eg3d: {**state_of(eg3d), **arguments_of(eg3d)},
    "state dict of DDP": lambda eg3d: {"G": state_of(eg3d, "module."), **arguments_of(eg3d)},
    "state dict, arguments in options": lambda eg3d: {
        "state_dict": state_of(eg3d),
        "args": New(Global("argparse", "Namespace"), arguments_of(eg3d)),
    },
    "state dict, training's names": lambda eg3d: {
        "G_ema": state_of(eg3d),
        "G_kwargs": arguments_of(eg3d)["init_kwargs"],
        "neural_rendering_resolution_initial": 8,
    },
    "state dict, rendering_kwargs apart": lambda eg3d: {
        "G_ema": state_of(eg3d),
        "init_kwargs": {k: v for k, v in arguments_of(eg3d)["init_kwargs"].items() if k[0] != "r"},
        "rendering_kwargs": arguments_of(eg3d)["init_kwargs"]["rendering_kwargs"],
        "neural_rendering_resolution": 8,
    },
}


@pytest.mark.parametrize("archive", [False, True], ids=["pickle", "torch.save"])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_programs_save_loads(tmp_path, shape, archive):
    eg3d = tiny_eg3d(3)
    value = SHAPES[shape](eg3d)
    path = tmp_path / "own.pt"
    if archive:
        write_archive(path, value)
    else:
        with path.open("wb") as file:
            Writer(file).dump(value)
    assert_is(eg3d, path)


@pytest.mark.parametrize("name", ["own.json", "training_options.json"])
def test_arguments_of_a_plain_state_dict_may_stand_beside_it(tmp_path, name):
    eg3d = tiny_eg3d()
    torch.save(eg3d.state_dict(), tmp_path / "own.pt")
    with pytest.raises(FileFormatError, match=r"without what it was made with; put init_kwargs .*"):
        load_eg3d(tmp_path / "own.pt")
    (tmp_path / name).write_text("{half")
    with pytest.raises(FileFormatError, match=r"or in own\.json, or save the whole generator"):
        load_eg3d(tmp_path / "own.pt")
    (tmp_path / name).write_text(json.dumps(arguments_of(eg3d)))
    assert_is(eg3d, tmp_path / "own.pt")


REFUSED = {
    "nothing": (lambda: {}, "it has an empty dict; only generators of EG3D"),
    "another dict": (lambda: {"optimizer": 1, "step": 2}, "a dict of 'optimizer', 'step'"),
    "an array": (lambda: Call(Global("torch", "device"), ("cpu",)), "it has a 'device'"),
    "a foreign class": (
        lambda: {"G_ema": bare(tiny_eg3d()), "D": New(Global("my.code", "Net"), {})},
        "asks for my.code Net, .* nothing in it was run; save the generator alone, as",
    ),
    "objects in an array": (
        lambda: Call(Global("numpy", "dtype"), ("O8", False, True)),
        "a numpy type that is neither numbers nor text, such as objects",
    ),
    "an array of its own class": (
        lambda: Call(
            Global("numpy._core.multiarray", "_reconstruct"),
            (Global("torch", "float32"), (0,), b"b"),
        ),
        "an array of a kind of its own",
    ),
    "weights as text": (
        lambda: {"backbone.mapping.w_avg": "x", **arguments_of(tiny_eg3d())},
        "a str where the tensor backbone.mapping.w_avg belongs",
    ),
    "a weight missing": (
        lambda: {
            **{k: v for k, v in state_of(tiny_eg3d()).items() if "w_avg" not in k},
            **arguments_of(tiny_eg3d()),
        },
        "describes no usable generator .*w_avg.* are missing or changed",
    ),
    "code": (lambda: {"G_ema": bare(tiny_eg3d()), "x": SYSTEM}, "asks for os system"),
}


@pytest.mark.parametrize("archive", [False, True], ids=["pickle", "torch.save"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_described(tmp_path, name, archive):
    CANARY.unlink(missing_ok=True)
    make, message = REFUSED[name]
    path = tmp_path / "own.pt"
    if archive:
        write_archive(path, make())
    else:
        with path.open("wb") as file:
            Writer(file).dump(make())
    with pytest.raises(FileFormatError, match=message) as caught:
        load_eg3d(path)
    text = str(caught.value)
    assert "own.pt" in text and "\n" not in text and len(text) < 450
    assert "damaged" not in text and "download" not in text
    assert not CANARY.exists()


def changed(name, to):
    def change(entries):
        entries[f"archive/{name}"] = to

    return change


LIES = {
    "compressed": (dict(compression=zipfile.ZIP_DEFLATED), "an entry in it is compressed"),
    "storage missing": (dict(change=lambda e: e.pop("archive/data/0")), "has no .* elements"),
    "storage cut": (dict(change=changed("data/0", b"xx")), "has no .* elements of a storage '0'"),
    "big-endian": (dict(change=changed("byteorder", b"big")), "big-endian machine"),
    "no pickle": (dict(change=lambda e: e.pop("archive/data.pkl")), "a zip with 0 files called"),
    "two pickles": (dict(change=changed("x/data.pkl", b"")), "a zip with 2 files called data.pkl"),
    "empty pickle": (dict(change=changed("data.pkl", b"")), "ends too early"),
    "pickle of text": (dict(change=changed("data.pkl", b"x")), "is not a pickle"),
}


@pytest.mark.parametrize("name", LIES)
def test_an_archive_that_lies_is_refused(tmp_path, name):
    options, message = LIES[name]
    path = write_archive(tmp_path / "own.pt", bare(tiny_eg3d()), **options)
    with pytest.raises(FileFormatError, match=message):
        load_eg3d(path)


def test_an_archive_cut_anywhere_is_refused(tmp_path):
    whole = write_archive(tmp_path / "own.pt", bare(tiny_eg3d())).read_bytes()
    for cut in range(5, len(whole), len(whole) // 40):
        (tmp_path / "own.pt").write_bytes(whole[:cut])
        with pytest.raises(FileFormatError, match="is not a complete file of torch.save"):
            load_eg3d(tmp_path / "own.pt")


def test_a_file_of_old_torch_says_how_to_go_on(tmp_path):
    eg3d = tiny_eg3d()
    torch.save(eg3d.state_dict(), tmp_path / "own.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(FileFormatError, match=r"before torch 1\.6; load it with torch and save"):
        load_eg3d(tmp_path / "own.pt")


def test_the_first_of_the_known_places_decides(tmp_path):
    """A G_ema that is something else is never passed over in silence for another network."""
    path = write_official(
        tmp_path / "w.pkl",
        tiny_eg3d(),
        copies=("G",),
        snapshot={"G_ema": lambda: New(Global("training.triplane", "OSGDecoder"), {})},
    )
    with pytest.raises(FileFormatError, match="it has a 'OSGDecoder'"):
        load_eg3d(path)
