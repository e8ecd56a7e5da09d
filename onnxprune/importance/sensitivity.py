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

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.moments import Statistics
from onnxprune.calibration.samples import Calibration
from onnxprune.errors import INTERNAL, one_line
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer
from onnxprune.groups.units import Unit
from onnxprune.importance.layer_walk import LayerWalk
from onnxprune.importance.measuring_plan import MOST_RUNS
from onnxprune.importance.output_divergence import (
    Demand,
    DivergenceSamples,
    Weights,
    divergence_samples,
)
from onnxprune.importance.stored_layer import name_of
from onnxprune.types import Floats

__all__ = [
    "Measurable",
    "Measured",
    "Response",
    "demand",
    "interpolated",
    "measure_sensitivities",
    "measured_unit",
    "units_with_statistics",
]

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
        stays: how much stays where the model is run, the most first, by how many runs a unit may
            have for the shape of its curve.
        respond: its response, from the statistics of the inputs of `layers` by name.
        failed: what becomes of it where it cannot be measured, from why not.
        layers: layers whose inputs it needs to know.
        changed: names of the stored tensors that change, as far as they are known; none: any may.
    """

    unit: Unit
    stays: Callable[[int], Sequence[float]]
    respond: Callable[[Mapping[str, Statistics]], Response[T]]
    failed: Callable[[str], T]
    layers: tuple[Layer, ...] = ()
    changed: Collection[str] = ()


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
    samples = divergence_samples(analysis, data, [demand(unit) for unit in units])
    rows = dict[int, T]()
    for number, statistics in units_with_statistics(analysis, units, data):
        rows[number] = measured_unit(units[number], statistics, samples)
        progress(len(rows) / len(units))
    return [rows[number] for number in range(len(units))]


def units_with_statistics(
    analysis: Analysis, units: Sequence[Measurable[T]], data: Calibration
) -> Iterator[tuple[int, dict[str, Statistics]]]:
    """Run the original layer by layer over all samples, for the statistics that units ask for.

    Args:
        analysis: the original.
        units: of any kinds.
        data: calibration data.

    Returns:
        The number of each unit, as soon as the statistics of all its layers are there, and these by
        the layers' names; a layer is missing to which no sample gives finite numbers.
    """
    walk = LayerWalk(analysis, [layer for unit in units for layer in unit.layers], data)
    ends = [max((walk.order[name_of(la)] for la in u.layers), default=-1) for u in units]
    waiting = sorted(range(len(units)), key=lambda number: (ends[number], number))
    statistics, at = dict[str, Statistics](), -1
    for step in [[], *walk.steps]:
        if step:  # units without layers need none
            statistics |= walk.advance(step)
            at = walk.order[name_of(step[-1])]
        while waiting and ends[waiting[0]] <= at:
            number = waiting.pop(0)
            own = map(name_of, units[number].layers)
            yield number, {name: statistics[name] for name in own if name in statistics}
        needed = {name_of(layer) for number in waiting for layer in units[number].layers}
        statistics = {name: known for name, known in statistics.items() if name in needed}


def demand(unit: Measurable[T]) -> Demand:
    """What the unit is measured with, as far as the number of samples depends on it."""
    return Demand(unit.changed, [len(unit.stays(k)) for k in range(1, MOST_RUNS + 1)])


def measured_unit(
    unit: Measurable[T], statistics: Mapping[str, Statistics], samples: DivergenceSamples
) -> T:
    """Measure a unit, or say why that fails; depends on nothing but what is given."""
    silent = [name_of(layer) for layer in unit.layers if name_of(layer) not in statistics]
    if silent:
        return unit.failed(f"no sample gives finite numbers to the layer of '{silent[0]}'")
    try:
        return _measured(unit, statistics, samples)
    except (MemoryError, OSError):  # of the machine, not of the model
        raise
    except Exception as error:  # costs this unit alone, which is named with it in the report
        return unit.failed(f"{INTERNAL}{one_line(error)}")


def _measured(
    unit: Measurable[T], statistics: Mapping[str, Statistics], samples: DivergenceSamples
) -> T:
    """Run the model at a few levels of a unit; depends on nothing but what is given."""
    response = unit.respond(statistics)
    measured: dict[float, float] = {unit.unit.levels[-1]: 0.0}
    for stays in unit.stays(samples.runs):
        measured[stays] = samples.divergence(response.weights(stays))
    if not np.isfinite([*measured.values()]).all() or not np.isfinite(response.errors).all():
        return unit.failed("its divergence is no finite number")
    errors = interpolated(unit.unit.levels, response.errors, measured)
    return response.row(Measured(errors, measured, samples.count))


def interpolated(
    levels: NDArray[np.float64], errors: Floats, measured: Mapping[float, float]
) -> Floats:
    """Follow the layer error between measured divergences, and beyond them in proportion to it.

    Up to the first measurement divergence grows in proportion too, between two with that power of
    the layer error that leads from one to the other.

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
    powers = np.maximum(errors, 1e-30)  # between two measurements as a power of the layer error
    for k in range(1, len(stays) - 1):
        if values[k] > 0 and values[k + 1] > 0:
            ends = np.log(there[k : k + 2])
            curve = np.exp(np.interp(np.log(powers), ends, np.log(values[k : k + 2])))
            inside = np.where((errors > there[k]) & (errors < there[k + 1]), curve, inside)
    slope = values[-1] / max(float(there[-1]), 1e-30)
    beyond = values[-1] + np.maximum(errors - there[-1], 0) * slope
    found: Floats = np.where(errors > there[-1], beyond, inside)
    return np.maximum.accumulate(found[::-1])[::-1]
