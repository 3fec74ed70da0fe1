"""Make the shipped face mesh from the weights inside the package `mediapipe` 0.10.21 (Apache-2.0).

    pip download mediapipe==0.10.21 --no-deps     # 0.10.31 and later contain no model
    pip install flatbuffers                       # for this only; the file is TensorFlow Lite's
    python benchmarks/convert_face_mesh.py mediapipe-0.10.21-*.whl
    python benchmarks/photo_people.py --people 200 --first 1000 --usual

The last line puts the usual face in, which angles are measured against and the package has not.
Nothing of the package is imported. Its network is a list of operators; those with weights are taken
in their order, checked against the layers they fill, and reordered from (out, height, width, in).
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.files.networks import face_mesh_file, save_face_mesh
from freestyle_core.models.config import PublishedConfig
from freestyle_core.models.face_mesh import FaceMesh

MODEL = "mediapipe/modules/face_landmark/face_landmark.tflite"
CONFIG = PublishedConfig(
    name="MediaPipe Face Mesh 0.10.21",
    licence="Apache-2.0, Copyright Google LLC",
    training_data="pictures of phone cameras, by Google (Kartynnik et al. 2019)",
)
CONV, DEPTHWISE, DEQUANTIZE, PRELU = 3, 4, 6, 54  # operators by their numbers


class Model:
    """A TensorFlow Lite file: its operators and the arrays they use (fields by their numbers)."""

    def __init__(self, data: bytes) -> None:
        from flatbuffers import number_types as types
        from flatbuffers.table import Table

        self.types, self.table = types, Table
        root = Table(bytearray(data), int.from_bytes(data[:4], "little"))
        self.codes = [
            max(self.number(c, 0, types.Int8Flags), self.number(c, 3, types.Int32Flags))
            for c in self.tables(root, 1)
        ]
        graph, self.buffers = self.tables(root, 2)[0], self.tables(root, 4)
        self.tensors = self.tables(graph, 0)
        self.operators = [
            (
                self.codes[self.number(operator, 0, types.Uint32Flags)],
                self.integers(operator, 1),
                self.integers(operator, 2),
            )
            for operator in self.tables(graph, 3)
        ]
        self.outputs = self.integers(graph, 2)
        # weights are kept in half precision and widened by an operator
        self.source = {to[0]: of[0] for code, of, to in self.operators if code == DEQUANTIZE}

    def number(self, table: Any, field: int, flags: Any) -> int:
        at = table.Offset(4 + 2 * field)
        return table.Get(flags, at + table.Pos) if at else 0

    def places(self, table: Any, field: int, size: int) -> list[int]:
        at = table.Offset(4 + 2 * field)
        if not at:
            return []
        start = table.Vector(at)
        return [start + size * i for i in range(table.VectorLen(at))]

    def tables(self, table: Any, field: int) -> list[Any]:
        places = self.places(table, field, 4)
        return [self.table(table.Bytes, table.Indirect(place)) for place in places]

    def integers(self, table: Any, field: int) -> list[int]:
        return [table.Get(self.types.Int32Flags, at) for at in self.places(table, field, 4)]

    def array(self, index: int) -> np.ndarray:
        """Return the constant that a tensor holds."""
        tensor = self.tensors[self.source[index]]
        places = self.places(self.buffers[self.number(tensor, 2, self.types.Uint32Flags)], 0, 1)
        data = self.buffers[0].Bytes[places[0] : places[-1] + 1]
        return np.frombuffer(bytes(data), np.float16).reshape(self.integers(tensor, 0))

    def before(self, tensor: int) -> set[int]:
        """Return the operators, by their place, that a tensor is made by."""
        made: set[int] = set()
        wanted = {tensor}
        for place, (_, of, to) in reversed(list(enumerate(self.operators))):
            if wanted & set(to):
                made.add(place)
                wanted |= set(of)
        return made

    def layers(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the arrays of trunk, mesh and face in their order, with their operators."""
        face, mesh = sorted((self.before(i) for i in self.outputs), key=len)
        for part in (mesh & face, mesh - face, face - mesh):
            for place in sorted(part):
                code, of, _ = self.operators[place]
                if code in (CONV, DEPTHWISE, PRELU):
                    for index in of[1:]:
                        yield code, self.array(index)


def reordered(code: int, value: np.ndarray) -> Tensor:
    """Return an array as PyTorch orders it; the [1,1,C] of a PReLU as [C]."""
    tensor = torch.from_numpy(value.astype(np.float32))
    if code == PRELU or tensor.ndim == 1:
        return tensor.flatten()
    return tensor.permute(3, 0, 1, 2) if code == DEPTHWISE else tensor.permute(0, 3, 1, 2)


def main() -> None:
    """Parse the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=face_mesh_file())
    args = parser.parse_args()
    with zipfile.ZipFile(args.wheel) as wheel:
        model = Model(wheel.read(MODEL))
    net = FaceMesh(CONFIG)
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.PReLU)]
    own = [x for m in layers for x in m.parameters()]
    for parameter, (code, value) in zip(own, model.layers(), strict=True):
        with torch.no_grad():
            parameter.copy_(reordered(code, value))
    save_face_mesh(args.out, net, extra={"converted_from": args.wheel.name})
    sys.stdout.write(f"{args.out}: {args.out.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main()
