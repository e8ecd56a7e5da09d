"""Which channels stay: widths on offer, the best channels of each group, the plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxprune.types import Group, Ints

__all__ = ["Limits", "offers"]


@dataclass(frozen=True)
class Limits:
    """What widths are offered: at least `min_channels`, multiples of `round_to` or all."""

    min_channels: int = 1
    round_to: int = 1


def offers(group: Group, limits: Limits, ratio: float | None = None) -> Ints:
    """Ascending widths a group may take; with `ratio` only the one nearest to it."""
    n = group.channels
    widths = np.arange(0, n + 1)
    allowed = widths[(widths % limits.round_to == 0) & (widths >= min(limits.min_channels, n))]
    allowed = np.union1d(allowed, [n])
    if ratio is not None:
        allowed = allowed[[int(np.abs(allowed - ratio * n).argmin())]]
    return allowed
