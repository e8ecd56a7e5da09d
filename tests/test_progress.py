"""A bar for terminals once a run takes long, and how long it may still take."""

import io

import pytest
from seconds import Seconds

from onnxprune import progress
from onnxprune.progress import Bar, between


class Terminal(io.StringIO):
    """A stream that says that somebody looks at it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    clock = Seconds()
    monkeypatch.setattr(progress, "monotonic", clock)
    return clock


def test_a_bar_appears_after_two_seconds_and_leaves_a_clean_screen(
    clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    bar = Bar(stream)
    bar("measuring", 0.1)
    bar.close()
    assert stream.getvalue() == ""
    clock.now += 2
    bar("measuring", 0.5)
    assert "measuring" in stream.getvalue() and " 50%" in stream.getvalue()
    bar.close()
    assert stream.getvalue().endswith("\x1b[1A\x1b[2K")  # up, and the line is wiped
    bar.close()


@pytest.mark.parametrize(("stream", "quiet"), [(io.StringIO(), False), (Terminal(), True)])
def test_a_pipe_and_whoever_wants_quiet_see_nothing(
    stream: io.StringIO, quiet: bool, clock: Seconds
) -> None:
    bar = Bar(stream, quiet)
    clock.now += 10
    bar("measuring", 0.5)
    bar.close()
    assert stream.getvalue() == ""


def test_a_stage_is_a_part_of_the_whole() -> None:
    told = list[tuple[str, float]]()
    stage = between(lambda name, share: told.append((name, share)), "proof", 0.5, 0.9)
    for share in (0.0, 0.5, 1.0):
        stage(share)
    assert told == [("proof", 0.5), ("proof", 0.7), ("proof", 0.9)]


def test_the_time_left_follows_from_the_pace_since_the_first_report(clock: Seconds) -> None:
    """A fifth took 4 s after the first report, so three quarters take 15; the start counts not."""
    told = list[tuple[str, float]]()
    stage = between(lambda name, share: told.append((name, share)), "timing", 0.0, 0.5)
    clock.now += 60
    stage(0.05)
    clock.now += 0.5
    stage(0.06)
    clock.now += 3.5
    stage(0.25)
    stage(1.0)
    assert told == [
        ("timing", 0.025), ("timing", 0.03), ("timing, 15 s left", 0.125), ("timing", 0.5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"), [(9, "99 s"), (60, "11 min"), (60 * 60, "11 h"), (0.5, "")]
)
def test_long_times_are_told_in_minutes_and_hours(
    seconds: float, text: str, clock: Seconds
) -> None:
    """The time left after a twelfth, eleven times as long."""
    told = list[str]()
    stage = between(lambda name, share: told.append(name), "measuring", 0.0, 1.0)
    stage(0.0)
    clock.now += seconds
    stage(1 / 12)
    assert told[1] == (f"measuring, {text} left" if text else "measuring")
