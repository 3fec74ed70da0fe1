"""Make the shipped face detector from the weights inside the MIT package `mtcnn` 1.0.0.

    pip download mtcnn==1.0.0 --no-deps          # mtcnn-1.0.0-py3-none-any.whl, 1.9 MB
    pip install joblib lz4                       # for this only; the files are joblib's
    python benchmarks/convert_mtcnn.py mtcnn-1.0.0-py3-none-any.whl

Nothing of the package is imported; its arrays are reordered from Keras (height, width, in, out) to
PyTorch and written as one file. The files are pickles: take the wheel from where you trust it.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.files.networks import detector_file, save_detector
from freestyle_core.models.config import PublishedConfig
from freestyle_core.models.mtcnn import MTCNN

WEIGHTS = "mtcnn/assets/weights/{}.lz4"
CONFIG = PublishedConfig(
    name="mtcnn 1.0.0",
    licence="MIT, Copyright (c) 2019-2024 Ivan de Paz Centeno",
    training_data="WIDER FACE, CelebA (as published, Zhang et al. 2016)",
)
# the layers in the order in which Keras lists them; a PReLU has one array, the others two
LAYERS = {
    "propose": "conv1 prelu1 conv2 prelu2 conv3 prelu3 box face".split(),
    "refine": "conv1 prelu1 conv2 prelu2 conv3 prelu3 full prelu4 box face".split(),
    "output": (
        "conv1 prelu1 conv2 prelu2 conv3 prelu3 conv4 prelu4 full prelu5 box points face"
    ).split(),
}
FILES = {"propose": "pnet", "refine": "rnet", "output": "onet"}


def main() -> None:
    """Parse the arguments and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=detector_file())
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float32")
    args = parser.parse_args()
    net = MTCNN(CONFIG)
    with zipfile.ZipFile(args.wheel) as wheel:
        for part, file in FILES.items():
            fill(getattr(net, part), LAYERS[part], arrays(wheel.read(WEIGHTS.format(file))))
    extra = {"converted_from": args.wheel.name}
    save_detector(args.out, net, extra=extra, dtype=getattr(torch, args.dtype))
    sys.stdout.write(f"{args.out}: {args.out.stat().st_size:,} bytes\n")


def arrays(data: bytes) -> list[np.ndarray]:
    """Return the arrays of one file of the package."""
    import joblib

    return joblib.load(io.BytesIO(data))


def fill(net: nn.Module, names: Sequence[str], values: list[np.ndarray]) -> None:
    """Copy the arrays of Keras layers into the layers of the same names."""
    rest = iter(values)
    for name in names:
        layer = getattr(net, name)
        for own in [layer.weight] + ([] if isinstance(layer, nn.PReLU) else [layer.bias]):
            with torch.no_grad():
                own.copy_(reordered(next(rest)))
    if next(rest, None) is not None:
        raise SystemExit("more arrays than MTCNN has layers; is it another version?")


def reordered(value: np.ndarray) -> Tensor:
    """Return a Keras array as PyTorch orders it; the [1,1,C] of a PReLU as [C]."""
    tensor = torch.from_numpy(np.array(value, np.float32))
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1)
    return tensor.T if tensor.ndim == 2 else tensor.flatten()


if __name__ == "__main__":
    main()
