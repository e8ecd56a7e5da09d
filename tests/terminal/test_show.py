"""Reports in colours on a terminal, and as plain text in a pipe."""

import io
import sys

import pytest
from rich.text import Text

from onnxprune.report.parts import Fact, Heading, Marked, Part, Table, plain
from onnxprune.terminal.show import is_terminal, say, show

PARTS: list[Part] = [
    Table([("", "before", "ratio"), ("MACs", "2 M", Marked("0.500", "good"))]),
    Fact("slower", Marked("than before, which is a pity and said in so many words", "bad")),
    Heading("groups (1)"),
    Table([("Conv", "a"), ("Relu", "b")], left=2, head=False, indent=2),
    "[done]",
]


class Terminal(io.StringIO):
    """A stream that says that somebody looks at it."""

    def isatty(self) -> bool:
        return True


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard output and error from here on: a terminal of 40 columns."""
    stream = Terminal()
    for name, value in (("TERM", "xterm-256color"), ("COLUMNS", "40"), ("TTY_COMPATIBLE", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def lines(stream: io.StringIO) -> list[str]:
    return [Text.from_ansi(line).plain.rstrip() for line in stream.getvalue().splitlines()]


def test_a_pipe_gets_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    show(PARTS)
    assert capsys.readouterr().out == plain(PARTS) + "\n"


def test_a_terminal_gets_the_same_words_in_colours_and_folded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = terminal_of(monkeypatch)
    show(PARTS)
    assert lines(terminal) == [
        "      before  ratio",
        "MACs     2 M  0.500",
        "slower    than before, which is a pity",
        "          and said in so many words",
        "groups (1)",
        "  Conv  a",
        "  Relu  b",
        "[done]",
    ]
    text = terminal.getvalue()
    assert "\x1b[32m" in text.split("2 M")[1].split("\n")[0]  # good is green
    assert "\x1b[1;31m" in text.split("slower")[1].split("\n")[0]  # bad is red


def test_no_color_leaves_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    show(PARTS)
    say("Error: no", "bad")
    assert not any(f"\x1b[{code}m" in terminal.getvalue() for code in ("31", "1;31", "32", "36"))
    assert lines(terminal)[-1] == "Error: no"


def test_errors_are_red_and_warnings_yellow(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    say("Error: no", "bad")
    say("Warning: well", "warn")
    assert "\x1b[31mError: no" in terminal.getvalue()
    assert "\x1b[33mWarning: well" in terminal.getvalue()


def test_a_dumb_terminal_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setenv("TERM", "dumb")
    assert not is_terminal(sys.stdout)
    show(PARTS)
    assert terminal.getvalue() == plain(PARTS) + "\n"
