"""Prune a model: analyze, select, cut and prove, measure. Start reading at `prune`.

Samples, a latency and a score of the user's bring half of the package with them, so each is
imported where it is asked for: a small model is pruned without them before that half is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from onnxprune.allocation.depth import depth_of
from onnxprune.allocation.targets import budgets
from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.cost import METRICS
from onnxprune.importance.criteria import load_criterion
from onnxprune.ir import external_data, inputs
from onnxprune.ir.blas import one_thread
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.model import Model, read_model
from onnxprune.pipeline import compare
from onnxprune.pipeline.layer_divergence import few_samples
from onnxprune.pipeline.not_slower import not_slower
from onnxprune.pipeline.prune_by_scores import prune_dropping
from onnxprune.pipeline.prune_data_free import makes_up, prune_data_free
from onnxprune.pipeline.result import Request, Result, finished
from onnxprune.pipeline.sample_run import analyze_sized, sized_by_samples, with_samples
from onnxprune.settings import (
    AUTO,
    CalibrationSettings,
    SelectionSettings,
    Settings,
    SettingsChanges,
    settings_of,
)
from onnxprune.surgery import shortcuts
from onnxprune.surgery.cut import Stage, cut_lossless, running

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from onnxprune.pipeline.choose_extent import Chosen

__all__ = ["opened", "prune"]

Target = Mapping[str, str | float]


@one_thread()
def prune(
    model: Source,
    target: Target | None = None,
    settings: Settings | None = None,
    **changes: Unpack[SettingsChanges],
) -> Result:
    """Make a model smaller: `prune("in.onnx", {"macs": 0.5}, importance="l1")`.

    Args:
        model: path or ModelProto; it is not changed.
        target: metric → share or amount, see `onnxprune.allocation.targets.budgets`; all must hold.
        settings: how.
        **changes: single fields of `settings` to override.

    Raises:
        InputError: the model, the target or an option cannot be used.
        TargetError: the target is out of reach, or it is a latency and nothing is faster.
        ProofError: the pruned model does not compute what the masked original does.
        GateError: with `max_drop`, every target loses more than that.
    """
    options = settings_of(settings, changes)
    load_criterion(options.importance)  # what is kept on disk depends on it
    target, options = _by_depth(target or {}, options)
    if options.evaluate is not None:
        return _with_score(model, target, options)
    options.progress("reading", 0.0)
    read, options = opened(model, options)
    proto = read.proto
    data = None if options.data is None else inputs.load_data(options.data, proto)
    options = with_samples(options, proto)
    options = sized_by_samples(options, proto, options.calib, data)
    options.progress("tracing", 0.1)
    narrows = bool(target or options.layer_ratio or options.blocks)
    refits = narrows and not options.lossless and _refits(proto, options)
    analysis, options = analyze_sized(proto, options, biases=refits)
    wanted = _budgets(target, analysis, options)
    options = _remembering(options)
    chosen = _looking_at_less(analysis, wanted, options)
    seen = [] if chosen is None or chosen.stage is None else [chosen.stage]
    exact = [*seen, *_exact(_after(seen, analysis, options), wanted, options)]
    request = _request(read, target, data, chosen, options)

    def made(how: Settings) -> Result:
        stages = [*exact, *_narrowed(analysis, exact, wanted, how)] if narrows else exact
        if len(stages) == len(seen):  # nothing follows that would tell of it
            stages = [replace(stage, notes=(stage.told,)) for stage in seen]
        return finished(request, _told(analysis, chosen), stages, how)

    return not_slower(made, target, options)


def _request(
    read: Model,
    target: Target,
    data: inputs.Data | None,
    chosen: Chosen | None,
    options: Settings,
) -> Request:
    """What the caller gave, and what is looked at of it."""
    asked = target or ({"blocks": options.blocks} if options.blocks else {})
    extent = None if chosen is None else chosen.extent
    return Request(read, asked, data, extent, few_samples(read.proto, data, options.calib))


def _refits(model: ModelProto, options: CalibrationSettings) -> bool:
    """Whether weights change to make up for channels that go, so that layers need a bias."""
    return (options.calib is not None and options.compensate) or makes_up(model, options)


def _remembering(options: Settings) -> Settings:
    """The options with a cache: what is measured to choose an extent holds later too."""
    return replace(options, cache={}) if options.spatial and options.cache is None else options


def _looking_at_less(
    analysis: Analysis, wanted: Mapping[str, float], options: Settings
) -> Chosen | None:
    """What the model is to look at of an input; None where nobody asked."""
    if not options.spatial:
        return None
    from onnxprune.pipeline.choose_extent import choose_extent

    return choose_extent(analysis, wanted, options)


def _told(analysis: Analysis, chosen: Chosen | None) -> Analysis:
    """The analysis, with notes about what is looked at."""
    more = () if chosen is None else chosen.notes
    return replace(analysis, notes=[*analysis.notes, *more]) if more else analysis


def _exact(analysis: Analysis, wanted: Mapping[str, float], options: Settings) -> list[Stage]:
    """Stages that change nothing of what the model computes."""
    stages = []
    if options.lossless:
        with running(analysis, options) as original:
            stages.append(cut_lossless(analysis, options, original))
    if wanted and options.round_to == AUTO and shortcuts.selections(analysis):
        from onnxprune.allocation.latency.kernel_blocks import keeps_layout

        base = _after(stages, analysis, options)
        with suppress(ProofError):  # zeros times infinity, for example: slices and pads stay
            picked = shortcuts.convolved(base, options) if keeps_layout(options.stopwatch) else None
            stages += [picked] if picked else []
    if "latency" in wanted:
        from onnxprune.allocation.latency.padding import padded

        wider = padded(_after(stages, analysis, options), options)
        stages += [wider] if wider else []
    return stages


def _after(stages: Sequence[Stage], analysis: Analysis, options: Settings) -> Analysis:
    """What the last of some stages made of a model, analyzed."""
    return analyze(stages[-1].model, options) if stages else analysis


def _narrowed(
    analysis: Analysis, stages: list[Stage], wanted: Mapping[str, float], options: Settings
) -> list[Stage]:
    """Stages that remove channels, from the analysis of the model or what `stages` made of it."""
    source, base = analysis.original, analysis
    if stages:
        source = stages[-1].model
        base = analyze(source, options, biases=_refits(source, options))
        if "latency" in wanted:
            from onnxprune.allocation.latency import search

            wanted = search.relative(wanted, source, analysis, options)
    if options.spatial and stages and _met(base, wanted):
        wanted = {}
    if not (wanted or options.layer_ratio or options.blocks):
        return []  # what changes no weight has met the budgets already
    if options.calib is not None and options.compensate:
        return _calibrated(base, wanted, options)
    options.progress("scoring", 0.2)
    if base.groups and makes_up(source, options):
        return [prune_data_free(base, wanted, options)]
    return [prune_dropping(base, wanted, options)]


def _calibrated(base: Analysis, wanted: Mapping[str, float], options: Settings) -> list[Stage]:
    """Stages of calibrated pruning; streams are turned before where that loses less."""
    from onnxprune.pipeline.prune_calibrated import prune_calibrated

    if not (options.rotate and wanted):
        return prune_calibrated(base, wanted, options)
    from onnxprune.pipeline.choose_rotation import choose_rotation

    options = replace(options, cache={}) if options.cache is None else options
    found = choose_rotation(base, wanted, options)
    turned = [] if found.stage is None else [found.stage]
    now = analyze(turned[-1].model, options, biases=True) if turned else base
    *before, last = prune_calibrated(now, wanted, options)
    return [*turned, *before, replace(last, notes=(*last.notes, *found.notes))]


def _met(analysis: Analysis, wanted: Mapping[str, float]) -> bool:
    """Whether a model is within budgets that are counted."""
    full = dict(zip(METRICS, analysis.cost.full.tolist(), strict=True))
    return wanted.keys() <= full.keys() and all(full[m] <= limit for m, limit in wanted.items())


def _budgets(target: Target, analysis: Analysis, options: SelectionSettings) -> dict[str, float]:
    """Budgets, with what the model takes measured where a latency is given in milliseconds."""
    full = analysis.original_cost.tolist()
    wanted = budgets(target, full, lambda: compare.median_latency_ms(analysis, options))
    if not (wanted or options.lossless or options.layer_ratio or options.blocks):
        raise InputError("nothing to do: give a target such as macs=0.5, or lossless")
    return wanted


def _by_depth(target: Target, options: Settings) -> tuple[Target, Settings]:
    """A target of whole blocks becomes a setting."""
    depth = depth_of(target)
    if not depth:
        return target, options
    if options.calib is None or not options.compensate or options.max_drop is not None:
        raise InputError("target blocks measures what is missed: give calib, and no max_drop")
    return {}, replace(options, blocks=depth, steps=1)


def _with_score(model: Source, target: Target, options: Settings) -> Result:
    """Prune under the user's own score, with calibration data read once."""
    from onnxprune.pipeline.score_search import evaluated

    read = read_model(model)
    cache = {} if options.cache is None else options.cache  # sensitivities hold for every target
    plain = with_samples(replace(options, evaluate=None, max_drop=None, cache=cache), read.proto)

    def cost() -> list[float]:
        return [float(amount) for amount in analyze(read.proto, options).cost.full]

    result, found = evaluated(
        lambda wanted: prune(model, wanted, plain), read, target, options, cost
    )
    return replace(result, report=replace(result.report, evaluation=found))


def opened(source: Source, options: Settings) -> tuple[Model, Settings]:
    """A model, and the options with a folder of its own for external weights that are cut."""
    model = read_model(source)
    if not external_data.is_external(model.proto):
        return model, replace(options, scratch=None)
    scratch = external_data.Scratch(options.scratch)
    return replace(model, scratch=scratch), replace(options, scratch=scratch.path)
