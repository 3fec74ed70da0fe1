"""Compare widths of the I2T network: size, operations, and what each learns in the same time.

    python benchmarks/i2t_widths.py --seconds 240 --factors 0.5 1 2

Every width is trained on the clay EG3D for the same processor time (so narrow networks make more
steps) with the settings of the clay I2T, and measured in dB on heads it has not seen. The column
"full size" holds the same factor of the widths for 512-pixel pictures and 256 planes, counted only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.clay.train import i2t as clay
from freestyle_core.files.networks import embedded, load_eg3d
from freestyle_core.models.i2t import I2T, I2TConfig
from freestyle_core.pretrain.train import pretrain

PROBE_STEPS = 4  # that are timed to find how many fit into the time


def main() -> None:
    """Parse the arguments and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=240, help="processor time per width")
    parser.add_argument("--factors", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--heads", type=int, default=400, help="heads to train on")
    parser.add_argument("--data", type=Path, help="folder to keep their pictures in")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    eg3d = load_eg3d(embedded("eg3d")).requires_grad_(False)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        cache = clay.front_cache(folder / "fronts.pt", eg3d, args.heads, clay.SETTINGS)
        print(
            "| width | parameters | GFLOP a step | steps | PSNR dB | full size: parameters, "
            "GFLOP a head |\n|---|---|---|---|---|---|",
            flush=True,
        )
        for factor in args.factors:
            print(row(cache, eg3d, factor, args.seconds), flush=True)


def row(cache: clay.FrontCache, eg3d: torch.nn.Module, factor: float, seconds: float) -> str:
    """Train one width and return its line of the table."""
    torch.manual_seed(0)
    i2t = I2T(scaled(clay.CONFIG, factor))
    images, planes = cache(0)
    flops = counted(lambda: (i2t(images) - planes).abs().mean().backward())
    i2t.zero_grad(set_to_none=True)
    settings = replace(clay.SETTINGS, statistics=64, warmup=20)
    mean = pretrain(eg3d, i2t, settings=replace(settings, iterations=1), batches=cache).i2t
    i2t.set_plane_statistics(mean.plane_mean, mean.plane_scale)  # once for all that follows
    start = time.process_time()
    pretrain(eg3d, i2t, settings=replace(settings, iterations=PROBE_STEPS), batches=cache)
    step = (time.process_time() - start) / PROBE_STEPS
    steps = max(1, int(seconds / step))
    result = pretrain(eg3d, i2t, settings=replace(settings, iterations=steps), batches=cache)
    psnr = clay.held_out_psnr(cache, result.i2t, clay.HELD_OUT)
    with torch.device("meta"):
        large = I2T(scaled(I2TConfig(), factor))
        large_flops = counted(lambda: large(torch.empty(1, 3, 512, 512)).sum().backward())
    return (
        f"| {factor:g} | {millions(i2t)} | {flops / 1e9:.1f} | {steps} | {psnr:.2f} | "
        f"{millions(large)}, {large_flops / 1e9:.0f} |"
    )


def scaled(config: I2TConfig, factor: float) -> I2TConfig:
    """Return the config with every width times `factor`."""

    def width(channels: int) -> int:
        return max(8, int(channels * factor))

    return replace(
        config,
        code_channels=width(config.code_channels),
        channel_base=width(config.channel_base),
        channel_max=width(config.channel_max),
        encoder_channels=tuple(map(width, config.encoder_channels)),
    )


def counted(run: Callable[[], object]) -> int:
    """Return the operations (two per multiply-add) of `run`."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def millions(network: torch.nn.Module) -> str:
    """Return the number of parameters, as in "2.2 M"."""
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f} M"


if __name__ == "__main__":
    main()
