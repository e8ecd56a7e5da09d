"""Rows of errors for the groups of a model."""

from collections.abc import Sequence

from onnxprune.allocation.offers import Limits, offers
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.units import Row, channel_rows
from onnxprune.importance.criteria import errors_of, scores_of
from onnxprune.importance.group_weights import weights_of


def rows_by(analysis: Analysis, name: str = "l2", limits: Limits | None = None) -> list[Row]:
    """Rows from scores of weights, with the widths that limits allow."""
    errors = [errors_of(name, scores) for scores in scores_of(name, weights_of(analysis, 0))]
    return offering(analysis, channel_rows(analysis.groups, errors), limits)


def offering(analysis: Analysis, rows: Sequence[Row], limits: Limits | None = None) -> list[Row]:
    """Rows with the widths that limits allow, by default at least one channel."""
    pairs = zip(rows, analysis.groups, strict=True)
    return [row.offering(offers(group, limits or Limits())) for row, group in pairs]
