"""Widths that keep a model within a share of its latency, as measured on the whole cut model.

The pieces' times predict what a plan takes. What it really takes is then measured: the model is cut
to the plan, which is enough for time, since that does not depend on the weights' values, and takes
turns with the original. The groups' times are corrected so that they say what was measured of all
plans so far, and another plan chosen,
until none is expected to be better than those that are known to be below the target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxprune import ops
from onnxprune.allocation.latency import timer
from onnxprune.allocation.latency.cache import TimeCache
from onnxprune.allocation.latency.staircase import Staircase, measured
from onnxprune.allocation.latency.subgraphs import Subgraphs, signature
from onnxprune.allocation.latency.timer import TimedModel
from onnxprune.allocation.state import Widths
from onnxprune.errors import TargetError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import external_data, graph, zero_biases
from onnxprune.ir import inputs as feeds
from onnxprune.ir.graph import ModelProto
from onnxprune.progress import estimated
from onnxprune.settings import DeviceSettings
from onnxprune.surgery.cut import narrowed
from onnxprune.types import Ints

__all__ = ["fastest", "inputs_of", "ratio", "relative"]

#: Plans that are tried on the whole model.
ROUNDS = 10
#: What is aimed at lies this share below the target; two timings of one model differ by as much.
BELOW = NOISE = 0.005
#: A model that takes more than this share of the original's time is not faster.
FASTER = 0.98

#: Staircase and largest predicted share to widths.
Solve = Callable[[Staircase, float], Widths]


def fastest(
    analysis: Analysis,
    grids: Sequence[Ints],
    share: float,
    choose: tuple[Solve, Callable[[Widths], float]],
    options: DeviceSettings,
) -> Ints:
    """(n_groups,) widths at which the model takes at most `share` of its time.

    `choose`: the best widths within a predicted share, and what error is expected of widths.

    Raises:
        TargetError: no plan does, or none is faster at all.
    """
    trial, (solve, error) = _Trial(analysis, options), choose
    stairs = trial.stairs(grids)
    tried: list[tuple[Widths, float]] = []
    for number in range(ROUNDS):
        options.progress("timing plans", 0.38 + 0.02 * number / ROUNDS)
        plan = solve(stairs, share * (1 - BELOW))
        if not plan.met or any((plan.widths == known.widths).all() for known, _ in tried):
            break  # nothing is expected to be better than what was measured
        tried.append((plan, trial.ratio(plan.widths)))
        seen = [(known.widths, time) for known, time in tried]
        stairs = replace(stairs, times=stairs.times.corrected(seen))
    good = [plan for plan, time in tried if time <= share * (1 + NOISE)]
    if good:
        return min(good, key=error).widths
    least = solve(stairs, 0.0).widths
    time = trial.ratio(least)
    if time > share * (1 + NOISE):
        raise TargetError(_slow(min([time, *(seen for _, seen in tried)]), share))
    return least


def _slow(least: float, share: float) -> str:
    if least > FASTER:
        return (
            "no plan is faster than the original on this machine: the fastest that was found "
            f"takes {least:.3g} of its time. Groups keep widths at which the runtime's kernels "
            "gain nothing; `onnxprune inspect` says what blocks the others. Nothing was written."
        )
    return f"latency {share:.3g} of the original is out of reach: {least:.3g} is the least"


class _Trial:
    """A model opened for timing, whole and in pieces."""

    def __init__(self, analysis: Analysis, options: DeviceSettings) -> None:
        self.analysis, self.options = analysis, options
        self.inputs = inputs_of(analysis, options)
        self.original = _plain(analysis.original)

    def stairs(self, grids: Sequence[Ints]) -> Staircase:
        """What the groups' widths take, from the cache or measured."""
        name = signature(self.analysis.original, self.inputs)
        whole = f"whole {name}", TimedModel(self.original, self.inputs)
        table = TimeCache(self.options.device)
        progress = estimated(self.options.progress, "timing layers", 0.2, 0.38)
        return measured(Subgraphs(self.analysis, self.inputs), table, grids, whole, progress)

    def ratio(self, widths: Ints) -> float:
        """The time of the model cut to `widths` in shares of the original's."""
        groups = self.analysis.groups
        kept = [np.arange(g.channels) < w for g, w in zip(groups, widths, strict=True)]
        cut = external_data.inlined(narrowed(self.analysis, kept, self.options.folder))
        return timer.ratio(
            (self.original, graph.model_bytes(cut)), self.inputs, self.options.device
        )


def ratio(
    models: tuple[ModelProto, ModelProto], analysis: Analysis, options: DeviceSettings
) -> float:
    """The time of the second model in shares of the first's; `found` says what they are fed."""
    plain = _plain(models[0]), _plain(models[1])
    return timer.ratio(plain, inputs_of(analysis, options), options.device)


def relative(
    wanted: Mapping[str, float],
    models: tuple[ModelProto, ModelProto],
    analysis: Analysis,
    options: DeviceSettings,
) -> dict[str, float]:
    """Budgets of a model for what became of it: its latency is a share of what that takes.

    A latency that is met already is none any more.
    """
    others = {metric: limit for metric, limit in wanted.items() if metric != "latency"}
    if "latency" not in wanted:
        return others
    share = wanted["latency"] / ratio(models, analysis, options)
    return others if share >= 1 else {**others, "latency": share}


def inputs_of(analysis: Analysis, options: DeviceSettings) -> feeds.Feeds:
    """Seeded inputs of the batch and the shapes that are to be timed."""
    inputs = feeds.seeded(
        analysis.model, ops.index_bounds(analysis.nodes), analysis.sample, options.seed
    )
    return feeds.batched(analysis.model, inputs, options.batch)


def _plain(model: ModelProto) -> bytes:
    """A model as onnxruntime takes it, without biases that are only there to be filled."""
    copy = ModelProto()
    copy.CopyFrom(external_data.inlined(model))
    return graph.model_bytes(zero_biases.unbiased(copy))
