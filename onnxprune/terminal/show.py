"""Show the parts of a report: in colours and as wide as the terminal, or as plain text in a pipe.

rich is imported where there is a terminal: nothing else waits for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

import click

from onnxprune.report.parts import LABEL, Fact, Heading, Marked, Part, Table, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["STYLES", "is_terminal", "say", "show"]

#: How each mood of a text looks.
STYLES = {"good": "green", "bad": "bold red", "warn": "yellow", "quiet": "dim"}


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody looks at a stream with a terminal that knows more than plain lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def show(parts: Iterable[Part]) -> None:
    """Print parts on standard output."""
    if not is_terminal(sys.stdout):
        click.echo("\n".join(map(_line, parts)), color=_wanted(sys.stdout))
        return
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, emoji=False, markup=False)
    for part in parts:
        console.print(_rendered(part), soft_wrap=isinstance(part, str))  # a command stays one line


def say(text: str, mood: str) -> None:
    """Print a line on standard error, in the colour of its mood on a terminal.

    `NO_COLOR` in the environment leaves it plain.
    """
    colour = {"bad": "red", "warn": "yellow"}[mood]
    click.secho(text, err=True, fg=colour, color=_wanted(sys.stderr))


def _wanted(stream: TextIO) -> bool | None:
    """False where click is to leave colours out; None where it does so by itself, as in pipes."""
    plain_only = os.environ.get("NO_COLOR") or not is_terminal(stream)
    return False if stream.isatty() and plain_only else None


def _line(part: Part) -> str:
    """A part as plain text, in red where it is bad for programs that ask for colours in a pipe."""
    bad = isinstance(part, Fact) and isinstance(part.text, Marked) and part.text.mood == "bad"
    return click.style(plain([part]), fg="red") if bad else plain([part])


def _rendered(part: Part) -> RenderableType:
    """What rich prints for a part."""
    from rich import table, text

    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Heading):
        return text.Text(part.text, "bold")
    if isinstance(part, Fact):
        grid = table.Table.grid(padding=0)
        grid.add_column(width=LABEL, style="cyan", no_wrap=True)
        grid.add_column(overflow="fold", ratio=1)
        grid.add_row(part.label, text.Text(part.text, _style(part.text)))
        return grid
    return text.Text(part, _style(part))


def _table(part: Table) -> RenderableType:
    """A table whose columns fold where the terminal is too narrow."""
    from rich import padding, table, text

    made = table.Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=part.head)
    body = part.rows[1:] if part.head else part.rows
    names = part.rows[0] if part.head else [""] * len(part.rows[0])
    for k, name in enumerate(names):
        head = text.Text(name, "bold")
        made.add_column(head, justify="left" if k < part.left else "right", overflow="fold")
    for row in body:
        made.add_row(*(text.Text(cell, _style(cell)) for cell in row))
    return padding.Padding(made, (0, 0, 0, part.indent)) if part.indent else made


def _style(text: str) -> str:
    return STYLES.get(text.mood, "") if isinstance(text, Marked) else ""
