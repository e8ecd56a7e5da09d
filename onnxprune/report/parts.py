"""What a report for people is made of: tables, labelled lines, headings, and what colours mean.

A pipe gets it as plain text, a terminal in colours (`terminal.show`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from onnxprune.report.text import table

__all__ = ["MOODS", "Fact", "Heading", "Marked", "Part", "Table", "plain", "ratio"]

#: What a text may be: better than before, worse or refused, worth a look, less important.
MOODS = ("good", "bad", "warn", "quiet")
#: Columns that the label of a line takes.
LABEL = 10


class Marked(str):
    """Text with its mood, one of `MOODS`; in a pipe it is the text alone."""

    mood: str

    def __new__(cls, text: str, mood: str = "") -> Marked:
        """Mark a text; without a mood it stays plain."""
        made = super().__new__(cls, text)
        made.mood = mood
        return made


@dataclass(frozen=True)
class Table:
    """Rows of cells.

    Attributes:
        rows: of equal length.
        left: how many of the first columns are aligned to the left; numbers go to the right.
        head: whether the first row names the columns.
        indent: spaces before each row.
    """

    rows: Sequence[Sequence[str]]
    left: int = 1
    head: bool = True
    indent: int = 0


class Fact(NamedTuple):
    """A line with a label."""

    label: str
    text: str


class Heading(NamedTuple):
    """A line above what belongs together."""

    text: str


Part: TypeAlias = Table | Fact | Heading | str


def plain(parts: Iterable[Part]) -> str:
    """Parts as text without colours, lines as long as they come."""
    return "\n".join(map(_plain, parts))


def _plain(part: Part) -> str:
    if isinstance(part, Table):
        made = table(part.rows, part.left)
        return "\n".join(" " * part.indent + line for line in made.split("\n"))
    if isinstance(part, Fact):
        return f"{part.label:{LABEL}}{part.text}"
    return part.text if isinstance(part, Heading) else part


def ratio(after: float, before: float) -> Marked:
    """Format what is left as a share of what was there; less is better."""
    mood = "good" if after < before else "bad" if after > before else ""
    return Marked(f"{after / max(before, 1):.3f}", mood)
