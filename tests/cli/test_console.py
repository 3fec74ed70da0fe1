import io

from freestyle_core.cli import console as stages
from freestyle_core.cli.console import TextBar, bar_line


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bar_line_says_the_time_left_and_what_is_done():
    assert bar_line("edit", 5, 20, 15.0) == "edit [######..................]  25% 0:15 left"
    assert bar_line("edit", 20, 20, 0.0) == "edit [########################] 100%"
    assert bar_line("edit", 0, 20) == "edit [........................]   0%"
    assert bar_line("edit", 0, 0).endswith("0%")
    doing = bar_line("edit", 5, 20, 15.0, doing="decoding, view 3/17")
    assert doing.endswith(" 25% 0:15 left, decoding, view 3/17")


def test_the_line_names_the_phase_and_counts_down(monkeypatch):
    monkeypatch.setattr(stages, "REFRESH_SECONDS", 0.0)
    now = iter([0.0, 0.0, 9.0, 11.0, 13.0, 13.0])
    monkeypatch.setattr(stages.time, "monotonic", lambda: next(now))
    stream = Terminal()
    bar = TextBar("edit", stream=stream)
    for done in range(4):  # the first step took 9 seconds, the others 2
        bar.phase("restyling, step", done, 8)
        bar(done, 8)
    assert stream.getvalue().endswith(" 38% 0:10 left, restyling, step 3/8")


def test_terminal_line_is_overwritten_completely(monkeypatch):
    monkeypatch.setattr(stages, "REFRESH_SECONDS", 0.0)
    stream = Terminal()
    bar = TextBar("edit", stream=stream)
    bar(1, 4)
    bar.close(finished=True)
    first, second, third = stream.getvalue().rstrip("\n").split("\r")[1:]
    assert first == "edit ..." and second.startswith("edit [######")
    assert third.rstrip() == "edit 0:00" and len(third) == len(second)


def test_log_gets_one_line_per_finished_stage():
    stream = io.StringIO()
    bar = TextBar("edit", stream=stream)
    bar(1, 4)
    bar(4, 4)
    bar.close(finished=True)
    TextBar("stopped", stream=stream).close(finished=False)
    assert stream.getvalue() == "edit 0:00\n"
