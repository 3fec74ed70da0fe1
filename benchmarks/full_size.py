"""Time a full-size EG3D and the I2T pre-training on it, with random weights.

    python benchmarks/full_size.py                 # every part, threads as torch chooses
    python benchmarks/full_size.py --threads 2 --repeat 3 --parts backbone rays superresolution

Prints, per part, the median of wall and processor seconds, and the peak memory of the process.
Neural resolution 128, 48 + 48 samples per ray, 512 x 512 pixels, float32 unless --precision says
otherwise. The pre-training step is one whole step: portraits of the generator, I2T forward and
backward, Adam.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.geometry.cameras import front_camera  # noqa: E402
from freestyle_core.models.config import EG3DConfig  # noqa: E402
from freestyle_core.models.eg3d import EG3D  # noqa: E402
from freestyle_core.render import DEFAULT_SETTINGS, _march_in_chunks  # noqa: E402

# the reference implementation on two shared AMD EPYC cores (AVX2), median of three
REFERENCE_SECONDS = {"backbone": 1.09, "rays": 4.20, "superresolution": 4.16}


def timed(run: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Return the median wall and processor seconds of `run`, after one call to warm up."""
    run()
    walls, processor = [], []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        walls.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(processor)


def full_size(device: str) -> EG3D:
    """Return a ffhq512-128 generator whose heads are part empty, part opaque."""
    torch.manual_seed(0)
    eg3d = EG3D(EG3DConfig()).eval().requires_grad_(False)
    eg3d.decoder.net[2].weight.data[0] *= 30  # else every ray is thin fog
    return eg3d.to(device)


def frame_parts(eg3d: EG3D) -> dict[str, Callable[[], object]]:
    """Return what a 512 x 512 frame is made of."""
    device = eg3d.backbone.mapping.w_avg.device
    camera = front_camera(eg3d.config.rig()).to(device)
    z = torch.randn(1, 512, generator=torch.Generator().manual_seed(0)).to(device)
    ws = eg3d.map(z, camera.label())
    renderer = eg3d.renderer()
    folded = renderer.fold(eg3d.planes(ws))
    settings = DEFAULT_SETTINGS.resolved(eg3d.config)

    def rays() -> object:
        return _march_in_chunks(renderer, folded, camera, settings, lambda: None)

    features = rays()[0]
    return {
        "backbone": lambda: eg3d.planes(ws),
        "rays": rays,
        "superresolution": lambda: renderer.superresolve(features, ws),
    }


def peak_memory_gb() -> float:
    """Return the largest resident memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


@torch.no_grad()
def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--parts", nargs="*", default=list(REFERENCE_SECONDS))
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads")
    for name, run in frame_parts(full_size(args.device)).items():
        if name in args.parts:
            wall, cpu = timed(run, args.repeat)
            print(f"{name:16} {wall:7.2f} s wall {cpu:7.2f} s processor "
                  f"(reference {REFERENCE_SECONDS[name]:.2f} s)")  # fmt: skip
    print(f"peak memory {peak_memory_gb():.2f} GB")


if __name__ == "__main__":
    main()
