"""Pruning without data: rank and make up by what weights and normalisations say.

Where normalisations are kept, channels are ranked by their believed variance times the weights that
read them, elsewhere by those weights alone; a model of which nothing is believed, by filter norms
(see `beliefs` and `folding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from onnxprune.calibration.estimated_statistics import Estimate, estimate_statistics
from onnxprune.compensation.data_free import as_activation_statistics, fold
from onnxprune.groups.analysis import Analysis, analyze_as
from onnxprune.importance.criteria import Scores
from onnxprune.importance.ranking import rank
from onnxprune.ir import graph, zero_biases
from onnxprune.ir.graph import ModelProto
from onnxprune.settings import AUTO, Settings
from onnxprune.surgery import rewrite
from onnxprune.surgery.cut import Masks, Stage, cut, running

__all__ = ["DataFree", "makes_up", "prepare_data_free"]

#: The criterion where the user names none and something is believed.
CRITERION = "variance"


def makes_up(model: ModelProto, options: Settings) -> bool:
    """Whether removed channels are made up for without data.

    Not in a model of more than `graph.LARGE` bytes: new weights are held in memory.
    """
    wanted = options.compensate and options.calib is None
    return wanted and graph.stored_bytes(model) <= graph.LARGE


@dataclass(frozen=True)
class DataFree:
    """A survey whose layers all have a bias, scores of its groups, and what is believed of it.

    `criterion` made the scores.
    """

    analysis: Analysis
    scores: Sequence[Scores]
    criterion: str
    known: dict[str, Estimate]

    def cut(self, kept: Masks, options: Settings) -> Stage:
        """Cut with what is lost folded into the layers behind, and proved on the folded model.

        Raises:
            ProofError: the result does not compute what the masked folded model does.
        """
        analysis = self.analysis
        patches = fold(analysis, kept, self.known)
        model = rewrite.patch(analysis.model, patches, options.folder)
        ready = replace(analysis, model=model, read=graph.reader(model))
        with running(ready, options) as original:
            stage = cut(ready, kept, options, original)
        layers = sum(len(analysis.stored[name]) > 1 for name in patches)
        made = f"{layers} layers make up for removed channels from what the weights say"
        nothing = "nothing is believed of the removed channels, which are only dropped"
        note = f"no data was used: {made if layers else nothing}"
        return replace(stage, model=zero_biases.unbiased(stage.model), notes=(note,))


def prepare_data_free(model: ModelProto, options: Settings) -> DataFree:
    """The model ready to be cut, ranked by the user's criterion or else by beliefs."""
    full = zero_biases.biased(model)
    analysis = analyze_as(full, options)
    known = estimate_statistics(analysis.nodes, analysis.read, analysis.sample)
    auto = options.importance == AUTO
    criterion = CRITERION if auto and known else options.criterion
    analysis, scores = rank(
        analysis, criterion, options.seed, as_activation_statistics(known) if auto else None
    )
    return DataFree(analysis, scores, criterion, known)
