"""Format numbers and tables as people read them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from onnxprune.groups.reach import UNTOUCHED, Part, Reach

__all__ = ["amount", "reach_lines", "table"]


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


def reach_lines(reach: Reach | None) -> Iterable[str]:
    """Say what calibration reached of a model, and the reasons that kept most from it."""
    if reach is None:
        return
    done = [f"refitted {reach.layers.reached} of {reach.layers.count} layers"]
    if reach.groups is not None:
        done.append(f"measured {reach.groups.reached} of {reach.groups.count} groups")
    if reach.parameters is not None:
        share = reach.parameters.reached / max(reach.parameters.count, 1)
        done.append(f"tuned {share:.1%} of parameters")
    yield f"reached   {', '.join(done)}"
    yield from _left(reach.layers, "layer")
    if reach.groups is not None:
        yield from _left(reach.groups, "group")


def _left(part: Part, what: str) -> Iterable[str]:
    reasons = Counter(why for why in part.left.values() if why != UNTOUCHED)
    for why, count in reasons.most_common(3):
        yield f"left      {count} {what}{'s' * (count > 1)}: {why}"


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
