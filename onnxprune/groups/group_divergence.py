"""How far the outputs move when one group alone gets narrower, as reports tell it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxprune.types import Floats

__all__ = ["POINTS", "GroupDivergence", "group_divergence"]

#: Widths of a group that are told, evenly from one to all, beside those that were measured.
POINTS = 12


@dataclass(frozen=True)
class GroupDivergence:
    """The divergence of the outputs by the width of one group, all others whole.

    Attributes:
        name: of the group.
        channels: of the group.
        kept: those that the result keeps.
        points: widths and divergences, the widest first; `kept` is among the widths.
        measured: the widths at which the model was run; between them it follows the layer error.
    """

    name: str
    channels: int
    kept: int
    points: tuple[tuple[int, float], ...]
    measured: tuple[int, ...]

    def values(self) -> dict[str, Any]:
        """The content of the JSON report."""
        return {
            "name": self.name,
            "channels": self.channels,
            "kept": self.kept,
            "measured": list(self.measured),
            "divergence": {str(width): value for width, value in self.points},
        }


def group_divergence(
    name: str, errors: Floats, measured: Collection[int], kept: int
) -> GroupDivergence:
    """Tell the curve of one group at few widths.

    Args:
        name: of the group.
        errors: (n_channels + 1,) divergence at every width.
        measured: the widths at which the model was run.
        kept: the channels that the result keeps.
    """
    n = len(errors) - 1
    even = np.linspace(1, n, min(POINTS, n)).round().astype(int).tolist()
    widths = sorted({*even, *measured, kept}, reverse=True)
    points = tuple((width, float(f"{errors[width]:.6g}")) for width in widths)
    return GroupDivergence(name, n, kept, points, tuple(sorted(measured, reverse=True)))
