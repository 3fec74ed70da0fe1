"""The simulated batch against times worked out by hand."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from batch_scale import Simulation, Site

SITE = Site(
    render=3, work=10, save=2, result_mb=4, files=5, views_mb=20, models_mb=100, load=7,
    hand_out=0.5, report=0.0, disk_mb=10, file=0.1,
)  # fmt: skip
MODELS, VIEWS, RESULT = 10.0, 2.0, 0.4 + 0.5  # seconds of the disk


def test_one_worker_renders_a_head_once():
    found = Simulation(SITE, 1, styles=2, heads=1).run()
    first = 0.5 + 3 + VIEWS + 12 + RESULT
    assert found.makespan == pytest.approx(MODELS + 7 + first + first - 3)
    assert found.useful == pytest.approx(3 + 12 + 12) and found.idle == 0
    assert (found.head, found.lost) == (0, 0) and found.load == pytest.approx(MODELS + 7)


def test_a_second_worker_waits_for_the_disk_and_for_the_views():
    found = Simulation(SITE, 2, styles=2, heads=1).run()
    # the models come one after the other; the second worker is ready when the views are there
    assert found.load == pytest.approx(MODELS + 7 + 2 * MODELS + 7)
    late = replace(SITE, copies=True)
    both = Simulation(late, 2, styles=2, heads=1).run()
    # the second is handed its job half a second later and waits for views that are then there
    assert both.head == pytest.approx(3 + VIEWS - 0.5)
    assert both.main == pytest.approx(0.5 + 1.0)


def test_without_sharing_everybody_renders():
    found = Simulation(replace(SITE, share=False, copies=True), 2, styles=4, heads=1).run()
    assert found.useful == pytest.approx(4 * 15) and found.head == 0


def test_reports_take_the_main_process_from_the_jobs():
    busy = replace(SITE, report=0.01, reports=2)
    assert Simulation(busy, 25, 1, 1).hand_out == pytest.approx(1.0)  # half its time is gone
    capped = replace(busy, most_reports=10)
    assert Simulation(capped, 1000, 1, 1).hand_out == pytest.approx(0.5 / 0.9)


def test_lost_workers_lose_what_they_had_begun_and_every_job_is_made():
    lossy = replace(SITE, lost=60.0)  # one a minute
    found = Simulation(lossy, 3, styles=5, heads=2, seed=1).run()
    calm = Simulation(SITE, 3, styles=5, heads=2).run()
    assert found.lost > 0 and found.makespan > calm.makespan
    assert found.useful == pytest.approx(calm.useful) == pytest.approx(2 * 3 + 10 * 12)
