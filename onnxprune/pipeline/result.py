"""What comes out: the pruned model, its plan, and a report of what was measured."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from onnxprune.groups.analysis import Analysis, analyze_as
from onnxprune.groups.cost import METRICS
from onnxprune.ir import external_data as external
from onnxprune.ir import graph, inputs, shared_tensors
from onnxprune.ir import save as saving
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.timing import Latency
from onnxprune.pipeline import compare
from onnxprune.report import inspection
from onnxprune.report.report import Report
from onnxprune.settings import Settings
from onnxprune.surgery import plan_file
from onnxprune.surgery.cut import Stage
from onnxprune.types import Floats, Ints, Plan

__all__ = ["Result", "finished"]

#: Ratios of latency up to this may be chance.
NOISE = 1.05


@dataclass(frozen=True)
class Result:
    """A pruned model, what remains of every axis, and what was measured.

    `stored` is the pruned model, `original` the one that was pruned, both with external weights
    still outside; `scratch` holds those that were cut. `source` is what the caller gave, `names`
    are the tensors that a plan may speak of.
    """

    stored: ModelProto
    plan: Plan
    report: Report
    original: ModelProto
    source: Source
    names: Collection[str] = ()
    scratch: external.Scratch | None = None

    @cached_property
    def model(self) -> ModelProto:
        """The pruned model with all weights in memory."""
        return external.inlined(self.stored)

    def save(self, path: str | os.PathLike[str], external_data: bool = False) -> list[Path]:
        """Write the model; `external_data` puts its weights into a file beside it.

        That happens anyway if the original's lay in one, or above `onnxprune.ir.save.LIMIT` bytes.
        """
        return saving.save(self.stored, Path(path), external_data)

    @cached_property
    def plan_json(self) -> str:
        """The plan as a file, see `onnxprune.surgery.plan_file`."""
        return plan_file.dumps(self.plan, self.names, saving.digest(self.source, self.original))


def finished(
    source: Source,
    analysis: Analysis,
    stages: Sequence[Stage],
    asked: tuple[Mapping[str, str | float], inputs.Data | None, Settings],
) -> Result:
    """Measure drift and latency, and put the report together; `asked` is target, data, options."""
    target, data, options = asked
    options = replace(options, latency=options.latency or "latency" in target)
    last, plan = stages[-1], stages[0].plan
    for stage in stages[1:]:
        plan = plan_file.compose(plan, stage.plan)
    model = shared_tensors.reunite(last.model, analysis.copies)
    options.progress("comparing", 0.6)
    direct = len(stages) == 1 and not last.notes  # else the stage's original is another
    pair = compare.ModelPair(analysis.original, model)
    seeded = compare.SeededInputs(last.inputs, (last.original, last.pruned) if direct else None)
    result = compare.compare_models(pair, seeded, data, options)
    widths = np.array([int(mask.sum()) for mask in last.kept], np.int64)
    full, after = analysis.cost.full, _cost(last, model, widths, options)
    times = result.latency or (None, None)
    right = result.drift.accuracy or (None, None)
    made = Report(
        before=compare.measured(full, analysis.original, times[0], right[0]),
        after=compare.measured(after, model, times[1], right[1]),
        target=dict(target),
        achieved=dict(zip(METRICS, (after / full.clip(1)).tolist(), strict=True)) | _share(times),
        proof=last.proof,
        fidelity=result.drift,
        groups=inspection.group_rows(last.analysis, widths.tolist()),
        frozen=inspection.frozen_rows(last.analysis),
        environment=compare.environment(options),
        notes=[
            *analysis.notes,
            *last.notes,
            *(_stage_note(stage) for stage in stages[:-1]),
            *_notes(analysis, plan, model),
            *_slower(result.latency),
            *result.notes,
            *(
                f"group '{name}' failed the proof and stays whole: please report the model"
                for stage in stages
                for name in stage.spared
            ),
            *_inexact_notes(last),
        ],
        warnings=list(analysis.warnings),
    )
    options.progress("done", 1.0)
    return Result(model, plan, made, analysis.original, source, analysis.stored)


def _share(times: tuple[Latency | None, Latency | None]) -> dict[str, float]:
    """The pruned model's latency in shares of the original's, if both were timed."""
    before, after = times
    if before is None or after is None:
        return {}
    return {"latency": after.median_ms / before.median_ms}


def _cost(stage: Stage, model: ModelProto, widths: Ints, options: Settings) -> Floats:
    """What the result costs, in the order of METRICS."""
    after = stage.analysis.cost.at(widths)
    if stage.notes or stage.plan.beyond:  # counted with biases that may have gone, without zeros
        after[:2] = analyze_as(model, options).cost.full[:2]
    after[2] = saving.file_bytes(model)
    return after


def _stage_note(stage: Stage) -> str:
    """What a stage before the last one did."""
    gone = sum(int((~mask).sum()) for mask in stage.kept)
    return stage.told or f"a step before removed {gone} channels"


def _slower(latency: tuple[Latency, Latency] | None) -> list[str]:
    """A warning where removing channels cost time: kernels work in steps of channels."""
    if latency is None or latency[1].median_ms <= NOISE * latency[0].median_ms:
        return []
    return [
        "the pruned model is slower here: its widths lie between the steps of the runtime's "
        "kernels; try a larger --round-to, such as 8 or 16"
    ]


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
