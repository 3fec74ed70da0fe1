"""What every stage asks of a graphics card, counted on tensors without contents.

Devices, number formats, generators, waits and copies do not depend on sizes: they are looked at on
small networks and fake CUDA tensors. Kernels are counted at full size. `benchmarks/dry_run.py`
prints and keeps the numbers.
"""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.dry_run import LIMITS, STAGES, Sizes, full_size, measured
from benchmarks.fake_gpu import watched
from freestyle_core.files.editors.load import load_editor
from freestyle_core.geometry.cameras import front_camera
from freestyle_core.method.finetune import FinetuneSettings, finetune_portraits
from freestyle_core.method.render import render, render_views
from freestyle_core.training.graphs import recordable_adam, set_rate
from freestyle_core.types import Triplane
from tests.tiny import tiny_eg3d, tiny_i2t, tiny_perceptual, tiny_portrait, tiny_set
from tests.tiny_editor import save_tiny_editor

KEPT = Path(__file__).parents[1] / "benchmarks" / "dry_run.json"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Sizes:
    folder = save_tiny_editor(tmp_path_factory.mktemp("editor"))
    return Sizes(
        tiny_eg3d().config, tiny_i2t().config, lambda device: load_editor(folder).to(device)
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_neither_mixes_devices_nor_waits_more_than_it_may(small, stage):
    result, limit = measured(stage, "cuda", small), LIMITS[stage]
    assert result.counts.problems == {}
    assert result.counts.reads.total() <= limit.reads, result.counts.reads
    assert result.counts.copies.total() <= limit.copies, result.counts.copies


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"edit step"}))
def test_a_stage_launches_no_more_kernels_than_it_may(stage):
    assert measured(stage, "meta", full_size()).counts.kernels.total() <= LIMITS[stage].kernels


def test_the_kept_numbers_are_within_the_limits():
    kept = json.loads(KEPT.read_text())["stages"]
    assert kept.keys() == STAGES.keys() == LIMITS.keys()
    for stage, limit in LIMITS.items():
        numbers = kept[stage]
        assert numbers["problems"] == {}
        assert numbers["kernels"] <= limit.kernels and numbers["reads"] <= limit.reads
        assert numbers["copies"] <= limit.copies


def test_a_portrait_that_is_trained_on_a_card_comes_back_to_where_it_was(small):
    eg3d = tiny_eg3d()
    few = tiny_set(eg3d)
    with watched("cuda") as watch:
        i2t, perceptual = tiny_i2t().to("cuda"), tiny_perceptual().to("cuda")
        settings = FinetuneSettings(iterations=1, train="i2t", preview_every=0)
        portrait = tiny_portrait(eg3d)
        result = finetune_portraits(i2t, "", [portrait], [few], perceptual, settings=settings)
        (got,) = result.portraits
        parts = [got.triplane.planes, got.w, got.style.w_s, *got.style.network.parameters()]
        assert {x.device.type for x in parts} == {"cpu"}
        render_views(got, front_camera(eg3d.config.rig()))
        moved = portrait.triplane.planes.to("cuda")
        renderer = tiny_eg3d().renderer().to("cuda")
        camera = front_camera(eg3d.config.rig())  # on the CPU
        render(renderer, Triplane(moved, 1.0), portrait.w.to("cuda"), camera)
    assert watch.counts.problems == {}


def test_waits_copies_and_kernels_are_seen():
    with watched("cuda") as watch:
        x = torch.zeros(4, 3, device="cuda")
        before = watch.mark()
        y = (x + 1).relu()[:, :2]  # two kernels and a view
        seen = watch.mark().minus(before)
        assert seen.kernels == {"add": 1, "relu": 1} and not seen.reads and not seen.copies
        y.sum().item(), bool((y > 0).all()), y.cpu(), torch.equal(y, y), y[y > 0]
        x[[0, 2]], torch.ones(3).to("cuda")
        seen = watch.mark().minus(before)
        assert seen.reads.total() == 5 and seen.copies.total() == 2
        torch.ones(3).pin_memory().to("cuda", non_blocking=True)  # does not wait
        assert watch.mark().minus(before).copies.total() == 2


def test_what_a_card_refuses_is_seen():
    with watched("cuda") as watch:
        x = torch.zeros(4, 3, device="cuda")
        with pytest.raises(Exception, match="device"):
            x + torch.ones(4, 3)
        torch.randn_like(x, generator=torch.Generator())
        x @ x.t().half()
        assert sorted(key.split(" @ ")[0] for key in watch.counts.problems) == [
            "add of tensors of the CPU and the card",
            "cpu generator on cuda",
            "mm of torch.float16, torch.float32",
        ]


def test_a_real_backward_pass_is_counted_with_its_operations_and_memory():
    with watched("meta") as watch:
        x = torch.zeros(8, 16, device="meta", requires_grad=True)
        weight = torch.zeros(16, 4, device="meta")
        before = watch.mark()
        (x @ weight).sum().backward()
        seen = watch.mark().minus(before)
    assert x.grad is not None and x.grad.shape == (8, 16)
    assert seen.flop == 2 * 2 * 8 * 16 * 4  # forwards, and for the gradient of x
    assert seen.kernels["mm"] == 2
    assert seen.live_bytes == 8 * 16 * 4  # the gradient
    assert seen.peak_bytes == 8 * 16 * 4 + 2 * 4  # the sum and its gradient besides


def test_a_recordable_step_of_adam_neither_waits_nor_copies():
    device = torch.device("cuda")
    with watched("cuda") as watch:
        weights = [torch.nn.Parameter(torch.zeros(3, device=device)) for _ in range(20)]
        adam = recordable_adam(weights, device, learning_rate=0.1, betas=(0.0, 0.99))
        for _ in range(2):  # the first makes Adam's state
            before = watch.mark()
            adam.zero_grad(set_to_none=True)
            set_rate(adam, 0.05)
            torch.stack([w.sum() for w in weights]).sum().backward()
            adam.step()
        seen = watch.mark().minus(before)
    assert not seen.reads and not seen.copies and not watch.counts.problems
    assert seen.kernels["_fused_adam_"] == 1
