"""The time left: what sets it, what does not, and that it falls."""

from freestyle_core.progress import Portion, enter_phase, no_progress
from freestyle_core.time_left import TimeLeft


def told(left, reports, total=10):
    """Return what is shown after each (done, time)."""
    shown = []
    for done, now in reports:
        left.note(done, total, now)
        shown.append(left.seconds(now))
    return shown


def test_the_first_step_does_not_set_the_estimate():
    # 30 s to warm up, then 2 s a step; it takes two of these before anything is said
    assert told(TimeLeft(), [(0, 0), (1, 30), (2, 32), (3, 34), (4, 36)]) == [
        None,
        None,
        None,
        14.0,
        12.0,
    ]


def test_between_two_steps_it_counts_down_and_a_late_step_holds_it():
    left = TimeLeft()
    told(left, [(0, 0), (1, 9), (2, 11), (3, 13)])
    assert [left.seconds(now) for now in (13, 14, 14.5, 15, 19)] == [14.0, 13.0, 12.5, 12.0, 12.0]
    left.note(3, 10, 20)  # the same step again, as long work asks whether to go on
    assert left.seconds(20) == 12.0


def test_a_little_slower_does_not_lift_it_but_much_slower_does():
    # 14 s left after steps of 2 s; one of 2.5 makes it 13, but the clock has come down to 11.5
    left = TimeLeft()
    assert told(left, [(0, 0), (1, 2), (2, 4), (3, 6), (4, 8.5)])[-2:] == [14.0, 11.5]
    # 20 s for one: (2 + 2 + 2.5 + 20) / 4 * 5 = 33.125
    assert told(left, [(5, 28.5)]) == [33.125]


def test_a_run_that_goes_on_is_timed_from_there():
    assert told(TimeLeft(), [(4, 0), (5, 9), (6, 10), (7, 11)])[-1] == 3.0


def test_a_new_phase_early_on_begins_afresh_and_a_late_one_goes_on():
    left = TimeLeft()
    left.enter("encoding")
    assert told(left, [(0, 0), (0.25, 1), (0.5, 2), (0.75, 3)], 20)[-1] == 77.0
    left.enter("restyling")
    assert told(left, [(1, 9)], 20) == [None]  # the slow first step of what is nearly all the work
    assert told(left, [(2, 12), (3, 15)], 20) == [None, 51.0]
    told(left, [(n, 15 + 3 * (n - 3)) for n in range(4, 19)], 20)
    left.enter("decoding")
    assert told(left, [(18.5, 62)], 20) == [4.0]  # its own first step sets nothing


def test_when_work_is_done_again_the_pace_is_kept():
    left = TimeLeft()
    told(left, [(0, 0), (1, 2), (2, 4), (3, 6)])
    left.note(1, 10, 8)  # memory ran out: from step 1 again
    assert told(left, [(2, 10)]) == [16.0]


def test_a_portion_fills_its_stretch_and_passes_phases_on():
    seen = []

    class Watcher:
        def __call__(self, done, total, preview=None):
            seen.append((done, total))

        def phase(self, name, done, total):
            seen.append((name, done, total))

    part = Portion(Watcher(), 0.5, 1.0)
    enter_phase(part, "normals, view", 1, 4)
    part(1, 4)
    part(4, 4)
    assert seen == [("normals, view", 1, 4), (0.625, 1), (1.0, 1)]
    enter_phase(no_progress, "normals, view", 1, 4)  # a plain function has no ear for it
