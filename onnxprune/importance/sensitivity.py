"""Measure how much the outputs suffer when one unit alone gets smaller: one row for each unit.

The original runs once over the calibration data, layer by layer. As soon as the statistics are
there that a unit asks for, it says how the error of its own layers grows as it gets smaller, and
which weights the model would then have. Layer errors cannot be compared between layers, so at a few
levels the model runs on calibration samples with only that unit smaller, and the divergence of the
outputs is recorded. Between those levels it follows the layer error (Frantar & Alistarh, SPDY 2022;
Kurtić et al., ZipLM 2023).

What a unit is, this pass does not know: `units_channels` has the channels of groups, and
`sparsity.units_weights` the numbers of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.covariance import covariance
from onnxprune.calibration.incremental_run import IncrementalRun
from onnxprune.calibration.moments import Statistics
from onnxprune.calibration.samples import Calibration
from onnxprune.errors import INTERNAL, one_line
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer
from onnxprune.groups.units import Unit
from onnxprune.importance.output_divergence import (
    DivergenceSamples,
    Weights,
    divergence_samples,
    open_divergence,
)
from onnxprune.importance.stored_layer import name_of
from onnxprune.types import Floats

__all__ = ["Measurable", "Measured", "Response", "interpolated", "measure_sensitivities"]

#: What a kind of unit makes of what was measured.
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """What was measured of one unit.

    Attributes:
        errors: (n_levels,) divergence of the outputs at every level.
        measured: the divergence where the model was run, by how much of the unit stays.
        samples: how many it was run on.
        unmeasured: why it could not be measured; empty where it was.
    """

    errors: Floats
    measured: Mapping[float, float]
    samples: int
    unmeasured: str = ""


@dataclass(frozen=True)
class Response(Generic[T]):
    """How a unit's own layers answer when it gets smaller.

    Attributes:
        errors: (n_levels,) their error at every level, in any unit, zero at the last one.
        weights: new content of stored tensors, by how much of the unit stays; always the same ones.
        row: what becomes of what is measured.
    """

    errors: Floats
    weights: Callable[[float], Weights]
    row: Callable[[Measured], T]


@dataclass(frozen=True)
class Measurable(Generic[T]):
    """A unit, and how it is measured.

    Attributes:
        unit: what gets smaller.
        stays: how much stays where the model is run, the most first.
        runs: for how many runs samples are set aside.
        respond: its response, from the statistics of the inputs of `layers` by name.
        failed: what becomes of it where it cannot be measured, from why not.
        layers: layers whose inputs it needs to know.
        changed: the one layer whose weight and bias change; None: several, so that the whole model
            has to run.
    """

    unit: Unit
    stays: Sequence[float]
    runs: int
    respond: Callable[[Mapping[str, Statistics]], Response[T]]
    failed: Callable[[str], T]
    layers: tuple[Layer, ...] = ()
    changed: Layer | None = None


def measure_sensitivities(
    analysis: Analysis,
    units: Sequence[Measurable[T]],
    data: Calibration,
    progress: Callable[[float], None] = lambda share: None,
) -> list[T]:
    """Measure every unit in one pass through the original.

    A failure costs the one unit in which it happens, which says why (see `Measurable.failed`).

    Args:
        analysis: the original.
        units: of any kinds, and how each is measured.
        data: calibration data.
        progress: is told the share done.

    Returns:
        For every unit, in their order, what its kind makes of what was measured.
    """
    samples = divergence_samples(analysis, data, sum(unit.runs for unit in units) // 2)
    ahead, rng = samples.start(), np.random.default_rng(0)
    order = ahead.order
    stops = {order[name_of(layer)]: layer for unit in units for layer in unit.layers}
    stops = dict(sorted(stops.items()))
    needed = {  # the result's shape tells how often the layer is run, even where nobody reads it
        name: at + 1
        for at, layer in stops.items()
        for name in (layer.data.name, layer.node.outputs[0].name)
    }
    walk = IncrementalRun(analysis.model, data.batches, needed, data.place)
    ends = [max((order[name_of(layer)] for layer in u.layers), default=-1) for u in units]
    statistics, rows = dict[str, Statistics](), dict[int, T]()
    for done, (at, layer) in enumerate(stops.items()):
        walk.advance(at + 1, analysis.read)
        shape = analysis.stored[layer.weight.name]
        with suppress(ArithmeticError):  # units that need it say so
            statistics[name_of(layer)] = covariance(layer, shape, walk.values, data.samples, rng)
        for number in (k for k, end in enumerate(ends) if end == at):
            rows[number] = _row(units[number], statistics, samples, ahead)
        later = [unit for unit, end in zip(units, ends, strict=True) if end > at]
        names = {name_of(layer) for unit in later for layer in unit.layers} & statistics.keys()
        statistics = {name: statistics[name] for name in names}
        progress((done + 1) / (len(stops) + 1))
    for number in (k for k, end in enumerate(ends) if end < 0):
        rows[number] = _row(units[number], {}, samples, ahead)
    progress(1.0)
    return [rows[number] for number in range(len(units))]


def _row(
    unit: Measurable[T],
    statistics: Mapping[str, Statistics],
    samples: DivergenceSamples,
    ahead: IncrementalRun,
) -> T:
    """Measure a unit, or say why that fails."""
    silent = [name_of(layer) for layer in unit.layers if name_of(layer) not in statistics]
    if silent:
        return unit.failed(f"no sample gives finite numbers to the layer of '{silent[0]}'")
    try:
        return _measured(unit, statistics, samples, ahead)
    except (MemoryError, OSError):  # of the machine, not of the model
        raise
    except Exception as error:  # costs this unit alone, which is named with it in the report
        return unit.failed(f"{INTERNAL}{one_line(error)}")


def _measured(
    unit: Measurable[T],
    statistics: Mapping[str, Statistics],
    samples: DivergenceSamples,
    ahead: IncrementalRun,
) -> T:
    """Run the model at a few levels of a unit; `ahead` stands no further than what changes."""
    response = unit.respond(statistics)
    at = 0 if unit.changed is None else ahead.order[name_of(unit.changed)]
    measured: dict[float, float] = {unit.unit.levels[-1]: 0.0}
    measure: Callable[[Weights], float] | None = None
    for stays in unit.stays:
        fed = response.weights(stays)
        if measure is None:
            measure = open_divergence(samples, ahead if at else samples.start(), at, fed)
        measured[stays] = measure(fed)
    if not np.isfinite([*measured.values()]).all() or not np.isfinite(response.errors).all():
        return unit.failed("its divergence is no finite number")
    errors = interpolated(unit.unit.levels, response.errors, measured)
    return response.row(Measured(errors, measured, samples.count))


def interpolated(
    levels: NDArray[np.float64], errors: Floats, measured: Mapping[float, float]
) -> Floats:
    """Follow the layer error between measured divergences, and beyond them in proportion to it.

    Args:
        levels: (n_levels,) how much stays, ascending.
        errors: (n_levels,) layer error there, zero at the last one.
        measured: the divergence by how much stays, among them all.

    Returns:
        (n_levels,) divergence at every level, falling as more stays.
    """
    stays = np.array(sorted(measured, reverse=True))
    values = np.maximum.accumulate([measured[level] for level in stays.tolist()])
    there = np.maximum.accumulate(np.interp(stays, levels, errors))
    there = there + 1e-12 * np.arange(len(stays))  # rising, also where it does not rise
    inside = np.interp(errors, there, values)
    slope = values[-1] / max(float(there[-1]), 1e-30)
    beyond = values[-1] + np.maximum(errors - there[-1], 0) * slope
    found: Floats = np.where(errors > there[-1], beyond, inside)
    return np.maximum.accumulate(found[::-1])[::-1]
