"""Choose the share of each layer's numbers that goes, by what the outputs suffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from onnxprune.allocation.allocate import allocate
from onnxprune.allocation.convex import convex
from onnxprune.allocation.problem import linear_cost, problem_of
from onnxprune.calibration.samples import Calibration
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer
from onnxprune.groups.units import Row
from onnxprune.importance.spooled_units import Workers, measured_by
from onnxprune.settings import CalibrationSettings, analysis_settings
from onnxprune.sparsity.units_weights import weight_units
from onnxprune.sparsity.weights import Weight

__all__ = ["Competing", "Shares", "best_shares", "measured_shares"]


@dataclass(frozen=True)
class Shares:
    """By weight the share of its numbers that goes, and what the report says about it."""

    of: Mapping[str, float]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Competing:
    """Weights that compete for what goes.

    Attributes:
        weights: all of them.
        layers: by the name of their weight those layers that can be refitted.
        sparsity: the share of all numbers that goes.
    """

    weights: Sequence[Weight]
    layers: Mapping[str, Layer]
    sparsity: float


def measured_shares(
    analysis: Analysis,
    competing: Competing,
    data: Calibration,
    options: CalibrationSettings,
    progress: Callable[[float], None] = lambda share: None,
) -> Shares:
    """Measure every layer and choose how much goes of each.

    Weights that are no layers lose as much as all together.

    Args:
        analysis: the original.
        competing: the weights, and how much goes of them in all.
        data: calibration data.
        options: among them the number of processes.
        progress: is told the share done.
    """
    layers, sparsity = competing.layers, competing.sparsity
    known = [weight for weight in competing.weights if weight.name in layers]
    even = {weight.name: sparsity for weight in competing.weights}
    if len(known) < 2 or not sparsity:
        return Shares(even)
    names = tuple(weight.name for weight in known)
    described = partial(weight_units, names=names, share=sparsity)
    workers = Workers(options.jobs, analysis_settings(options), described, {})
    units, table = described(analysis, {}), measured_by(analysis, data, workers, progress)
    failed = [
        f"'{weight.name}' was not measured and loses as much as all together: {found.unmeasured}"
        for weight, found in zip(known, table, strict=True)
        if found.unmeasured
    ]
    good = [k for k, found in enumerate(table) if not found.unmeasured]
    if not good:
        return Shares(even, tuple(failed))
    rows = [Row(units[k].unit, table[k].errors) for k in good]
    shares = best_shares(rows, sparsity * sum(known[k].size for k in good))
    named = {known[k].name: share for k, share in zip(good, shares, strict=True)}
    samples = f"{table[good[0]].samples} samples"
    told = f"shares of {len(good)} layers follow from divergences measured on {samples}"
    return Shares({**even, **named}, (told, *failed))


def best_shares(rows: Sequence[Row], dropped: float) -> list[float]:
    """Choose the shares at which `dropped` numbers go in all with the least sum of divergences.

    Args:
        rows: the divergence by how many numbers of each weight stay.
        dropped: numbers that go.
    """
    sizes = [int(row.unit.levels[-1]) for row in rows]
    budget = {"params": sum(sizes) - dropped}
    problem = problem_of(linear_cost(sizes), budget, [convex(row) for row in rows])
    left = allocate(replace(problem, divisible=True)).widths
    return [float((size - stays) / size) for size, stays in zip(sizes, left, strict=True)]
