"""The job: survey, select, cut and prove, measure. Start reading at `prune`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocation.depth import depth_of
from onnxprune.allocation.latency import search
from onnxprune.allocation.latency.padding import padded
from onnxprune.allocation.targets import budgets
from onnxprune.allocation.widths import widths_for
from onnxprune.calibration.samples import calibration, is_random
from onnxprune.errors import InputError, ProofError, TargetError
from onnxprune.groups.analysis import Analysis, analyze_as, load
from onnxprune.groups.units import channel_rows
from onnxprune.importance.criteria import errors_of
from onnxprune.importance.ranking import rank, rank_on_samples
from onnxprune.ir import external_data, inputs, save
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.pipeline import compare
from onnxprune.pipeline.prune_calibrated import calibrated
from onnxprune.pipeline.prune_data_free import makes_up, prepare_data_free
from onnxprune.pipeline.result import Result, finished
from onnxprune.pipeline.score_search import evaluated
from onnxprune.settings import Settings, settings_of
from onnxprune.surgery.cut import Masks, Stage, cut, cut_lossless, running
from onnxprune.surgery.plan import kept_channels

__all__ = ["prune"]

#: Groups that may fail the proof before the whole model counts as failed.
RETRIES = 8


def prune(
    model: Source,
    target: Mapping[str, str | float] | None = None,
    settings: Settings | None = None,
    **changes: Any,
) -> Result:
    """Make a model smaller: `prune("in.onnx", {"macs": 0.5}, importance="l1")`.

    Args:
        model: path or ModelProto; it is not changed.
        target: metric → share or amount, see `onnxprune.allocation.targets.budgets`; all must hold.
        settings: how.
        **changes: single fields of `settings` to override.

    Raises:
        InputError: the model, the target or an option cannot be used.
        TargetError: the target is out of reach.
        ProofError: the pruned model does not compute what the masked original does.
        GateError: with `max_drop`, every target loses more than that.
    """
    options = settings_of(settings, changes)
    target, options = _by_depth(target or {}, options)
    if options.evaluate is not None:
        return _evaluated(model, target, options)
    options.progress("reading", 0.0)
    proto = load(model)
    scratch, options = _private(proto, options)
    data = None if options.data is None else inputs.load_data(options.data, proto)
    options = _with_samples(options, proto)
    options.progress("tracing", 0.1)
    analysis = analyze_as(proto, options)
    wanted = _wanted(target, analysis, options)
    stages = _exact(analysis, wanted, options)
    base, source = analysis, proto
    if stages and (wanted or options.layer_ratio or options.blocks):
        source = stages[-1].model
        base = analyze_as(source, options)
        wanted = search.relative(wanted, source, analysis, options)
    if wanted or options.layer_ratio or options.blocks:
        if options.calib is not None and options.compensate:
            stages += calibrated(source, wanted, options)
        else:
            stages.append(_in_one_step(source, base, wanted, options))
    asked = target or ({"blocks": options.blocks} if options.blocks else {})
    result = finished(model, analysis, stages, (asked, data, options))
    return replace(result, scratch=scratch)


def _exact(analysis: Analysis, wanted: Mapping[str, float], options: Settings) -> list[Stage]:
    """Stages that change nothing of what the model computes."""
    stages = []
    if options.lossless:
        with running(analysis, options) as original:
            stages.append(cut_lossless(analysis, options, original))
    if "latency" in wanted:
        wider = padded(analyze_as(stages[0].model, options) if stages else analysis, options)
        stages += [wider] if wider else []
    return stages


def _wanted(
    target: Mapping[str, str | float], analysis: Analysis, options: Settings
) -> dict[str, float]:
    """Budgets, with what the model takes measured where a latency is given in milliseconds."""
    full = analysis.cost.full.tolist()
    wanted = budgets(target, full, lambda: compare.milliseconds(analysis, options))
    if not (wanted or options.lossless or options.layer_ratio or options.blocks):
        raise InputError("nothing to do: give a target such as macs=0.5, or lossless")
    return wanted


def _by_depth(
    target: Mapping[str, str | float], options: Settings
) -> tuple[Mapping[str, str | float], Settings]:
    """A target of whole blocks becomes a setting."""
    depth = depth_of(target)
    if not depth:
        return target, options
    if options.calib is None or not options.compensate or options.max_drop is not None:
        raise InputError("target blocks measures what is missed: give calib, and no max_drop")
    return {}, replace(options, blocks=depth, steps=1)


def _with_samples(options: Settings, model: ModelProto) -> Settings:
    """The options with calibration data read, so that what is wrong with it shows early."""
    if options.calib is None or is_random(options.calib):
        return options
    return replace(options, calib=calibration(options.calib, model, options))


def _evaluated(model: Source, target: Mapping[str, str | float], options: Settings) -> Result:
    """Prune under the user's own score, with calibration data read once."""
    proto = load(model)
    cache = {} if options.cache is None else options.cache  # curves hold for every target
    plain = _with_samples(replace(options, evaluate=None, max_drop=None, cache=cache), proto)

    def cost() -> list[float]:
        return [float(amount) for amount in analyze_as(proto, options).cost.full]

    result, found = evaluated(
        lambda wanted: prune(model, wanted, plain), proto, target, options, cost
    )
    return replace(result, report=replace(result.report, evaluation=found))


def _private(model: ModelProto, options: Settings) -> tuple[external_data.Scratch | None, Settings]:
    """A scratch folder of its own for a model with external weights, and the options with it."""
    if not external_data.is_external(model):
        return None, replace(options, scratch=None)
    scratch = external_data.Scratch(options.scratch)
    return scratch, replace(options, scratch=scratch.path)


def _in_one_step(
    model: ModelProto, analysis: Analysis, wanted: Mapping[str, float], options: Settings
) -> Stage:
    """Cut the model to the targets, making up without data for what goes unless told not to."""
    options.progress("scoring", 0.2)
    if analysis.groups and makes_up(model, options):
        ready = prepare_data_free(model, options)
        named = replace(options, importance=ready.criterion)
        return _select_and_cut(ready.analysis, ready.scores, wanted, named, ready.cut)
    if options.calib is None:
        analysis, scores = rank(analysis, options.criterion, options.seed)
    else:
        data = calibration(options.calib, analysis.original, options, analysis.nodes)
        analysis, scores = rank_on_samples(analysis, data, options)
    with running(analysis, options) as original:
        return _select_and_cut(
            analysis, scores, wanted, options, lambda kept, o: cut(analysis, kept, o, original)
        )


def _select_and_cut(
    analysis: Analysis,
    scores: Sequence[NDArray[np.float64]],
    wanted: Mapping[str, float],
    options: Settings,
    cutter: Callable[[Masks, Settings], Stage],
) -> Stage:
    """Cut to the targets; a group that fails the proof is left whole and the rest tried again."""
    whole: dict[int, ProofError] = {}
    limit = wanted.get("size", np.inf)
    while True:
        try:
            stage = cutter(_selected(analysis, scores, wanted, options, whole), options)
        except ProofError as error:
            if error.group is None or error.group in whole or len(whole) == RETRIES:
                raise
            whole[error.group] = error
            continue
        except TargetError as error:
            raise next(iter(whole.values()), error) from error
        excess = save.file_bytes(stage.model) - limit
        if excess <= 0:
            return replace(stage, spared=tuple(analysis.groups[g].name for g in whole))
        # the framing of the file varies by a few bytes
        wanted = {**wanted, "size": wanted["size"] - excess - 64}


def _selected(
    analysis: Analysis,
    scores: Sequence[NDArray[np.float64]],
    wanted: Mapping[str, float],
    options: Settings,
    whole: Collection[int] = (),
) -> Masks:
    """Channels to keep of every group (n_channels,), all of those in `whole`, or TargetError."""
    errors = [errors_of(options.criterion, s) for s in scores]
    rows = channel_rows(analysis.groups, errors)
    widths = widths_for(analysis, rows, wanted, options, whole)
    return [kept_channels(s, int(w)) for s, w in zip(scores, widths, strict=True)]
