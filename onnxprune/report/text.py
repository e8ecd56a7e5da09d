"""Format numbers and tables as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["amount", "table"]


def amount(value: float, name: str) -> str:
    """Format a number with three digits and a unit: 1.25 G, 3.4 M, 65.1 kB.

    Args:
        value: at least 0.
        name: of the metric: `bytes` and `size` are counted in B, `nodes` one by one.
    """
    unit = "B" if name in ("bytes", "size") else ""
    if name == "nodes" or value < 1000:
        return f"{value:.0f} {unit}".rstrip()
    power = min(int(math.log10(value) // 3), 4)
    return f"{value / 1000**power:.3g} {' kMGT'[power]}{unit}".rstrip()


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Align columns of rows: the first `left` of them to the left, all others to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
