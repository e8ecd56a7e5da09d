"""Rows of the sensitivity table for the channels of groups, and where they are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration import covariance, importance_sampling
from onnxprune.compensation import obs
from onnxprune.importance import measuring_plan
from onnxprune.importance.output_divergence import Weights
from onnxprune.importance.sensitivity import Measured, Response
from onnxprune.types import Floats, Group, Ints

__all__ = [
    "MEASURING",
    "WIDTHS",
    "Sensitivity",
    "best_channels",
    "not_measured",
    "response",
    "widths_measured",
]

#: Shares of a group's width at which divergence is measured, by how many of them there may be.
WIDTHS = (
    (0.5,),
    (0.6, 0.25),
    (0.7, 0.4, 0.2),
    (0.8, 0.5, 0.3, 0.15),
    (0.8, 0.6, 0.4, 0.25, 0.12),
)
#: What the table depends on, for keys of caches.
MEASURING = (
    WIDTHS,
    covariance.SETTINGS,
    importance_sampling.SETTINGS,
    measuring_plan.SETTINGS,
    obs.SETTINGS,
)


@dataclass(frozen=True)
class Sensitivity:
    """How much the outputs suffer when one group alone gets narrower.

    Attributes:
        group: as it is to be cut.
        ranking: (n_channels,) its channels, the best first.
        errors: (n_channels + 1,) divergence of the outputs at every width.
        measured: the divergence by width, where the model was run.
        unmeasured: why it could not be measured, so that the group stays whole; else empty.
    """

    group: Group
    ranking: Ints
    errors: Floats
    measured: Mapping[int, float]
    unmeasured: str = ""


def best_channels(table: Sequence[Sensitivity], widths: Ints) -> list[NDArray[np.bool_]]:
    """Mark the best channels (n_channels,) of every group, `widths` (n_groups,) of them."""
    kept = []
    for row, width in zip(table, widths.tolist(), strict=True):
        mask = np.zeros(row.group.channels, bool)
        mask[row.ranking[:width]] = True
        kept.append(mask)
    return kept


def not_measured(group: Group, why: str) -> Sensitivity:
    """The row of a group that could not be measured."""
    n = group.channels
    return Sensitivity(group, np.arange(n), np.zeros(n + 1), {}, why)


def widths_measured(group: Group, to_none: bool, runs: int) -> list[int]:
    """List the widths at which a group is measured, the widest first.

    Args:
        group: which.
        to_none: also at none.
        runs: how many widths there may be beside that.
    """
    n = group.channels
    widths = {max(1, round(share * n)) for share in WIDTHS[runs - 1]} | ({0} if to_none else set())
    return sorted(widths - {n}, reverse=True)


def response(
    group: Group, ranking: Ints, errors: Floats, weights: Callable[[Ints], Weights]
) -> Response[Sensitivity]:
    """Build the response of a group whose channels go in a known order.

    Args:
        group: as it is to be cut.
        ranking: (n_channels,) its channels, the best first.
        errors: (n_channels + 1,) layer error at every width.
        weights: new content of stored tensors, by the channels that are kept.
    """

    def row(found: Measured) -> Sensitivity:
        measured = {int(width): value for width, value in found.measured.items()}
        return Sensitivity(group, ranking, found.errors, measured)

    return Response(errors, lambda width: weights(ranking[: int(width)]), row)
