"""Channels whose readers cannot all be refitted: ranked by their scores, they just go."""

from __future__ import annotations

from functools import partial

import numpy as np

from onnxprune.groups.analysis import Analysis
from onnxprune.groups.units import channel_unit
from onnxprune.importance.channels import (
    Sensitivity,
    not_measured,
    response,
    widths_measured,
)
from onnxprune.importance.criteria import Scores
from onnxprune.importance.output_divergence import Weights
from onnxprune.importance.sensitivity import Measurable
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import masked_weights
from onnxprune.types import Group, Ints

__all__ = ["dropped_unit"]


def dropped_unit(analysis: Analysis, group: Group, scores: Scores) -> Measurable[Sensitivity]:
    """Say how a group is measured that loses channels without a refit.

    Args:
        analysis: the original.
        group: whose channels go.
        scores: (n_channels,) of each.
    """
    ranking = np.argsort(-scores, kind="stable")
    share = np.sort(scores) / max(float(scores.sum()), 1e-30)
    errors = np.concatenate([[0.0], np.cumsum(share)])[::-1]

    def weights(kept: Ints) -> Weights:
        mask = np.zeros(group.channels, bool)
        mask[kept] = True
        plan = plan_of([group], [mask])
        return masked_weights(analysis.read, analysis.nodes, plan)

    found = response(group, ranking, errors, weights)
    widths = partial(widths_measured, group, False)
    failed = partial(not_measured, group)
    changed = {axis.tensor for axis, _ in group.axes()} & analysis.stored.keys()
    return Measurable(
        channel_unit(group), widths, lambda _statistics: found, failed, changed=changed
    )
