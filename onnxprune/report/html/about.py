"""What a page says of the run itself: the command, its settings, the versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxprune.report.html.elements import Content, el
from onnxprune.report.html.parts import Column, Section, details, table

__all__ = ["About", "Setting", "run_sections"]


@dataclass(frozen=True)
class Setting:
    """A setting as text, and whether the user gave it."""

    name: str
    value: str
    given: bool = False


@dataclass(frozen=True)
class About:
    """What made the values that a page shows.

    Attributes:
        kind: the command: prune, apply, sparsify, run, check, bench, sensitivity or sweep.
        models: files that were read or written, the first of them the original.
        command: what repeats it, as typed; empty where it was no command.
        settings: all of them, with their defaults.
        versions: of the package and of what it runs on.
        limits: gates of `check` by name, those that were given.
    """

    kind: str
    models: Sequence[str] = ()
    command: str = ""
    settings: Sequence[Setting] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)


def run_sections(about: About, environment: Mapping[str, Any]) -> list[Section]:
    """The command, the settings and the versions."""
    sections = []
    if about.command:
        told = "This command repeats it. Equal inputs, settings and versions give equal models."
        content = (el("p", told), el("pre", el("code", about.command)))
        sections.append(Section("repeat", "Repeat it", content))
    inside: list[Content] = []
    if about.settings:
        inside += _settings(about.settings)
    rows: list[list[Content]] = [[n, str(v)] for n, v in {**about.versions, **environment}.items()]
    if rows:
        columns = [Column("what"), Column("value", "left")]
        inside.append(table("Versions and what was measured on", columns, rows))
    if inside:
        sections.append(Section("settings", "Settings and versions", tuple(inside)))
    return sections


def _settings(settings: Sequence[Setting]) -> list[Content]:
    columns = [Column("setting"), Column("value", "left")]

    def rows(given: bool) -> list[list[Content]]:
        return [[one.name, el("code", one.value)] for one in settings if one.given == given]

    chosen, defaults = rows(True), rows(False)
    made: list[Content] = [table("Settings that were given", columns, chosen)] if chosen else []
    if defaults:
        inside = table("Settings with their default", columns, defaults)
        made.append(details(f"{len(defaults)} settings with their default", inside))
    return made
