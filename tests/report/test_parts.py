"""Parts of a report as plain text."""

import pytest

from onnxprune.report.parts import Fact, Heading, Marked, Part, Table, plain, ratio


def test_parts_in_a_pipe() -> None:
    rows = [("", "before"), ("MACs", "2"), ("parameters", "10")]
    parts: list[Part] = [Table(rows), Fact("proof", "equal"), Heading("groups (1)"), "done"]
    assert plain(parts).splitlines() == [
        "            before",
        "MACs             2",
        "parameters      10",
        "proof     equal",
        "groups (1)",
        "done",
    ]


def test_columns_to_the_left_and_an_indent() -> None:
    table = Table([("Conv", "a", "1 → 2"), ("Relu", "bcd", "3")], left=3, indent=2)
    assert plain([table]).splitlines() == ["  Conv  a    1 → 2", "  Relu  bcd  3"]


def test_a_mood_is_not_seen_in_a_pipe() -> None:
    assert plain([Table([(Marked("x", "bad"), Marked("y"))])]) == "x  y"
    assert plain([Fact("slower", Marked("than before", "bad"))]) == "slower    than before"


@pytest.mark.parametrize(
    ("after", "before", "text", "mood"),
    [(1, 2, "0.500", "good"), (3, 2, "1.500", "bad"), (2, 2, "1.000", ""), (1, 0, "1.000", "bad")],
)
def test_less_is_better(after: float, before: float, text: str, mood: str) -> None:
    found = ratio(after, before)
    assert (found, found.mood) == (text, mood)
