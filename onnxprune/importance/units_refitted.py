"""Channels that only layers read, all of which least squares can refit.

They are ranked by elimination on the original's activations, which gives the error of the layers at
every width (Kurtić et al., ZipLM 2023); where the model is run the layers are refitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.moments import Statistics
from onnxprune.compensation.least_squares import RIDGE
from onnxprune.compensation.obs import LayerProblem, eliminate, refit, shrinkage
from onnxprune.compensation.taps import ranking_problem
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.head_units import order_of, reordered
from onnxprune.groups.readers import GroupReaders
from onnxprune.groups.units import channel_unit
from onnxprune.importance.channels import (
    Sensitivity,
    not_measured,
    response,
    widths_measured,
)
from onnxprune.importance.output_divergence import Weights
from onnxprune.importance.sensitivity import Measurable, Response
from onnxprune.importance.stored_layer import StoredLayer, name_of, stored_layer
from onnxprune.types import Group, Ints

__all__ = ["problem_of", "refit_of", "refitted_unit"]


def refitted_unit(
    analysis: Analysis, own: GroupReaders, along: tuple[int, ...]
) -> Measurable[Sensitivity]:
    """Say how a group is measured whose readers are all refitted.

    Args:
        analysis: the original.
        own: the layers that read the group.
        along: the groups of the residual block that goes when none of the channels stays.
    """

    def respond(statistics: Mapping[str, Statistics]) -> Response[Sensitivity]:
        layers = [stored_layer(layer, analysis) for layer in own.layers]
        return _respond(own, layers, [statistics[name_of(layer)] for layer in own.layers])

    return Measurable(
        channel_unit(own.group, along),
        partial(widths_measured, own.group, bool(along)),
        respond,
        partial(not_measured, own.group),
        own.layers,
        [layer.weight.name for layer in own.layers],
    )


def _respond(
    own: GroupReaders, layers: Sequence[StoredLayer], statistics: Sequence[Statistics]
) -> Response[Sensitivity]:
    """Rank by elimination, all readers together."""
    triples = zip(layers, statistics, own.columns, strict=True)
    units, errors = eliminate([problem_of(*triple) for triple in triples])
    group, ranking = own.group, units[::-1]
    if group.heads > 1:
        group = reordered(group, order_of(units, group))
        ranking, errors = np.arange(group.channels), errors[:: group.heads]
    refits = [refit_of(la, s, group) for la, s in zip(layers, statistics, strict=True)]

    def weights(kept: Ints) -> Weights:
        return {name: new for one in refits for name, new in one.weights(kept).items()}

    return response(group, ranking, errors, weights)


def problem_of(stored: StoredLayer, statistics: Statistics, columns: Ints) -> LayerProblem:
    """The least-squares problem of a layer, one input for each channel."""
    taps = stored.layer.taps(stored.weight.shape)
    return ranking_problem(statistics, stored.matrix, columns, taps)


@dataclass(frozen=True)
class Refit:
    """A layer that is refitted to what it gave, on fewer channels.

    Attributes:
        stored: the layer.
        inputs: statistics of its inputs.
        columns: (n_channels, m) its input columns by channel of the group.
    """

    stored: StoredLayer
    inputs: Statistics
    columns: Ints

    @cached_property
    def _known(self) -> tuple[Statistics, float]:
        """Statistics of inputs and of what the layer gives, and the ridge."""
        inputs, matrix = self.inputs, self.stored.matrix
        mean_y, nothing = matrix.T @ inputs.mean_x, np.zeros(matrix.shape[1])
        cross = inputs.cov @ matrix
        both = Statistics(inputs.count, inputs.mean_x, mean_y, inputs.cov, cross, nothing)
        return both, shrinkage(inputs, RIDGE)

    def weights(self, kept: Ints) -> dict[str, NDArray[np.generic]]:
        """New weight and bias with only the channels `kept` of the group."""
        matrix = self.stored.matrix
        alive = np.ones(len(matrix), bool)
        alive[self.columns.ravel()] = False
        alive[self.columns[kept].ravel()] = True
        known, ridge = self._known
        fitted = refit(known, matrix, np.flatnonzero(alive), ridge)
        return self.stored.changed(fitted, self.inputs.mean_x)


def refit_of(stored: StoredLayer, inputs: Statistics, group: Group) -> Refit:
    """A layer that reads a group, to be refitted on fewer of its channels."""
    layer = stored.layer
    at = dict(group.axes())[layer.data.at(layer.kernel.channel)]
    return Refit(stored, inputs, layer.columns(at, stored.weight.shape))
