"""Pruning on calibration data: measure, allot, cut and refit; in one step or in several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial, reduce

import numpy as np

from onnxprune.allocation.depth import remove_blocks
from onnxprune.allocation.latency import search
from onnxprune.allocation.widths import widths_for
from onnxprune.calibration.samples import Calibration, calibration
from onnxprune.compensation.distillation.distill import distilled
from onnxprune.compensation.distillation.schedule import Schedule, schedule_for
from onnxprune.compensation.paired_run import Teacher
from onnxprune.compensation.reconstruct import compensate
from onnxprune.groups.analysis import Analysis, analyze_as
from onnxprune.groups.blocks import blocks_of
from onnxprune.groups.cost import METRICS
from onnxprune.groups.units import channel_rows
from onnxprune.importance.channels import Sensitivity, best_channels
from onnxprune.importance.ranking import rank_on_samples
from onnxprune.importance.sensitivity import measure_sensitivities
from onnxprune.importance.sensitivity_cache import cached_sensitivities, sensitivities_key
from onnxprune.importance.units_channels import channel_units
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
        analysis = analyze_as(zero_biases.biased(stages[-1].model if stages else model), options)
        data = calibration(options.calib, model, options, analysis.nodes)
        first = first or analysis
        gone = reduce(plan_file.compose, (stage.plan for stage in stages), Plan({}, {}))
        teacher = Teacher(first.model, first.read, data, gone)
        full = {**dict(zip(METRICS, analysis.cost.full.tolist(), strict=True)), "latency": 1.0}
        if stages and "latency" in wanted:  # budgets are shares of the model at hand
            full["latency"] = search.ratio(model, stages[-1].model, first, options)
        now = {
            m: limit * (max(full[m], limit) / limit) ** (1 - 1 / left)
            for m, limit in wanted.items()
        }
        if "latency" in wanted:
            now["latency"] = min(now["latency"] / full["latency"], 1.0)
        make = partial(_step, analysis, now, (data, teacher), options)
        if store is None or left == 1:
            stages.append(make())
            continue
        run = step_cache.run_key(save.digest(model, model), data.digest, wanted, options)
        stage, known = step_cache.resumed(store, f"{run}-{step + 1}", analysis, make)
        stages.append(stage)
        taken += known
    notes = [f"{taken} finished steps were taken from {store}"] if taken else []
    return [*stages[:-1], replace(stages[-1], notes=(*stages[-1].notes, *notes))]


def _step(
    analysis: Analysis,
    wanted: Mapping[str, float],
    taught: tuple[Calibration, Teacher],
    options: Settings,
) -> Stage:
    """One round of measuring and cutting; layers aim at the model before the first one."""
    data, teacher = taught
    analysis, sensitivities, notes = _measured(analysis, data, options)
    analysis = replace(analysis, groups=tuple(sensitivity.group for sensitivity in sensitivities))
    limit = wanted.get("size", np.inf)
    errors = [sensitivity.errors for sensitivity in sensitivities]
    blocks = {g: b.inside for g, b in blocks_of(analysis).items() if 0 in sensitivities[g].measured}
    rows = channel_rows(analysis.groups, errors, blocks)
    while True:
        if options.blocks:
            widths = remove_blocks(analysis.cost, rows, options.blocks)
        else:
            widths = widths_for(analysis, rows, wanted, options)
        stage, schedule = _refitted(analysis, sensitivities, widths, (data, teacher), options)
        excess = _bytes(stage) - limit
        if excess <= 0:  # else nothing is learnt before it is thrown away
            stage = _distilled(analysis, stage, schedule, options)
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
    names = [stage.analysis.groups[b.root].name for b in gone_blocks(stage.analysis, stage.kept)]
    what = "their shortcuts and a bias are left of"
    return [f"{what} {len(names)} residual blocks: {', '.join(names)}"] if names else []


def _measured(
    analysis: Analysis, data: Calibration, options: Settings
) -> tuple[Analysis, list[Sensitivity], list[str]]:
    analysis, scores = rank_on_samples(analysis, data, options)

    def key() -> str:
        facts = {"importance": options.criterion, "seed": options.seed, "biased": True}
        return sensitivities_key(
            save.digest(analysis.model, analysis.model), data.digest, analysis.groups, facts
        )

    sensitivities, notes = cached_sensitivities(
        options.cache,
        key,
        analysis.groups,
        lambda: measure_sensitivities(
            analysis,
            channel_units(analysis, scores, data),
            data,
            lambda share: options.progress("measuring", 0.1 + 0.3 * share),
        ),
    )
    return analysis, sensitivities, notes


def _refitted(
    analysis: Analysis,
    sensitivities: list[Sensitivity],
    widths: Ints,
    taught: tuple[Calibration, Teacher],
    options: Settings,
) -> tuple[Stage, Schedule | None]:
    """Cut to widths with everything behind refitted and proved; what it may still learn."""
    data, teacher = taught
    lost = sum(float(c.errors[w]) for c, w in zip(sensitivities, widths.tolist(), strict=True))
    macs = float(analysis.cost.full[0]), float(analysis.cost.at(widths)[0])
    fit, schedule = schedule_for(options.distill, data, macs, lost)
    result = compensate(
        analysis,
        [sensitivity.group for sensitivity in sensitivities],
        best_channels(sensitivities, widths),
        replace(teacher, data=fit),
        lambda share: options.progress("refitting", 0.4 + 0.1 * share),
    )
    model = rewrite.patch(analysis.model, result.patches)
    ready = replace(analysis, model=model, groups=tuple(result.groups), read=graph.reader(model))
    with running(ready, options) as original:
        return cut(ready, result.kept, options, original), schedule


def _distilled(
    analysis: Analysis, stage: Stage, schedule: Schedule | None, options: Settings
) -> Stage:
    """All layers tuned together, if there are lessons, and a note about it."""
    if schedule is None:
        return stage
    result = distilled(
        analysis,
        analyze_as(stage.model, options),
        stage.plan,
        schedule,
        lambda share: options.progress("distilling", 0.5 + 0.1 * share),
    )
    if result is None:
        return stage
    model = rewrite.patch(stage.model, result.patches)
    return replace(stage, model=model, notes=(*stage.notes, result.told))
