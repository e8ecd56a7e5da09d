"""Channels of every group with their scores, each head's best units first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxprune.importance import Scores, scores_of
from onnxprune.readings import reordered, single_units
from onnxprune.survey import Survey, weights_of
from onnxprune.types import Axis
from onnxprune.weights import Profile

__all__ = ["ranked"]


def ranked(
    found: Survey,
    criterion: str,
    seed: int,
    activations: Mapping[Axis, Profile] | None = None,
) -> tuple[Survey, Sequence[Scores]]:
    """The survey with groups as they are to be cut, and (n_channels,) scores of each.

    In a group whose heads choose for themselves every unit (a channel in one head) is scored;
    channel 0 then takes the best unit of every head, channel 1 the next best, and so on.
    """
    units = [single_units(g) if g.heads > 1 else g for g in found.groups]
    scores = scores_of(criterion, weights_of(found, seed, units, activations))
    groups = list(found.groups)
    for k, group in enumerate(found.groups):
        if group.heads > 1:
            table = scores[k].reshape(group.channels, group.heads)
            order = np.argsort(-table, axis=0, kind="stable")
            groups[k] = reordered(group, order)
            scores[k] = np.take_along_axis(table, order, 0).mean(1)
    return replace(found, groups=tuple(groups)), scores
