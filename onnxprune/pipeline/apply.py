"""Replay a plan file on a model: the same one, or another checkpoint of its graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from onnxprune.allocation.latency.padding import filled
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import inputs, zero_biases
from onnxprune.ir.blas import one_thread
from onnxprune.ir.load import Source
from onnxprune.pipeline.layer_divergence import few_samples
from onnxprune.pipeline.prune import opened
from onnxprune.pipeline.result import Request, Result, finished
from onnxprune.pipeline.sample_run import analyze_sized, sized_by_samples
from onnxprune.settings import Settings, SettingsChanges, settings_of
from onnxprune.spatial.extent import Extent, extent_of
from onnxprune.spatial.view import seeing_less, view
from onnxprune.surgery import plan_file
from onnxprune.surgery.cut import Stage, cut, running
from onnxprune.surgery.plan_file import PlanFile
from onnxprune.surgery.rotation import rotated, rotations_of
from onnxprune.surgery.shortcuts import convolved
from onnxprune.types import Plan

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["apply"]


@one_thread()
def apply(
    model: Source,
    plan: Path | str,
    settings: Settings | None = None,
    **changes: Unpack[SettingsChanges],
) -> Result:
    """Replay a plan file on a model, which may be another checkpoint of the same graph.

    Raises:
        InputError: the plan does not fit the model.
        ProofError: as in `prune`.
    """
    options = settings_of(settings, changes)
    read, options = opened(model, options)
    data = None if options.data is None else inputs.load_data(options.data, read.proto)
    options = sized_by_samples(options, read.proto, data)
    analysis, options = analyze_sized(read.proto, options)
    known = plan_file.loads(Path(plan))
    extent = None if known.extent is None else extent_of(known.extent)
    stages, saved = _exact(analysis, known, extent, options)
    base = analyze(stages[-1].model, options) if stages else analysis
    groups, kept = plan_file.channels_of(saved, base.groups, base.stored)
    base = base.with_groups(groups)
    with running(base, options) as original:
        stages.append(cut(base, kept, options, original))
    if known.rotations:  # biases that took nothing go
        stages[-1] = replace(stages[-1], model=zero_biases.unbiased(stages[-1].model))
    few = few_samples(read.proto, data, options.calib)
    request = Request(read, data=data, extent=extent, samples=few)
    result = finished(request, analysis, stages, options)
    if known.digest == read.digest:
        return result
    notes = [*result.report.notes, "the plan was made on another file: same graph, other weights"]
    return replace(result, report=replace(result.report, notes=notes))


def _exact(
    analysis: Analysis, known: PlanFile, extent: Extent | None, options: Settings
) -> tuple[list[Stage], Plan]:
    """What is done before the cut and changes nothing else, and the plan for what comes of it."""
    stages, base = list[Stage](), analysis
    if extent is not None:
        with running(analysis, options) as original:
            stages.append(seeing_less(analysis, view(analysis, extent), original))
        base = analyze(stages[-1].model, options)
    shortcuts = convolved(base, options, known.convolved) if known.convolved else None
    if shortcuts is not None:
        stages.append(shortcuts)
        base = analyze(shortcuts.model, options)
    widths, saved = plan_file.added(known.plan, base.groups)
    if widths:
        stages.append(filled(base, widths, options))
        base = analyze(stages[-1].model, options)
    if known.rotations:
        base = analyze(base.original, options, biases=True)
        stages.append(rotated(base, rotations_of(known.rotations), options))
    return stages, saved
