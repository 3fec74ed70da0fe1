"""Gaussian splats as PLY, in the layout of "3D Gaussian Splatting" (Kerbl et al. 2023).

Float32 properties x y z nx ny nz f_dc_0..2 opacity scale_0..2 rot_0..3: normals are 0, f_dc is the
colour as the first spherical harmonic, opacity a logit, scales are logarithms, rotations w x y z.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from ...errors import FileFormatError, InputError
from ...geometry.splats import upside_down
from ...types import Splats
from ..bundle import write_atomically
from ..names import ending

SH_0 = 0.28209479177387814  # the first spherical harmonic, 1 / (2 sqrt(pi))
PROPERTIES = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
_LEAST = 1e-6  # of an opacity and of what it lacks to 1: logits stay finite
_MOST_HEADER = 65536  # bytes

Axes = Literal["mesh", "3dgs"]  # y up and front to +z; y down and front to -z, as viewers expect
AXES: tuple[Axes, ...] = get_args(Axes)


def splat_path(path: Path | str) -> Path:
    """Return the path, after making sure that it ends in .ply."""
    if ending(path) != ".ply":
        raise InputError(f"splat file must end in .ply, got {Path(path).name!r}")
    return Path(path)


def save_splats(path: Path | str, splats: Splats, *, axes: Axes = "mesh") -> None:
    """Write splats as a PLY file, in the axes of the mesh or in those of splat viewers."""
    splat_path(path)
    data = encode_splats(splats, axes=axes)
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)


def encode_splats(splats: Splats, *, axes: Axes = "mesh") -> bytes:
    """Return the bytes of a PLY file."""
    if axes not in AXES:
        raise InputError(f"axes must be {' or '.join(AXES)}, got {axes!r}")
    if not len(splats):
        raise InputError("there are no splats to save; lower the density level")
    splats = (upside_down(splats) if axes == "3dgs" else splats).to("cpu")
    opacities = splats.opacities.detach().double().clamp(_LEAST, 1 - _LEAST).logit()
    columns = [
        splats.positions,
        torch.zeros_like(splats.positions),
        (splats.colors - 0.5) / SH_0,
        opacities[:, None],
        splats.scales.clamp_min(1e-12).log(),
        splats.rotations,
    ]
    rows = torch.cat([x.detach().float() for x in columns], dim=1).numpy().astype("<f4")
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    lines += [f"property float {name}" for name in PROPERTIES]
    return "\n".join([*lines, "end_header\n"]).encode("ascii") + rows.tobytes()


def load_splats(path: Path | str, *, axes: Axes = "mesh") -> Splats:
    """Return the splats of a PLY file that was written in these axes; more harmonics are ignored.

    Raises FileFormatError for a file that holds no splats or less than it says.
    """
    path = splat_path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"cannot read {path} ({error.strerror}); check the path") from error
    end = data.find(b"end_header\n", 0, _MOST_HEADER)
    lines = data[: max(end, 0)].decode("ascii", "replace").split("\n")
    names = [line.split()[-1] for line in lines if line.startswith("property float ")]
    counts = [line.split()[-1] for line in lines if line.startswith("element ")]
    plain = sum(line.startswith("property ") for line in lines) == len(names)
    binary = lines[:2] == ["ply", "format binary_little_endian 1.0"]
    if not (binary and plain and len(counts) == 1 and set(PROPERTIES) <= set(names)):
        raise FileFormatError(
            f"{path} holds no Gaussian splats: a binary PLY of float properties "
            f"{' '.join(PROPERTIES)} was expected; is it a mesh?"
        )
    body, count = data[end + len(b"end_header\n") :], int(counts[0]) if counts[0].isdigit() else -1
    if len(body) != 4 * count * len(names):
        raise FileFormatError(
            f"{path} says that it holds {counts[0]} splats, {4 * count * len(names)} bytes, but "
            f"has {len(body)}; save it again"
        )
    rows = torch.from_numpy(np.frombuffer(body, "<f4").reshape(count, len(names)).astype("f4"))
    found = {name: rows[:, index] for index, name in enumerate(names)}

    def columns(start: str, number: int) -> torch.Tensor:
        return torch.stack([found[f"{start}_{i}"] for i in range(number)], dim=1)

    splats = Splats(
        torch.stack([found[axis] for axis in "xyz"], dim=1),
        columns("scale", 3).exp(),
        torch.nn.functional.normalize(columns("rot", 4), dim=1),
        found["opacity"].sigmoid(),
        columns("f_dc", 3) * SH_0 + 0.5,
    )
    return upside_down(splats) if axes == "3dgs" else splats
