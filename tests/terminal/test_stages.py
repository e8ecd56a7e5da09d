"""Stages of a run on a terminal: what is done, what runs, how long it may still take."""

import io
import re

import pytest
from rich.text import Text
from seconds import Seconds

from onnxprune.terminal import stages
from onnxprune.terminal.stages import Stages


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    clock = Seconds()
    monkeypatch.setattr(stages, "monotonic", clock)
    return clock


def as_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw on any stream, whatever terminal the tests run in."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm-256color")


def drawn(stream: io.StringIO) -> list[str]:
    """Lines as they stand after the last drawing."""
    text = stream.getvalue().split("\x1b[2K")[-1]
    return [Text.from_ansi(line).plain.rstrip() for line in re.split(r"\r?\n", text)]


def test_stages_that_took_long_stay_listed(clock: Seconds, monkeypatch: pytest.MonkeyPatch) -> None:
    as_terminal(monkeypatch)
    stream = io.StringIO()
    shown = Stages(stream, 90.0)
    shown("measuring, 12 s left", 0.2)
    assert drawn(stream) == [f"measuring      {'━' * 30}  20%  12 s left"]
    clock.now += 110
    shown("ranking", 0.5)
    shown("proving", 1.5)
    assert drawn(stream) == ["measuring      2 min", f"proving        {'━' * 30} 100%"]
    clock.now += 30
    shown("comparing", 0.9)
    assert drawn(stream)[:2] == ["measuring      2 min", "proving        30 s"]
    shown.close()


def test_a_stage_is_drawn_ten_times_a_second_at_most(
    clock: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_terminal(monkeypatch)
    stream = io.StringIO()
    shown = Stages(stream, 100.0)
    shown("measuring", 0.2)
    before = stream.getvalue()
    shown("measuring", 0.3)
    assert stream.getvalue() == before
    clock.now += 0.2
    shown("measuring", 0.4)
    assert " 40%" in stream.getvalue()
    shown.close()
