"""Pruning on calibration data: measure, allot, cut and refit; in one step or in several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial, reduce

import numpy as np

from onnxprune.allocation.depth import shallow
from onnxprune.allocation.latency import search
from onnxprune.allocation.widths import Ends, widths_for
from onnxprune.calibration.samples import Calibration, calibration
from onnxprune.compensation.distillation.distill import distilled
from onnxprune.compensation.distillation.schedule import Schedule, schedule_for
from onnxprune.compensation.paired_run import Teacher
from onnxprune.compensation.reconstruct import compensate
from onnxprune.groups.analysis import Analysis, analyze_as
from onnxprune.groups.blocks import blocks_of
from onnxprune.groups.cost import METRICS
from onnxprune.importance.ranking import ranked_on
from onnxprune.importance.sensitivity import Sensitivity, best_channels, sensitivities
from onnxprune.importance.sensitivity_cache import cached_sensitivities, sensitivities_key
from onnxprune.ir import graph, save, zero_biases
from onnxprune.ir.graph import ModelProto
from onnxprune.pipeline import step_cache
from onnxprune.settings import Settings
from onnxprune.surgery import plan_file, rewrite
from onnxprune.surgery.cut import Stage, cut, running
from onnxprune.surgery.remove_blocks import gone_blocks
from onnxprune.types import Ints, Plan

__all__ = ["calibrated"]


def calibrated(
    model: ModelProto,
    wanted: Mapping[str, float],
    options: Settings,
) -> list[Stage]:
    """Prune to absolute budgets in `options.steps` steps; the last stage holds the result.

    Raises:
        TargetError: the budgets are out of reach.
        ProofError: a step is not exact.
    """
    stages: list[Stage] = []
    store, taken = step_cache.folder_of(options), 0
    first: Analysis | None = None
    for step in range(options.steps):
        left = options.steps - step
        found = analyze_as(zero_biases.biased(stages[-1].model if stages else model), options)
        data = calibration(options.calib, model, options, found.nodes)
        first = first or found
        gone = reduce(plan_file.compose, (stage.plan for stage in stages), Plan({}, {}))
        teacher = Teacher(first.model, first.read, data, gone)
        full = {**dict(zip(METRICS, found.cost.full.tolist(), strict=True)), "latency": 1.0}
        if stages and "latency" in wanted:  # budgets are shares of the model at hand
            full["latency"] = search.ratio((model, stages[-1].model), first, options)
        now = {
            m: limit * (max(full[m], limit) / limit) ** (1 - 1 / left)
            for m, limit in wanted.items()
        }
        if "latency" in wanted:
            now["latency"] = min(now["latency"] / full["latency"], 1.0)
        make = partial(_step, found, now, (data, teacher), options)
        if store is None or left == 1:
            stages.append(make())
            continue
        run = step_cache.run_key(save.digest(model, model), data.digest, wanted, options)
        stage, known = step_cache.resumed(store, f"{run}-{step + 1}", found, make)
        stages.append(stage)
        taken += known
    notes = [f"{taken} finished steps were taken from {store}"] if taken else []
    return [*stages[:-1], replace(stages[-1], notes=(*stages[-1].notes, *notes))]


def _step(
    found: Analysis,
    wanted: Mapping[str, float],
    taught: tuple[Calibration, Teacher],
    options: Settings,
) -> Stage:
    """One round of measuring and cutting; layers aim at the model before the first one."""
    data, teacher = taught
    found, curves, notes = _measured(found, data, options)
    found = replace(found, groups=tuple(curve.group for curve in curves))
    limit = wanted.get("size", np.inf)
    errors = [curve.errors for curve in curves]
    blocks = {g: b.inside for g, b in blocks_of(found).items() if 0 in curves[g].measured}
    while True:
        if options.blocks:
            widths = shallow(found, errors, blocks, options.blocks)
        else:
            widths = widths_for(found, errors, wanted, options, Ends(blocks=blocks))
        stage, lessons = _refitted(found, curves, widths, (data, teacher), options)
        excess = _bytes(stage) - limit
        if excess <= 0:  # else nothing is learnt before it is thrown away
            stage = _distilled(found, stage, lessons, options)
            excess = _bytes(stage) - limit
        if excess <= 0:
            source = f"calibrated on {data.samples} samples: {data.source}"
            told = (source, *data.notes, *notes, *_gone(stage), *stage.notes)
            return replace(stage, model=zero_biases.unbiased(stage.model), notes=told)
        wanted = {**wanted, "size": wanted["size"] - excess - 64}


def _bytes(stage: Stage) -> int:
    """The size of its file without biases that hold nothing."""
    return save.file_bytes(stage.model) - zero_biases.spare_bytes(stage.model)


def _gone(stage: Stage) -> list[str]:
    """Which residual blocks the cut removed."""
    names = [stage.found.groups[b.root].name for b in gone_blocks(stage.found, stage.kept)]
    what = "their shortcuts and a bias are left of"
    return [f"{what} {len(names)} residual blocks: {', '.join(names)}"] if names else []


def _measured(
    found: Analysis, data: Calibration, options: Settings
) -> tuple[Analysis, list[Sensitivity], list[str]]:
    found, scores = ranked_on(found, data, options)

    def key() -> str:
        facts = {"importance": options.criterion, "seed": options.seed, "biased": True}
        return sensitivities_key(
            save.digest(found.model, found.model), data.digest, found.groups, facts
        )

    curves, notes = cached_sensitivities(
        options.cache,
        key,
        found.groups,
        lambda: sensitivities(
            found,
            scores,
            data,
            lambda share: options.progress("measuring", 0.1 + 0.3 * share),
        ),
    )
    return found, curves, notes


def _refitted(
    found: Analysis,
    curves: list[Sensitivity],
    widths: Ints,
    taught: tuple[Calibration, Teacher],
    options: Settings,
) -> tuple[Stage, Schedule | None]:
    """Cut to widths with everything behind refitted and proved; what it may still learn."""
    data, teacher = taught
    lost = sum(float(c.errors[w]) for c, w in zip(curves, widths.tolist(), strict=True))
    macs = float(found.cost.full[0]), float(found.cost.at(widths)[0])
    fit, lessons = schedule_for(options.distill, data, macs, lost)
    result = compensate(
        found,
        [curve.group for curve in curves],
        best_channels(curves, widths),
        replace(teacher, data=fit),
        lambda share: options.progress("refitting", 0.4 + 0.1 * share),
    )
    model = rewrite.patch(found.model, result.patches)
    ready = replace(found, model=model, groups=tuple(result.groups), read=graph.reader(model))
    with running(ready, options) as original:
        return cut(ready, result.kept, options, original), lessons


def _distilled(found: Analysis, stage: Stage, lessons: Schedule | None, options: Settings) -> Stage:
    """All layers tuned together, if there are lessons, and a note about it."""
    if lessons is None:
        return stage
    result = distilled(
        found,
        analyze_as(stage.model, options),
        stage.plan,
        lessons,
        lambda share: options.progress("distilling", 0.5 + 0.1 * share),
    )
    if result is None:
        return stage
    model = rewrite.patch(stage.model, result.patches)
    return replace(stage, model=model, notes=(*stage.notes, result.told))
