"""The channels of all groups as units of the sensitivity pass.

Channels that only layers read are refitted (`units_refitted`), the width of queries and keys is
mixed (`units_query_key`), all others just go (`units_dropped`). With the last channels of a
residual block the whole block goes: that too is a level which is measured, what is left are biases.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxprune.calibration.samples import Calibration
from onnxprune.compensation import query_key
from onnxprune.groups.analysis import Analysis
from onnxprune.importance.channels import Sensitivity
from onnxprune.importance.criteria import Scores
from onnxprune.importance.sensitivity import Measurable
from onnxprune.importance.units_dropped import dropped_unit
from onnxprune.importance.units_query_key import query_key_unit
from onnxprune.importance.units_refitted import refitted_unit

__all__ = ["channel_units"]


def channel_units(
    analysis: Analysis, scores: Sequence[Scores], data: Calibration
) -> list[Measurable[Sensitivity]]:
    """Say how every group is measured.

    Args:
        analysis: the original.
        scores: (n_channels,) of every group, for those that are not refitted.
        data: calibration data.
    """
    pairs = query_key.pairs_of(analysis, analysis.refittable)
    grams = query_key.grams(analysis, pairs, data.batches, data.place.device)
    units = []
    for g, own in enumerate(analysis.readers):
        if g in pairs:
            units.append(query_key_unit(analysis, own.group, pairs[g], grams[g]))
        elif own.complete:
            along = analysis.blocks[g].inside if g in analysis.blocks else ()
            units.append(refitted_unit(analysis, own, along))
        else:
            units.append(dropped_unit(analysis, own.group, scores[g]))
    return units
