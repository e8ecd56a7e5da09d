"""Find widths that keep a model within a share of its latency, as measured on the whole cut model.

The times of subgraphs predict what a plan takes. What it really takes is then measured: the model
is cut to the plan, which is enough for time, since that does not depend on the weights' values, and
takes turns with the original. The time model is corrected so that it says what was measured of all
plans so far, and another plan chosen, until none is expected to be better than those that are known
to be below the target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from onnxprune import ops
from onnxprune.allocation.latency import timer
from onnxprune.allocation.latency.cache import TimeCache
from onnxprune.allocation.latency.signature import signature
from onnxprune.allocation.latency.staircase import Staircase, measure_staircase
from onnxprune.allocation.latency.subgraphs import divide
from onnxprune.allocation.latency.time_model import TimedPlan
from onnxprune.allocation.latency.timer import SignedModel, TimedModel
from onnxprune.allocation.state import Allocation
from onnxprune.errors import TargetError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import external_data, graph, zero_biases
from onnxprune.ir import inputs as feeds
from onnxprune.ir.graph import ModelProto
from onnxprune.progress import between
from onnxprune.settings import DeviceSettings
from onnxprune.surgery.cut import narrowed
from onnxprune.types import Ints

__all__ = ["Solve", "fastest", "inputs_of", "ratio", "relative"]

#: Plans that are tried on the whole model.
ROUNDS = 10
#: What is aimed at lies this share below the target; two timings of one model differ by as much.
BELOW = NOISE = 0.005
#: A model that takes more than this share of the original's time is not faster.
FASTER = 0.98

#: From a staircase and the largest predicted share of the latency to an allocation.
Solve: TypeAlias = Callable[[Staircase, float], Allocation]


def fastest(
    analysis: Analysis,
    grids: Sequence[Ints],
    share: float,
    solve: Solve,
    options: DeviceSettings,
) -> Ints:
    """Find (n_groups,) widths at which the model takes at most `share` of its time.

    Args:
        analysis: the model.
        grids: ascending widths of each group that may be timed.
        share: of the original's latency.
        solve: the best allocation within a predicted share.
        options: device, batch and inputs.

    Raises:
        TargetError: no plan does, or none is faster at all.
    """
    inputs = inputs_of(analysis, options)
    original = TimedModel(_plain(analysis.original), inputs)
    stairs = _stairs(analysis, grids, original, options)
    tried: list[tuple[Allocation, float]] = []
    for number in range(ROUNDS):
        options.progress("timing plans", 0.38 + 0.02 * number / ROUNDS)
        plan = solve(stairs, share * (1 - BELOW))
        if not plan.met or any((plan.widths == known.widths).all() for known, _ in tried):
            break  # nothing is expected to be better than what was measured
        tried.append((plan, _measured(analysis, original, plan.widths, options)))
        seen = [TimedPlan(known.widths, time) for known, time in tried]
        stairs = replace(stairs, times=stairs.times.corrected(seen))
    good = [plan for plan, time in tried if time <= share * (1 + NOISE)]
    if good:
        return min(good, key=lambda plan: plan.error).widths
    least = solve(stairs, 0.0).widths
    time = _measured(analysis, original, least, options)
    if time > share * (1 + NOISE):
        raise TargetError(_too_slow(min([time, *(seen for _, seen in tried)]), share))
    return least


def _too_slow(least: float, share: float) -> str:
    if least > FASTER:
        return (
            "no plan is faster than the original on this machine: the fastest that was found "
            f"takes {least:.3g} of its time. Groups keep widths at which the runtime's kernels "
            "gain nothing; `onnxprune inspect` says what blocks the others. Nothing was written."
        )
    return f"latency {share:.3g} of the original is out of reach: {least:.3g} is the least"


def _stairs(
    analysis: Analysis, grids: Sequence[Ints], original: TimedModel, options: DeviceSettings
) -> Staircase:
    """What the groups' widths take, from the cache or measured."""
    name = signature(analysis.original, original.feeds)
    whole = SignedModel(f"whole {name}", original)
    progress = between(options.progress, "timing layers", 0.2, 0.38)
    parts = divide(analysis, original.feeds)
    return measure_staircase(parts, TimeCache(options.stopwatch), grids, whole, progress)


def _measured(
    analysis: Analysis, original: TimedModel, widths: Ints, options: DeviceSettings
) -> float:
    """The time of the model cut to `widths` (n_groups,) in shares of the original's."""
    pairs = zip(analysis.groups, widths, strict=True)
    kept = [np.arange(group.channels) < width for group, width in pairs]
    cut = external_data.inlined(narrowed(analysis, kept, options.folder))
    return timer.ratio(original.model, graph.model_bytes(cut), original.feeds, options.stopwatch)


def ratio(
    base: ModelProto, other: ModelProto, analysis: Analysis, options: DeviceSettings
) -> float:
    """Time one model in shares of another; `analysis` says what both are fed."""
    inputs = inputs_of(analysis, options)
    return timer.ratio(_plain(base), _plain(other), inputs, options.stopwatch)


def relative(
    wanted: Mapping[str, float], model: ModelProto, analysis: Analysis, options: DeviceSettings
) -> dict[str, float]:
    """Turn budgets of a model into budgets of what became of it.

    Its latency is a share of what that takes; one that is met already is none any more.

    Args:
        wanted: budgets of the original.
        model: what became of it.
        analysis: the original.
        options: device, batch and inputs.
    """
    others = {metric: limit for metric, limit in wanted.items() if metric != "latency"}
    if "latency" not in wanted:
        return others
    share = wanted["latency"] / ratio(analysis.original, model, analysis, options)
    return others if share >= 1 else {**others, "latency": share}


def inputs_of(analysis: Analysis, options: DeviceSettings) -> feeds.Feeds:
    """Make seeded inputs of the batch and the shapes that are to be timed."""
    inputs = feeds.seeded(
        analysis.model, ops.index_bounds(analysis.nodes), analysis.sample, options.seed
    )
    return feeds.batched(analysis.model, inputs, options.batch)


def _plain(model: ModelProto) -> bytes:
    """A model as onnxruntime takes it, without biases that are only there to be filled."""
    copy = ModelProto()
    copy.CopyFrom(external_data.inlined(model))
    return graph.model_bytes(zero_biases.unbiased(copy))
