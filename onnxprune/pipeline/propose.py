"""Propose targets for a model, by what weights alone say and by how long models so narrow take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxprune import ops
from onnxprune.errors import InputError, TargetError
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.cost import METRICS
from onnxprune.importance.ranking import rank
from onnxprune.ir import external_data, graph
from onnxprune.ir import inputs as feeding
from onnxprune.ir.blas import one_thread
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.model import read_model
from onnxprune.ir.stopwatch import TimedModel
from onnxprune.pipeline.prune_by_scores import Scored, selected
from onnxprune.pipeline.prune_data_free import makes_up, scored_data_free
from onnxprune.pipeline.sample_run import analyze_sized, check_more
from onnxprune.progress import between
from onnxprune.report.inspection import inspect_values
from onnxprune.report.overview import summary
from onnxprune.report.proposal import Candidate, Proposal
from onnxprune.settings import AUTO, Settings, settings_of
from onnxprune.surgery.cut import narrowed
from onnxprune.types import Masks

__all__ = ["propose"]

#: Shares of the MACs that are proposed.
SHARES = (0.8, 0.65, 0.5)
#: Seconds of runs for each model.
SECONDS = 0.5
_NOT_TIMED = "the model is too large to time copies of it: prune, or bench, times it"


@one_thread()
def propose(model: Source, settings: Settings | None = None) -> Proposal:
    """Say what would be left of a model at several targets; nothing is written.

    Widths follow from the weights alone, as in pruning without samples; nothing is refitted and
    nothing proved. Time is measured on models of these widths, in turns with the original.

    Args:
        model: path or ModelProto.
        settings: what the user asks for beside a target.

    Raises:
        InputError: the model or an option cannot be used.
    """
    options = settings_of(settings, {})
    check_more(options)
    calibrated = options.calib is not None
    if calibrated:  # what samples would choose is not known
        options = replace(options, calib=None, importance=AUTO)
    options.progress("reading", 0.0)
    proto = read_model(model).proto
    options.progress("tracing", 0.1)
    analysis, options = analyze_sized(proto, options)
    large = graph.stored_bytes(proto) > graph.LARGE
    options.progress("scoring", 0.3)
    scored = _scored(analysis, options)
    plans = [_plan(scored, share, options) for share in SHARES] if analysis.groups else []
    timed = options.latency and not large
    times = _times(scored.analysis, [kept for _, kept in plans], options) if timed else {}
    candidates = [replace(one, time=times.get(k)) for k, (one, _) in enumerate(plans)]
    channels = sum(group.channels for group in analysis.groups)
    told = list(summary(analysis, inspect_values(analysis)))
    notes = [_NOT_TIMED] if options.latency and large else []
    options.progress("done", 1.0)
    return Proposal(told, channels, candidates, calibrated, [*analysis.warnings, *notes])


def _scored(analysis: Analysis, options: Settings) -> Scored:
    """The model with scores of its channels, as pruning without samples has them."""
    if makes_up(analysis.original, options):
        return scored_data_free(analysis, options)[0]
    ranked, scores = rank(analysis, options.criterion, options.seed)
    return Scored(ranked, scores, options.criterion)


def _plan(scored: Scored, share: float, options: Settings) -> tuple[Candidate, Masks | None]:
    """A target with what it keeps, None where it is out of reach."""
    cost = scored.analysis.cost
    try:
        kept = selected(scored, {"macs": share * float(cost.full[0])}, options, ())
    except TargetError as error:
        return Candidate(share, {}, refused=str(error)), None
    widths = np.array([int(mask.sum()) for mask in kept], np.int64)
    shares = (cost.at(widths) / cost.full.clip(1)).tolist()
    named = dict(zip(METRICS, shares, strict=True))
    return Candidate(share, named, kept=int(widths.sum())), kept


def _times(
    analysis: Analysis, plans: Sequence[Masks | None], options: Settings
) -> dict[int, float]:
    """The time of each plan that is within reach, in shares of the original's, by its number."""
    if all(kept is None for kept in plans):
        return {}
    made = {k: narrowed(analysis, kept, None) for k, kept in enumerate(plans) if kept is not None}
    inputs = feeding.seeded(
        analysis.model, ops.index_bounds(analysis.nodes), analysis.sample, options.seed
    )
    feeds = feeding.batched(analysis.original, inputs, options.batch)
    try:
        contents = (_content(one) for one in (analysis.original, *made.values()))
        watch = options.stopwatch
        models = [one for c in contents for one in watch.opened([TimedModel(c, feeds)])]
        told = between(options.progress, "timing", 0.5, 1.0)
        rounds = watch.rounds(models, SECONDS * len(models), told)
    except InputError:  # a proposal says less then; pruning says why
        return {}
    median = np.median(rounds[:, 1:] / rounds[:, :1], axis=0)
    return dict(zip(made, median.tolist(), strict=True))


def _content(model: ModelProto) -> bytes:
    return graph.model_bytes(external_data.inlined(model))
