"""Time a full-size EG3D and the I2T pre-training on it, with random weights.

    python benchmarks/full_size.py
    python benchmarks/full_size.py --device cuda --precision bfloat16 --parts pretraining
    python benchmarks/full_size.py --parts flops     # counts only, at once

Per part: the median wall and processor seconds of a few runs after one to warm up, and the peak
memory of the process. Frames: neural resolution 128, 48 + 48 samples per ray, 512 x 512 pixels.
`pretraining` is whole steps: portraits of the generator, I2T forward and backward, Adam.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.baselines.random_models import full_size_eg3d
from freestyle_core.cli.bench.meter import Meter, operations
from freestyle_core.geometry.cameras import front_camera
from freestyle_core.method.render import RenderSettings, march, sample_rays
from freestyle_core.models.config import EG3DConfig
from freestyle_core.models.eg3d import EG3D
from freestyle_core.models.i2t import I2T, i2t_config_for
from freestyle_core.pretrain.train import PretrainSettings, PretrainWatch, pretrain

# the reference implementation on two shared AMD EPYC cores (AVX2), median of three
REFERENCE_SECONDS = {"backbone": 1.09, "rays": 4.20, "superresolution": 4.16}
PARTS = (*REFERENCE_SECONDS, "pretraining", "flops")
CHUNK_RAYS = 136  # as many as render_views takes together on a CPU, 16 MB
# what an A100 is expected to sustain: a quarter of its peak of 156 TFLOP/s for convolutions in
# float32 (TF32 inside, as PyTorch does by default), a fifth of 312 with bfloat16 by autocast
SUSTAINED = {"float32": 156e12 / 4, "bfloat16": 312e12 / 5}


def main() -> None:
    """Parse the arguments and print a line per part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts",
        nargs="*",
        default=PARTS,
        choices=PARTS,
        metavar="PART",
        help=f"of {', '.join(PARTS)}",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="of pre-training")
    parser.add_argument("--batch", type=int, default=PretrainSettings.batch_size)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(
        f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads, "
        f"{args.device}, {args.precision}"
    )
    if "flops" in args.parts:
        print_flops(args.batch)
    if set(args.parts) != {"flops"}:
        print_times(args)


def print_times(args: argparse.Namespace) -> None:
    """Run what was asked for."""
    eg3d, meter = full_size_eg3d(args.device), Meter(torch.device(args.device))
    dtype = torch.bfloat16 if args.precision == "bfloat16" else None
    for name, run in frame_parts(eg3d, dtype).items():
        if name in args.parts:
            wall, cpu = timed(run, args.repeat, meter)
            reference = f"(reference {REFERENCE_SECONDS[name]:.2f} s wall)"
            print(
                f"{name:16} {wall:7.2f} s wall {cpu:7.2f} s processor {reference}, "
                f"peak {peak_memory_gb():.2f} GB",
                flush=True,
            )
    if "pretraining" in args.parts:
        wall, cpu = pretraining_seconds(eg3d, args.steps, args.batch, args.precision)
        print(
            f"pretraining step {wall:7.2f} s wall {cpu:7.2f} s processor, batch {args.batch}, "
            f"peak {peak_memory_gb():.2f} GB"
        )
    if args.device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated(args.device) / 2**30
        print(f"peak on the card {peak:7.2f} GB")


def print_flops(batch: int) -> None:
    """Count the operations of a pre-training step on tensors without contents."""
    with torch.device("meta"):
        eg3d = EG3D(EG3DConfig()).requires_grad_(False)
        i2t = I2T(i2t_config_for(eg3d.config))
        parts = {
            "backbone": lambda: eg3d.planes(torch.empty(1, 14, 512)),
            "super-resolution": lambda: eg3d.superresolution(
                torch.empty(1, 32, 128, 128), torch.empty(1, 14, 512)
            ),
            "I2T, both ways": lambda: i2t(torch.empty(1, 3, 512, 512)).sum().backward(),
        }
        flops = {name: operations(run) for name, run in parts.items()}
    config = eg3d.config
    points = config.neural_resolution**2 * (config.depth_samples + config.importance_samples)
    weights = sum(p.numel() for n, p in eg3d.decoder.named_parameters() if "weight" in n)
    flops["rays"] = 2.0 * points * weights
    for name, count in flops.items():
        print(f"{name:16} {count / 1e9:7.1f} GFLOP per head")
    total = batch * sum(flops.values())
    print(
        f"pretraining step {total / 1e12:7.2f} TFLOP, batch {batch}; I2T "
        f"{sum(p.numel() for p in i2t.parameters()) / 1e6:.1f} M parameters"
    )
    for precision, speed in SUSTAINED.items():
        hours = 100_000 * total / speed / 3600
        print(f"100000 steps on an A100 at {speed / 1e12:.0f} TFLOP/s ({precision}): {hours:.1f} h")


def frame_parts(eg3d: EG3D, dtype: torch.dtype | None) -> dict[str, Callable[[], object]]:
    """Return what a 512 x 512 frame is made of."""
    device = eg3d.backbone.mapping.w_avg.device
    camera = front_camera(eg3d.config.rig()).to(device)
    z = torch.randn(1, 512, generator=torch.Generator().manual_seed(0)).to(device)
    ws = eg3d.map(z, camera.label())
    renderer = eg3d.renderer()
    folded = renderer.fold(eg3d.planes(ws))
    settings = RenderSettings().resolved(eg3d.config)
    step = CHUNK_RAYS if device.type == "cpu" else settings.neural_resolution**2
    features = torch.rand(1, 32, 128, 128, device=device)

    def rays() -> None:
        sampled = sample_rays(eg3d.config, camera, settings=settings)
        for first in range(0, sampled.depths.shape[1], step):
            part = sampled.part(slice(first, first + step))
            march(renderer, folded, part, settings.importance_samples)

    parts = {
        "backbone": lambda: eg3d.planes(ws, dtype=dtype),
        "rays": rays,
        "superresolution": lambda: renderer.superresolve(features, ws, dtype=dtype),
    }
    return {name: torch.no_grad()(run) for name, run in parts.items()}


def pretraining_seconds(eg3d: EG3D, steps: int, batch: int, precision: str) -> tuple[float, float]:
    """Return wall and processor seconds of one pre-training step, after one to warm up."""
    times: list[tuple[float, float]] = []
    device = eg3d.backbone.mapping.w_avg.device

    def note(done: int, total: int, preview: object = None) -> None:
        if len(times) == done:  # the same step is reported several times
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append((time.perf_counter(), time.process_time()))

    settings = PretrainSettings(
        iterations=steps + 1, batch_size=batch, statistics=1, precision=precision, preview_every=0
    )
    i2t = I2T(i2t_config_for(eg3d.config)).to(device)
    pretrain(eg3d, i2t, settings=settings, watch=PretrainWatch(note))
    (wall, cpu), (wall_end, cpu_end) = times[1], times[-1]
    return (wall_end - wall) / steps, (cpu_end - cpu) / steps


def timed(run: Callable[[], object], repeat: int, meter: Meter) -> tuple[float, float]:
    """Return the median wall and processor seconds of `run`, after one call to warm up."""
    run()
    samples = [meter.measure(lambda ready: run())[0] for _ in range(repeat)]
    median = statistics.median
    return median(s.seconds for s in samples), median(s.processor for s in samples)


def peak_memory_gb() -> float:
    """Return the largest resident memory that this process has had."""
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


if __name__ == "__main__":
    main()
