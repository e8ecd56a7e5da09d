"""The width of queries and keys, where what stays is mixed from all (see `query_key`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation import query_key
from onnxprune.compensation.query_key import Pair
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.units import channel_unit
from onnxprune.importance.channels import (
    Sensitivity,
    not_measured,
    response,
    widths_measured,
)
from onnxprune.importance.output_divergence import Weights
from onnxprune.importance.sensitivity import Measurable, Response
from onnxprune.types import Floats, Group, Ints

__all__ = ["query_key_unit"]


def query_key_unit(
    analysis: Analysis, group: Group, pair: Pair, grams: tuple[Floats, Floats]
) -> Measurable[Sensitivity]:
    """Say how the width of queries and keys is measured.

    Args:
        analysis: the original.
        group: the width.
        pair: the layers of both sides.
        grams: (heads, n, n) second moments of both sides.
    """

    def weights(kept: Ints) -> Weights:
        mask = np.zeros(group.channels, bool)
        mask[kept] = True
        changed: dict[str, NDArray[Any]] = {}

        def now(name: str) -> NDArray[Any] | None:
            return changed[name] if name in changed else analysis.read(name)

        for side, matrix in query_key.mixing_matrices(pair, grams, mask):
            changed |= query_key.mixed_weights(side, matrix, now)
        return changed

    def respond(_statistics: Mapping[str, Statistics]) -> Response[Sensitivity]:
        channels = np.arange(group.channels)
        return response(group, channels, query_key.lost_shares(grams), weights)

    widths, failed = partial(widths_measured, group, False), partial(not_measured, group)
    changed = {name for s in pair.sides for name in (s.layer.weight.name, s.bias) if name}
    return Measurable(channel_unit(group), widths, respond, failed, changed=changed)
