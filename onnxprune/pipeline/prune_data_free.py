"""Prune without data: rank and make up by what weights and normalisations say.

Where normalisations are kept, channels are ranked by their estimated variance times the weights
that read them, elsewhere by those weights alone; a model of which nothing can be estimated, by
filter norms (see `calibration.estimated_statistics` and `compensation.data_free`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from onnxprune.calibration.estimated_statistics import Estimate, estimate_statistics
from onnxprune.compensation.data_free import as_activation_statistics, fold
from onnxprune.groups.analysis import Analysis
from onnxprune.importance.ranking import rank
from onnxprune.ir import graph, zero_biases
from onnxprune.ir.graph import ModelProto
from onnxprune.pipeline.prune_by_scores import Scored, prune_by_scores
from onnxprune.settings import AUTO, CalibrationSettings, RunSettings, Settings
from onnxprune.surgery.cut import Stage, cut, running
from onnxprune.types import Masks

__all__ = ["makes_up", "prune_data_free"]

#: The criterion where the user names none and something can be estimated.
CRITERION = "variance"


def makes_up(model: ModelProto, options: CalibrationSettings) -> bool:
    """Whether removed channels are made up for without data.

    Not in a model of more than `graph.LARGE` bytes: new weights are held in memory.
    """
    wanted = options.compensate and options.calib is None
    return wanted and graph.stored_bytes(model) <= graph.LARGE


def prune_data_free(analysis: Analysis, budgets: Mapping[str, float], options: Settings) -> Stage:
    """Prune a model whose layers all have a bias, and fold what goes into the layers behind.

    Raises:
        TargetError: the budgets are out of reach.
        ProofError: the result does not compute what the masked folded model does.
    """
    estimates = estimate_statistics(analysis.nodes, analysis.read, analysis.sample)
    auto = options.importance == AUTO
    criterion = CRITERION if auto and estimates else options.criterion
    looked_at = as_activation_statistics(estimates) if auto else None
    ranked, scores = rank(analysis, criterion, options.seed, looked_at)
    named = replace(options, importance=criterion)
    return prune_by_scores(
        Scored(ranked, scores, named.criterion),
        budgets,
        named,
        lambda kept: _folded(ranked, kept, estimates, named),
    )


def _folded(
    analysis: Analysis, kept: Masks, estimates: Mapping[str, Estimate], options: RunSettings
) -> Stage:
    """Cut with what is lost folded into the layers behind, proved on the folded model."""
    patches = fold(analysis, kept, estimates)
    ready = analysis.with_weights(patches, options.folder)
    with running(ready, options) as original:
        stage = cut(ready, kept, options, original)
    layers = sum(len(analysis.stored[name]) > 1 for name in patches)
    made = f"{layers} layers make up for removed channels from what the weights say"
    nothing = "nothing is believed of the removed channels, which are only dropped"
    note = f"no data was used: {made if layers else nothing}"
    return replace(stage, model=zero_biases.unbiased(stage.model), notes=(note,))
