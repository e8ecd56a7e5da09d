"""The channels of all groups as units of the sensitivity pass.

Channels that only layers read are refitted (`units_refitted`), the width of queries and keys is
mixed (`units_query_key`), all others just go (`units_dropped`). With the last channels of a
residual block the whole block goes: that too is a level which is measured, what is left are biases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from onnxprune.calibration.samples import Calibration
from onnxprune.compensation import query_key
from onnxprune.compensation.normalised_energy import energies, norms_of
from onnxprune.groups.analysis import Analysis
from onnxprune.importance.channels import Sensitivity
from onnxprune.importance.criteria import Scores
from onnxprune.importance.sensitivity import Measurable
from onnxprune.importance.spooled_units import Workers, measured_by
from onnxprune.importance.units_dropped import dropped_unit
from onnxprune.importance.units_normalised import normalised_unit
from onnxprune.importance.units_query_key import query_key_unit
from onnxprune.importance.units_refitted import refitted_unit
from onnxprune.settings import CalibrationSettings, analysis_settings
from onnxprune.types import Floats

__all__ = ["channel_arrays", "grams_of", "measure_channels", "units_of"]


def measure_channels(
    analysis: Analysis,
    arrays: Mapping[str, Floats],
    data: Calibration,
    options: CalibrationSettings,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Sensitivity]:
    """Measure how much the outputs suffer when each group alone gets narrower.

    Args:
        analysis: the original.
        arrays: what `channel_arrays` gave.
        data: calibration data.
        options: among them the number of processes.
        progress: is told the share done.
    """
    workers = Workers(options.jobs, analysis_settings(options), units_of, arrays)
    return measured_by(analysis, data, workers, progress)


def channel_arrays(
    analysis: Analysis, scores: Sequence[Scores], data: Calibration
) -> dict[str, Floats]:
    """Compute what `units_of` needs beside the model.

    Args:
        analysis: the original.
        scores: (n_channels,) of every group, for those that are not refitted.
        data: calibration data.
    """
    pairs = query_key.pairs_of(analysis, analysis.refittable)
    grams = query_key.grams(analysis, pairs, data.batches, data.place)
    arrays = {_scores(g): np.asarray(own, np.float64) for g, own in enumerate(scores)}
    shares = energies(analysis, norms_of(analysis), data.batches, data.place)
    arrays |= {_shares(name): own for name, own in shares.items()}
    for g, sides in grams.items():
        arrays |= dict(zip(_grams(g), sides, strict=True))
    return arrays


def units_of(analysis: Analysis, arrays: Mapping[str, Floats]) -> list[Measurable[Sensitivity]]:
    """Say how every group is measured, from what `channel_arrays` gave."""
    pairs = query_key.pairs_of(analysis, analysis.refittable)
    norms, units = norms_of(analysis), []
    gammas = {norm.gamma for norm in norms}
    names = {axis.tensor for axis in gammas if _shares(axis.tensor) in arrays}
    shares = {name: arrays[_shares(name)] for name in names}
    for g, own in enumerate(analysis.readers):
        if g in pairs:
            queries, keys = (arrays[name] for name in _grams(g))
            units.append(query_key_unit(analysis, own.group, pairs[g], (queries, keys)))
        elif own.complete:
            along = analysis.blocks[g].inside if g in analysis.blocks else ()
            units.append(refitted_unit(analysis, own, along))
        elif own.layers and not gammas.isdisjoint(axis for axis, _ in own.group.axes()):
            units.append(normalised_unit(analysis, own, norms, shares))
        else:
            units.append(dropped_unit(analysis, own.group, arrays[_scores(g)]))
    return units


def grams_of(arrays: Mapping[str, Floats]) -> query_key.Grams:
    """Second moments of queries and keys among what `channel_arrays` gave."""
    numbers = [int(name.split()[1]) for name in arrays if name.startswith("queries ")]
    names = {g: _grams(g) for g in numbers}
    return {g: (arrays[queries], arrays[keys]) for g, (queries, keys) in names.items()}


def _scores(g: int) -> str:
    return f"scores {g}"


def _shares(gamma: str) -> str:
    return f"shares {gamma}"


def _grams(g: int) -> tuple[str, str]:
    return f"queries {g}", f"keys {g}"
