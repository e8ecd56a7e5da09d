"""Prune without data: rank and make up by what weights and normalisations say.

Where normalisations are kept, channels are ranked by their estimated variance times the weights
that read them, elsewhere by those weights alone; a model of which nothing can be estimated, by
filter norms (see `calibration.estimated_statistics` and `compensation.data_free`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from onnxprune.calibration.estimated_statistics import Estimate, estimate_statistics
from onnxprune.compensation.data_free import as_activation_statistics, fold
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.cost import METRICS
from onnxprune.groups.layers import bias_of
from onnxprune.importance.ranking import rank
from onnxprune.ir import graph, zero_biases
from onnxprune.ir.graph import ModelProto
from onnxprune.pipeline.prune_by_scores import Scored, prune_by_scores
from onnxprune.settings import AUTO, CalibrationSettings, RunSettings, Settings
from onnxprune.surgery.cut import Stage, cut, running
from onnxprune.surgery.prove_cut import Original
from onnxprune.types import Masks

__all__ = ["makes_up", "prune_data_free", "scored_data_free"]

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
    with running(analysis, options, _foldable(analysis)) as original:
        scored, estimates = scored_data_free(analysis, options)
        named = replace(options, importance=scored.criterion)
        source = _Source(scored.analysis, original, estimates)
        return prune_by_scores(scored, budgets, named, lambda kept: _folded(source, kept, named))


def scored_data_free(
    analysis: Analysis, options: Settings
) -> tuple[Scored, Mapping[str, Estimate]]:
    """Score the channels of a model by what is estimated of its activations."""
    estimates = estimate_statistics(analysis.nodes, analysis.read, analysis.sample)
    auto = options.importance == AUTO
    criterion = CRITERION if auto and estimates else options.criterion
    looked_at = as_activation_statistics(estimates) if auto else None
    ranked, scores = rank(analysis, criterion, options.seed, looked_at)
    return Scored(ranked, scores, criterion), estimates


class _Source(NamedTuple):
    """What every cut starts from: the model, its run in the background, what is estimated of it."""

    analysis: Analysis
    original: Original
    estimates: Mapping[str, Estimate]


def _foldable(analysis: Analysis) -> set[str]:
    """Names of the weights and biases that `fold` may change."""
    readers, read = analysis.index.readers, analysis.read
    biases = {bias_of(layer, readers, read)[0] for layer in analysis.layers}
    return {layer.weight.name for layer in analysis.layers} | {name for name in biases if name}


def _folded(source: _Source, kept: Masks, options: RunSettings) -> Stage:
    """Cut with what is lost folded into the layers behind, proved on the folded model.

    That is the model which ran already, fed with other weights.
    """
    analysis, original, estimates = source
    patches = fold(analysis, kept, estimates)
    ready = analysis.with_weights(patches, options.folder)
    folded = replace(original, run=original.run.reading(ready.read))
    stage = cut(ready, kept, options, folded)
    layers = sum(len(analysis.stored[name]) > 1 for name in patches)
    made = f"{layers} layers make up for removed channels from what the weights say"
    nothing = "nothing is believed of the removed channels, which are only dropped"
    note = f"no data was used: {made if layers else nothing}"
    counted = analysis.cost.at(np.array([int(mask.sum()) for mask in kept], np.int64))
    counted[METRICS.index("params")] -= zero_biases.spare_parameters(stage.model)
    unbiased = zero_biases.unbiased(stage.model)
    return replace(stage, model=unbiased, notes=(note,), counted=counted)
