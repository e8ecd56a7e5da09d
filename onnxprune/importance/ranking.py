"""Channels of every group with their scores, each head's best units first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onnxprune.calibration.activation_statistics import ActivationStatistics, measure_statistics
from onnxprune.calibration.samples import Calibration
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.head_units import reordered, single_units
from onnxprune.importance.criteria import (
    COVARIANCE,
    NEED_DATA,
    Scores,
    load_criterion,
    scores_of,
)
from onnxprune.importance.group_weights import weights_of
from onnxprune.settings import ImportanceSettings
from onnxprune.types import Axis

__all__ = ["rank", "rank_on_samples"]


def rank(
    analysis: Analysis,
    criterion: str,
    seed: int,
    activations: Mapping[Axis, ActivationStatistics] | None = None,
) -> tuple[Analysis, Sequence[Scores]]:
    """The survey with groups as they are to be cut, and (n_channels,) scores of each.

    In a group whose heads choose for themselves every unit (a channel in one head) is scored;
    channel 0 then takes the best unit of every head, channel 1 the next best, and so on.
    """
    units = [single_units(g) if g.heads > 1 else g for g in analysis.groups]
    scores = scores_of(criterion, weights_of(analysis, seed, units, activations))
    groups = list(analysis.groups)
    for k, group in enumerate(analysis.groups):
        if group.heads > 1:
            table = scores[k].reshape(group.channels, group.heads)
            order = np.argsort(-table, axis=0, kind="stable")
            groups[k] = reordered(group, order)
            scores[k] = np.take_along_axis(table, order, 0).mean(1)
    return analysis.with_groups(groups), scores


def rank_on_samples(
    analysis: Analysis, data: Calibration, options: ImportanceSettings
) -> tuple[Analysis, Sequence[Scores]]:
    """Groups and scores under a criterion that may look at activations."""
    looked_at = None
    load_criterion(options.criterion)
    if options.criterion in NEED_DATA:
        covariance = options.criterion in COVARIANCE
        looked_at = measure_statistics(analysis, data.batches, covariance, device=data.place.device)
    return rank(analysis, options.criterion, options.seed, looked_at)
