"""Tables of measurements as text and Markdown, and what they were measured with."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from statistics import median
from typing import Any

__all__ = ["Table", "environment", "megabytes", "render", "spread"]


@dataclass(frozen=True)
class Table:
    """Rows of text under a header, notes below, and the numbers behind them for JSON."""

    title: str
    header: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    values: list[dict[str, Any]] = field(default_factory=list)

    def take(self, values: dict[str, Any], row: Sequence[str]) -> None:
        """Add a row with the numbers behind it, and show it at once: a run may be stopped."""
        self.values.append(values)
        self.rows.append(row)
        print("  ".join(row), file=sys.stderr, flush=True)

    def fail(self, name: str, error: Exception) -> None:
        """Add a row that says why there are no numbers."""
        self.rows.append((name, f"error: {error}", *[""] * (len(self.header) - 2)))
        self.values.append({"name": name, "error": str(error)})


def environment() -> dict[str, str]:
    """Versions and machine, for whoever compares two tables."""
    names = ("onnxprune", "onnx", "onnxruntime", "numpy", "onnxsim")
    installed = {found.metadata["Name"].lower() for found in metadata.distributions()}
    versions = {name: metadata.version(name) for name in names if name in installed}
    cores = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    return {"python": platform.python_version(), **versions, "machine": cores}


def render(table: Table, markdown: bool) -> str:
    """A table as aligned text or Markdown."""
    rows = [table.header, *table.rows]
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "| --- |" + " ---: |" * (len(table.header) - 1))
        return "\n".join([f"### {table.title}", "", *lines, *("\n" + n for n in table.notes)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join([table.title, *lines, *table.notes])


def spread(values: Sequence[float]) -> str:
    """`median (min..max)` with three digits of the median's size."""
    digits = max(0, 2 - math.floor(math.log10(max(median(values), 1e-9))))
    low, middle, high = (f"{f(values):.{digits}f}" for f in (min, median, max))
    return f"{middle} ({low}..{high})"


def megabytes(size: float) -> str:
    """Bytes as MB, with a digit where there are few."""
    return f"{size / 1e6:.1f}" if size < 1e7 else f"{size / 1e6:.0f}"
