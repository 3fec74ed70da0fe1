"""The files of a run: their labels, their sizes, and the record."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from freestyle_core.cli import machine, run_files
from freestyle_core.cli.machine import peak_memory_mb, versions
from freestyle_core.cli.pictures import enlarged, scale_for
from freestyle_core.cli.run_files import view_label, views_sheet
from freestyle_core.geometry.cameras import grid_cameras
from freestyle_core.pipeline import PortraitSettings
from freestyle_core.types import CameraRig

SETTINGS = PortraitSettings(prompts=("an elf",))


@pytest.mark.parametrize("views", [2, 3])
def test_labels_name_yaw_and_pitch_of_the_real_camera(views):
    settings = replace(SETTINGS, views=views)
    rig = CameraRig(radius=2.7, pivot=(0.0, 0.0, 0.2), focal=4.2647)
    cameras = grid_cameras(
        views,
        rig,
        yaw_range_deg=settings.yaw_range_deg,
        pitch_range_deg=settings.pitch_range_deg,
    )
    labels = [view_label(index, settings) for index in range(len(cameras))]
    assert labels[0] == "front" and len(set(labels[1:])) == views * views
    for label, matrix in zip(labels[1:], cameras.cam_to_world[1:], strict=True):
        x, y, z = (matrix[:3, 3] - torch.tensor(rig.pivot)).tolist()
        yaw, pitch = math.degrees(math.atan2(x, z)), math.degrees(math.atan2(y, math.hypot(x, z)))
        assert re.fullmatch(r"[+-]\d+, [+-]\d+", label)
        told = [float(part) for part in label.split(", ")]
        assert told == pytest.approx([yaw, pitch], abs=0.51)


@pytest.mark.parametrize(
    ("styles", "labels"),
    [
        (1, ["original", "edited", "final"]),
        (2, ["original", "edited 1", "final 1", "edited 2", "final 2"]),
    ],
)
def test_the_sheet_shows_the_same_views_of_every_stage(monkeypatch, styles, labels):
    shown = {}

    def contact_sheet(rows, columns):
        shown.update(rows=rows, columns=columns)
        return "sheet"

    monkeypatch.setattr(run_files, "contact_sheet", contact_sheet)
    views = torch.arange(5.0)[:, None, None, None].expand(5, 3, 2, 2)
    style = SimpleNamespace(edited=10 + views, sheet=20 + views[[0, 2]])
    settings = replace(SETTINGS, views=2)
    run = SimpleNamespace(
        original=views, sheet_views=[0, 2], styles=[style] * styles, settings=settings
    )
    assert views_sheet(run) == "sheet"
    assert [label for label, _ in shown["rows"]] == labels
    assert shown["columns"] == ["front", view_label(2, settings)]
    assert [row[:, 0, 0, 0].tolist() for _, row in shown["rows"][:3]] == [
        [0, 2],
        [10, 12],
        [20, 22],
    ]


def test_small_pictures_are_enlarged_by_the_whole_factor_nearest_to_512():
    assert [scale_for(pixels) for pixels in (16, 128, 200, 400, 512, 1024)] == [32, 4, 3, 1, 1, 1]
    dot = torch.zeros(3, 128, 128)
    dot[0, :, 64:] = 1.0
    large = enlarged(dot)
    assert large.shape == (3, 512, 512)
    torch.testing.assert_close(large[0, :, :248], torch.zeros(512, 248))
    torch.testing.assert_close(large[0, :, 264:], torch.ones(512, 248))
    assert 0 <= large.min() and large.max() <= 1  # bicubic overshoots at the edge; this does not
    whole = torch.rand(3, 512, 512)
    assert torch.equal(enlarged(whole), whole)


def test_versions_say_what_is_missing(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("torch", "no-such-package"))
    got = versions()
    assert set(got) == {"freestyle", "python", "system", "torch", "no-such-package"}
    assert got["no-such-package"] == "missing"
    assert got["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_peak_memory_is_in_mebibytes():
    peak = peak_memory_mb()["process"]
    # torch alone takes over a hundred; a unit too small or too large is off by a thousand
    assert peak is None or 50 < peak < 100_000


def test_memory_of_a_card_is_read_from_the_card_that_was_used(monkeypatch):
    held = {"cuda:0": 1, "cuda:1": 7}
    monkeypatch.setattr(
        torch.cuda, "max_memory_allocated", lambda device: held[str(device)] * 2**20
    )
    assert peak_memory_mb("cuda:1")["cuda"] == 7
    assert peak_memory_mb(torch.device("cuda:0"))["cuda"] == 1
    assert peak_memory_mb("cpu")["cuda"] is None
