"""Thin the levels of a unit out to those on the lower convex hull of its errors.

For costs that grow in proportion to what stays, other levels are never worth it, and steps from one
level of the hull to the next are in the order of their price.
"""

from __future__ import annotations

from onnxprune.groups.units import Row

__all__ = ["convex"]


def convex(row: Row) -> Row:
    """Offer only the levels on the lower convex hull of errors over what stays."""
    x, y = row.unit.levels.tolist(), row.errors.tolist()
    hull: list[int] = []
    for k in range(len(x)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[k] - x[a]) < (y[k] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(k)
    return row.offering(row.unit.levels[hull])
