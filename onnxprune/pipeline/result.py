"""What comes out: the pruned model, its plan, and a report of what was measured."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.allocation.targets import budgets
from onnxprune.allocation.widths import blocks_of
from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.cost import METRICS
from onnxprune.groups.turning import Rotation
from onnxprune.ir import graph, inputs, save, shared_tensors, zero_biases
from onnxprune.ir.annotate import annotated
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.model import Model
from onnxprune.ir.timing import Latency
from onnxprune.pipeline import compare
from onnxprune.pipeline.layer_divergence import Layers, divergences, layers_of
from onnxprune.pipeline.saturation import Samples
from onnxprune.report.inspection import frozen_rows, group_rows
from onnxprune.report.overlay import overlay
from onnxprune.report.report import Report
from onnxprune.settings import AnalysisSettings, SelectionSettings
from onnxprune.spatial.extent import Extent, values_of
from onnxprune.spatial.space import hints
from onnxprune.surgery import plan_file, rotation
from onnxprune.surgery.cut import Stage
from onnxprune.types import Floats, Ints, Plan

__all__ = ["Request", "Result", "finished"]


@dataclass(frozen=True)
class Result:
    """A pruned model, what remains of every axis, and what was measured.

    Attributes:
        pruned: the pruned model.
        original: the one that was pruned.
        plan: the positions that stay.
        report: what was measured.
        names: the tensors that a plan file may speak of.
        extent: what the pruned model looks at of an input, None: all of it.
        convolved: those that convolutions pick now, in place of slices and pads.
        layers: what `with_layers` compares.
        rotations: streams that were turned before anything was cut, and how.
    """

    pruned: Model
    original: Model
    plan: Plan
    report: Report
    names: Collection[str] = ()
    extent: Extent | None = None
    convolved: Sequence[str] = ()
    layers: Layers = field(default_factory=lambda: Layers({}))
    rotations: Sequence[Rotation] = ()

    @property
    def model(self) -> ModelProto:
        """The pruned model with all weights in memory."""
        return self.pruned.whole

    def save(self, path: str | os.PathLike[str], external_data: bool = False) -> list[Path]:
        """Write the model, see `onnxprune.ir.model.Model.save`."""
        return self.pruned.save(path, external_data)

    @cached_property
    def plan_json(self) -> str:
        """The plan as a file, see `onnxprune.surgery.plan_file`."""
        entries = {
            "blocks": None if self.report.blocks is None else dict(self.report.blocks),
            "extent": None if self.extent is None else values_of(self.extent),
            "convolved": list(self.convolved) or None,
            "rotations": rotation.values_of(self.rotations) or None,
        }
        more = {name: value for name, value in entries.items() if value is not None}
        return plan_file.dumps(self.plan, self.names, self.original.digest, more)

    def overlay(self) -> dict[str, Any]:
        """What stays of every node of the original, see `onnxprune.report.overlay`."""
        report = self.report
        rows = {row.name: dict(row.points)[row.kept] for row in report.sensitivities}
        own = {} if report.layers is None else {r.output: r.divergence for r in report.layers.rows}
        return overlay(self.original.proto, self.plan, report.frozen, rows, own)

    def annotated(self) -> Result:
        """The same, with metadata in the model about what stays, see `onnxprune.ir.annotate`.

        Raises:
            InputError: the file is then larger than was asked for.
        """
        proto, report = annotated(self.pruned.proto, self.original.proto), self.report
        size, before = save.file_bytes(proto), report.before
        full = [before.macs, before.params, before.bytes, 1]
        asked = {name: amount for name, amount in report.target.items() if name == "size"}
        if size > budgets(asked, full).get("size", np.inf):
            raise InputError(
                f"annotate: the file takes {size} bytes with what it says of itself, more than "
                f"size={asked['size']}. Leave it out, or ask for a smaller size."
            )
        achieved = {**report.achieved, "size": size / max(before.bytes, 1)}
        told = replace(report, after=replace(report.after, bytes=size), achieved=achieved)
        return replace(self, pruned=replace(self.pruned, proto=proto, source=proto), report=told)

    def with_layers(self) -> Result:
        """The same, with a report that says how far single layers drifted, where samples are known.

        Both models run on a few samples: of the data that results are measured on, or else of those
        that calibrated.
        """
        original, pruned = self.original.proto, self.pruned.proto
        layers = divergences(original, pruned, self.plan, self.layers)
        return replace(self, report=replace(self.report, layers=layers))


@dataclass(frozen=True)
class Request:
    """What the caller gave: a model, targets, and data to measure on; what is looked at of it.

    `samples` are a few of those that the caller gave.
    """

    model: Model
    target: Mapping[str, str | float] = field(default_factory=dict)
    data: inputs.Data | None = None
    extent: Extent | None = None
    samples: Samples | None = None


def finished(
    request: Request, analysis: Analysis, stages: Sequence[Stage], options: SelectionSettings
) -> Result:
    """Measure drift and latency of what the stages made of a model, and put the report together."""
    target = request.target
    options = replace(options, latency=options.latency or "latency" in target)
    last, plan = stages[-1], stages[0].plan
    for stage in stages[1:]:
        plan = plan_file.compose(plan, stage.plan)
    model = shared_tensors.reunite(last.model, analysis.copies)
    options.progress("comparing", 0.6)
    direct = len(stages) == 1 and last.as_given  # else the stage's original is another
    pair = compare.ModelPair(analysis.original, model)
    seeded = compare.SeededInputs(last.inputs, (last.original, last.pruned) if direct else None)
    measured = compare.compare_models(pair, seeded, request.data, options)
    widths = np.array([int(mask.sum()) for mask in last.kept], np.int64)
    full, after = analysis.original_cost, _cost(last, model, widths, options)
    more = [] if options.spatial or not {"macs", "latency"} & target.keys() else hints(analysis)
    blocks = blocks_of(last.analysis, widths, target, options)
    times = measured.latency or (None, None)
    right = measured.drift.accuracy or (None, None)
    report = Report(
        before=compare.measured(full, analysis.original, times[0], right[0]),
        after=compare.measured(after, model, times[1], right[1]),
        target=dict(target),
        achieved=dict(zip(METRICS, (after / full.clip(1)).tolist(), strict=True)) | _share(times),
        proof=last.proof,
        fidelity=measured.drift,
        groups=group_rows(last.analysis, widths.tolist()),
        frozen=frozen_rows(last.analysis),
        environment=options.environment(),
        notes=[*_all_notes(analysis, stages, plan, model, measured), *_width_notes(blocks), *more],
        calibration=last.reach,
        warnings=list(analysis.warnings),
        slower=measured.slower,
        blocks=blocks,
        sensitivities=last.divergences,
    )
    options.progress("done", 1.0)
    own = [name for name in analysis.stored if not zero_biases.is_added(name)]
    pruned = Model(model, model, request.model.scratch)
    original = replace(request.model, proto=analysis.original)
    convolved = [name for stage in stages for name in stage.convolved]
    turned = [one for stage in stages for one in stage.rotations]
    layers = layers_of(analysis.nodes, request.samples).without(_turned(stages))
    return Result(pruned, original, plan, report, own, request.extent, convolved, layers, turned)


def _turned(stages: Sequence[Stage]) -> set[str]:
    """Names of tensors whose positions are directions, no channels of the original."""
    return {
        axis.tensor
        for stage in stages
        for group in stage.analysis.groups
        if any(group.name == one.group for one in stage.rotations)
        for axis, _ in group.axes()
    }


def _width_notes(blocks: Mapping[str, Any] | None) -> list[str]:
    """That no plan on the runtime's blocks was within the target, where that is so."""
    odd = 0 if blocks is None else blocks["groups_of_any_width"]
    what = "no plan on the blocks of the runtime's kernels meets the target: any width was taken in"
    return [f"{what} {odd} groups, which may take more time"] if odd else []


def _all_notes(
    analysis: Analysis,
    stages: Sequence[Stage],
    plan: Plan,
    model: ModelProto,
    measured: compare.Comparison,
) -> list[str]:
    """What the report says in sentences, in the order that it happened."""
    failed = [
        f"group '{name}' failed the proof and stays whole: please report the model"
        for stage in stages
        for name in stage.spared
    ]
    return [
        *analysis.notes,
        *stages[-1].notes,
        *(_stage_note(stage) for stage in stages[:-1]),
        *_notes(analysis, plan, model),
        *measured.notes,
        *failed,
        *_inexact_notes(stages[-1]),
    ]


def _share(times: tuple[Latency | None, Latency | None]) -> dict[str, float]:
    """The pruned model's latency in shares of the original's, if both were timed."""
    before, after = times
    if before is None or after is None:
        return {}
    return {"latency": after.median_ms / before.median_ms}


def _cost(stage: Stage, model: ModelProto, widths: Ints, options: AnalysisSettings) -> Floats:
    """What the result costs, in the order of METRICS."""
    after = stage.analysis.cost.at(widths)
    if stage.counted is not None:
        after[:2] = stage.counted[:2]
    elif stage.notes or stage.plan.beyond:  # biases may have gone, and zeros are not counted
        after[:2] = analyze(model, options).cost.full[:2]
    after[2] = save.file_bytes(model)
    return after


def _stage_note(stage: Stage) -> str:
    """What a stage before the last one did."""
    gone = sum(int((~mask).sum()) for mask in stage.kept)
    return stage.told or f"a step before removed {gone} channels"


def _inexact_notes(stage: Stage) -> list[str]:
    """What changed for channels that stayed, with --allow-inexact."""
    changed: Counter[str] = Counter()
    for group, mask in zip(stage.analysis.groups, stage.kept, strict=True):
        if group.inexact:
            changed[group.inexact] += int((~mask).sum())
    return [
        f"inexact: {count} channels went although that changes {what}; the proof compares with the "
        "original normalised over what is left"
        for what, count in changed.items()
        if count
    ]


def _notes(analysis: Analysis, plan: Plan, model: ModelProto) -> list[str]:
    """What happened to weights that several operators share."""
    stored = graph.constants(model)
    copied = sorted({old for copy, old in analysis.copies.items() if copy in stored})
    notes = [f"'{name}' was shared by several operators; each got its own copy" for name in copied]
    readers = Counter(t.name for n in analysis.nodes for t in n.inputs if t is not None)
    cut_names = {axis.tensor for axis in plan.keep if axis.tensor in stored}
    notes += [
        f"'{name}' is used by {readers[name]} operators: all lose the same channels"
        for name in sorted(cut_names)
        if readers[name] > 1
    ]
    return notes
