"""Compensate for removed channels without data.

Statistics of activations are estimated from BatchNormalization parameters (see
`estimated_statistics`): each layer then reads, in place of a removed channel, its best linear
prediction from those that stay, and its bias takes the mean. Where nothing can be estimated a
removed filter is merged into the most similar one that stays (Kim et al., Neuron Merging, 2020):
its columns in the layers behind are added to that one's, scaled by the ratio of the filters' norms.
Start reading at `fold`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.calibration.activation_statistics import ActivationStatistics
from onnxprune.calibration.estimated_statistics import Estimate, estimate_statistics
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.groups.roles import group_matrices
from onnxprune.ops.dequantize import as_real
from onnxprune.types import Axis, Floats, Group, Ints

__all__ = ["as_activation_statistics", "fold", "linear_prediction", "merge_weights"]

#: Ridge in shares of the mean variance: as large as this since statistics are only estimated.
RIDGE = 0.1
#: Least cosine of two filters of which one stands in for the other.
LEAST_COSINE = 0.7
Array = NDArray[Any]
Masks = Sequence[NDArray[np.bool_]]


class _CutGroup(NamedTuple):
    """A group and which of its channels (n_channels,) stay."""

    group: Group
    mask: NDArray[np.bool_]


class _Channels(NamedTuple):
    """Channels of a cut group on an axis that a layer reads.

    Attributes:
        number: of the group.
        kept: (n_kept, k) positions of the channels that stay.
        gone: (n_gone, k) positions of those that go.
    """

    number: int
    kept: Ints
    gone: Ints


def linear_prediction(cov: Floats, kept: Ints, gone: Ints, ridge: float = RIDGE) -> Floats:
    """(n_kept, n_gone) weights that best predict the channels `gone` from those `kept`.

    Args:
        cov: (n, n) covariance or second moments of the channels.
        kept: numbers of the channels that stay.
        gone: numbers of the others.
        ridge: in shares of the mean variance.
    """
    amount = ridge * max(float(np.trace(cov)) / max(len(cov), 1), 1e-12)
    left = cov[np.ix_(kept, kept)] + amount * np.eye(len(kept))
    return np.asarray(np.linalg.solve(left, cov[np.ix_(kept, gone)]), np.float64)


def merge_weights(filters: Floats, kept: Ints, gone: Ints) -> Floats:
    """(n_kept, n_gone) weights with which each filter of `gone` is the most similar one `kept`.

    Behind a Relu a positive multiple of a filter gives the same multiple of its activation. A
    filter that is similar to none has zero weights.

    Args:
        filters: (n_channels, m) with their bias.
        kept: numbers of the channels that stay.
        gone: numbers of the others.
    """
    norms = np.maximum(np.linalg.norm(filters, axis=1), 1e-30)
    unit = filters / norms[:, None]
    cosine = unit[kept] @ unit[gone].T
    best = cosine.argmax(0)
    at = np.arange(len(gone))
    scale = norms[gone] / norms[kept][best]
    weights = np.zeros((len(kept), len(gone)))
    weights[best, at] = np.where(cosine[best, at] >= LEAST_COSINE, cosine[best, at] * scale, 0.0)
    return weights


def as_activation_statistics(
    estimates: Mapping[str, Estimate],
) -> dict[Axis, ActivationStatistics]:
    """Statistics for the criteria `variance`, `wanda` and `obs`, from estimates in place of data.

    Estimates whose scale no normalisation fixes are left out: it drifts with depth.
    """
    statistics = {}
    for name, estimate in estimates.items():
        if not estimate.anchored:
            continue
        square = np.diag(estimate.cov) + estimate.mean**2
        none = np.zeros(len(square))
        statistics[Axis(name, 1)] = ActivationStatistics(
            1, estimate.mean, np.sqrt(square), square, none, estimate.cov
        )
    return statistics


def fold(
    analysis: Analysis, kept: Masks, estimates: Mapping[str, Estimate] | None = None
) -> dict[str, Array]:
    """Compute new weights and biases for the layers that read cut groups.

    Args:
        analysis: the model. Layers without a bias, which would take the mean of what goes, keep
            their weights (see `zero_biases.biased`).
        kept: (n_channels,) which channels of each group stay. The others are still in the model:
            the new weights are meant for the cut that follows.
        estimates: statistics by name of the tensor, None: they are estimated here.

    Returns:
        New content of stored tensors.
    """
    if estimates is None:
        estimates = estimate_statistics(analysis.nodes, analysis.read, analysis.sample)
    readers = analysis.index.readers
    cut = [_CutGroup(g, m) for g, m in zip(analysis.groups, kept, strict=True) if not m.all()]
    places = _places(cut)
    merging = cache(lambda number: _merging(analysis, cut[number]))
    patches: dict[str, Array] = {}
    for layer in analysis.layers:
        axis = layer.data.at(layer.kernel.channel)
        read = [] if layer.depthwise else places.get(axis, [])
        name, _ = bias_of(layer, readers, analysis.read)
        stored, bias = analysis.read(layer.weight.name), analysis.read(name) if name else None
        if not read or stored is None or bias is None:
            continue
        estimate = estimates.get(axis.tensor) if axis.axis == 1 else None
        if estimate is None:
            merges = [(channels, merging(channels.number)) for channels in read]
            if any(weights.any() for _, weights in merges):
                patches[layer.weight.name] = _merged(layer, stored, merges)
            continue
        dead = np.concatenate([channels.gone.ravel() for channels in read])
        weight, moved = _predicted(layer, stored, estimate, dead)
        patches[layer.weight.name] = weight
        if estimate.anchored:
            patches[name] = (bias.ravel() + moved).reshape(bias.shape).astype(bias.dtype)
    return patches


def _places(cut: Sequence[_CutGroup]) -> dict[Axis, list[_Channels]]:
    """The channels of cut groups that lie on each axis."""
    found = defaultdict[Axis, list[_Channels]](list)
    for number, (group, mask) in enumerate(cut):
        for axis, positions in dict(group.axes()).items():
            found[axis].append(_Channels(number, positions[mask], positions[~mask]))
    return found


def _predicted(layer: Layer, stored: Array, estimate: Estimate, dead: Ints) -> tuple[Array, Floats]:
    """Predict the inputs that go from the others.

    Where no normalisation fixes the scale of the estimate the prediction is a multiple of the
    others without a constant, which holds at any scale, and the bias must stay.

    Args:
        layer: which.
        stored: its weight.
        estimate: statistics of what it reads.
        dead: positions of the inputs that go.

    Returns:
        The weight, as it is stored, and what the prediction adds to the bias (o,).
    """
    old = _by_channel(layer, layer.matrix(stored))
    alive = np.ones(len(estimate.mean), bool)
    alive[dead] = False
    kept, gone = np.flatnonzero(alive), np.flatnonzero(~alive)
    moments = estimate.cov
    if not estimate.anchored:
        moments = moments + np.outer(estimate.mean, estimate.mean)
    new = old.copy()
    new[kept] += np.tensordot(linear_prediction(moments, kept, gone), old[gone], 1)
    new[gone] = 0
    moved: Floats = estimate.mean @ (old - new).sum(1)
    by_tap = new.swapaxes(0, 1).reshape(-1, new.shape[-1])
    return layer.stored(by_tap, stored), moved


def _by_channel(layer: Layer, matrix: Floats) -> Floats:
    """(channels, taps, o) a layer's matrix (taps · channels, o)."""
    channels = layer.data.size(layer.kernel.channel) or len(matrix)
    found: Floats = matrix.reshape(-1, channels, matrix.shape[1]).swapaxes(0, 1)
    return found


def _merged(layer: Layer, stored: Array, merges: Sequence[tuple[_Channels, Floats]]) -> Array:
    """Add the columns of channels that go to those of similar channels.

    Args:
        layer: which.
        stored: its weight.
        merges: channels that it reads, each with weights (n_kept, n_gone).
    """
    matrix = layer.matrix(stored)
    for channels, weights in merges:
        kept, gone = (layer.columns(at, stored.shape) for at in (channels.kept, channels.gone))
        matrix[kept] += np.tensordot(weights, matrix[gone], 1)
        matrix[gone] = 0
    return layer.stored(matrix, stored)


def _merging(analysis: Analysis, cut: _CutGroup) -> Floats:
    """(n_kept, n_gone) weights that merge the filters of a group; zero if it has several kinds."""
    kept, gone = np.flatnonzero(cut.mask), np.flatnonzero(~cut.mask)
    read = as_real(analysis.nodes, analysis.read)
    made = group_matrices(cut.group, analysis.roles.makes, read)
    filters = [np.asarray(rows, np.float64) for rows in made]
    if len(filters) != 1:  # a residual stream sums several filters
        return np.zeros((len(kept), len(gone)))
    return merge_weights(_with_bias(analysis, cut.group, filters[0]), kept, gone)


def _with_bias(analysis: Analysis, group: Group, filters: Floats) -> Floats:
    """(n_channels, m + 1) filters (n_channels, m) with their bias, if there is one."""
    positions = {axis.tensor: at for axis, at in group.axes()}
    for node in analysis.nodes:
        form = ops.LAYERS.get(node.op)
        bias = node.input(form.bias) if form is not None and form.bias is not None else None
        if bias is None or bias.name not in positions:
            continue
        values = analysis.read(bias.name)
        if values is not None:
            column = values[positions[bias.name]].sum(1, keepdims=True, dtype=np.float64)
            return np.concatenate([filters, column], 1)
    return filters
