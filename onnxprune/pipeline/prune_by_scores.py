"""Cut a model in one step to widths that scores of its channels ask for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from onnxprune.allocation.widths import widths_for
from onnxprune.calibration.samples import calibration
from onnxprune.errors import ProofError, TargetError
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.units import channel_rows
from onnxprune.importance.criteria import Scores, errors_of
from onnxprune.importance.ranking import rank, rank_on_samples
from onnxprune.pipeline.size_budget import within_size
from onnxprune.settings import Settings
from onnxprune.surgery.cut import Stage, cut, running
from onnxprune.surgery.plan import kept_channels
from onnxprune.types import Masks

__all__ = ["Scored", "prune_by_scores", "prune_dropping", "selected"]

#: Groups that may fail the proof before the whole model counts as failed.
RETRIES = 8


@dataclass(frozen=True)
class Scored:
    """A model with (n_channels,) scores of every group, by the criterion that made them."""

    analysis: Analysis
    scores: Sequence[Scores]
    criterion: str


def prune_dropping(analysis: Analysis, budgets: Mapping[str, float], options: Settings) -> Stage:
    """Remove the channels that matter least; every weight that stays keeps its value.

    Raises:
        TargetError: the budgets are out of reach.
        ProofError: the result does not compute what the masked original does.
    """
    if options.calib is None:
        ranked, scores = rank(analysis, options.criterion, options.seed)
    else:
        data = calibration(options.calib, analysis.original, options, analysis.nodes)
        ranked, scores = rank_on_samples(analysis, data, options)
    with running(ranked, options) as original:
        return prune_by_scores(
            Scored(ranked, scores, options.criterion),
            budgets,
            options,
            lambda kept: cut(ranked, kept, options, original),
        )


def prune_by_scores(
    scored: Scored,
    budgets: Mapping[str, float],
    options: Settings,
    cutter: Callable[[Masks], Stage],
) -> Stage:
    """Cut to the budgets; a group that fails the proof is left whole and the rest tried again.

    Raises:
        TargetError: the budgets are out of reach.
        ProofError: too many groups fail, or none can be blamed.
    """
    whole: dict[int, ProofError] = {}

    def make(asked: Mapping[str, float]) -> Stage:
        while True:
            try:
                return cutter(selected(scored, asked, options, whole))
            except ProofError as error:
                if error.group is None or error.group in whole or len(whole) == RETRIES:
                    raise
                whole[error.group] = error
            except TargetError as error:
                raise next(iter(whole.values()), error) from error

    stage = within_size(budgets, make)
    return replace(stage, spared=tuple(scored.analysis.groups[g].name for g in whole))


def selected(
    scored: Scored, budgets: Mapping[str, float], options: Settings, whole: Collection[int]
) -> Masks:
    """Channels to keep of every group (n_channels,), all of those in `whole`."""
    errors = [errors_of(scored.criterion, scores) for scores in scored.scores]
    rows = channel_rows(scored.analysis.groups, errors)
    widths = widths_for(scored.analysis, rows, budgets, options, whole)
    return [kept_channels(s, int(w)) for s, w in zip(scored.scores, widths, strict=True)]
