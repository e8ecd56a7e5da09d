"""What a report for people is made of: tables, labelled lines, headings, and what colours mean.

A pipe gets it as plain text, a terminal in colours (`terminal.show`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from onnxprune.groups import reach as reached
from onnxprune.groups.reach import Reach
from onnxprune.report.text import table
from onnxprune.report.values import Fidelity

__all__ = [
    "MOODS",
    "Fact",
    "Heading",
    "Marked",
    "Part",
    "Table",
    "accuracy_rows",
    "drift_lines",
    "left_lines",
    "plain",
    "ratio",
    "reach_lines",
    "rise",
    "score_lines",
    "time_ratio",
]

#: What a text may be: better than before, worse or refused, worth a look, less important.
MOODS = ("good", "bad", "warn", "quiet")
#: Times whose ratio is below this are the same.
TELLS = 1.02
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


def time_ratio(after_ms: float, before_ms: float) -> Marked:
    """Format a time as a share of another; neither good nor bad where clocks cannot tell."""
    share = after_ms / before_ms
    mood = "good" if share < 1 / TELLS else "bad" if share > TELLS else ""
    return Marked(f"{share:.3f}", mood)


def rise(after: float, before: float) -> Marked:
    """Format how far an accuracy moved."""
    mood = "good" if after > before else "warn" if after < before else ""
    return Marked(f"{after - before:+.2%}", mood)


def accuracy_rows(drift: Fidelity | None) -> Iterator[Sequence[str]]:
    """Give the row of a table with top-1 before and after, where it was measured."""
    if drift is not None and drift.accuracy is not None:
        before, after = drift.accuracy
        yield "top-1", f"{before:.2%}", f"{after:.2%}", rise(after, before)


def drift_lines(drift: Fidelity | None, whence: str = "") -> Iterator[Part]:
    """Say how far the outputs moved; `whence` names from what."""
    if drift is not None:
        agree = "" if drift.agreement is None else f", top-1 agreement {drift.agreement:.1%}"
        what = f"{drift.samples} samples, {drift.data}"
        yield Fact("drift", f"cosine {drift.cosine:.4f}{agree}{whence} ({what})")


def score_lines(evaluation: Mapping[str, Any] | None) -> Iterator[Part]:
    """Give the score of the user's function before and after."""
    if evaluation is not None:
        before, after, name = (evaluation[key] for key in ("before", "after", "function"))
        yield Fact("score", f"{before:.4g} before, {after:.4g} after ({name})")


def reach_lines(reach: Reach | None) -> Iterator[Part]:
    """Say what calibration reached of a model, and the reasons that kept most from it."""
    if reach is None:
        return
    done = [f"refitted {reach.layers.reached} of {reach.layers.count} layers"]
    if reach.groups is not None:
        done.append(f"measured {reach.groups.reached} of {reach.groups.count} groups")
    if reach.parameters is not None:
        share = reach.parameters.reached / max(reach.parameters.count, 1)
        done.append(f"tuned {share:.1%} of parameters")
    yield Fact("reached", ", ".join(done))
    yield from left_lines(reach.layers, "layer")
    if reach.groups is not None:
        yield from left_lines(reach.groups, "group")


def left_lines(part: reached.Part, what: str) -> Iterator[Part]:
    """Say for what reasons most were not reached; `what` is one of them."""
    reasons = Counter(why for why in part.left.values() if why != reached.UNTOUCHED)
    for why, count in reasons.most_common(3):
        yield Fact("left", f"{count} {what}{'s' * (count > 1)}: {why}")
