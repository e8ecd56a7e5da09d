"""Making up for removed channels without any data.

What the readers see of the channels that stay and go is believed from BatchNormalization
parameters (see `beliefs`): the readers of a removed channel then read its best linear guess from
those that stay, and their bias takes its mean. Where no normalisation says anything a removed
filter is merged into the most similar one that stays (Kim et al., Neuron Merging, 2020): its
readers' columns are added to that one's, scaled by the ratio of the filters' norms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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

__all__ = ["estimated_profiles", "fold", "guesses", "mergers"]

#: Ridge in shares of the mean variance: beliefs are rough.
RIDGE = 0.1
#: Filters less alike (cosine) than this have nothing to do with each other.
ALIKE = 0.7
Masks = Sequence[NDArray[np.bool_]]


def guesses(cov: Floats, kept: Ints, gone: Ints, ridge: float = RIDGE) -> Floats:
    """(n_kept, n_gone) best linear guess of the channels `gone` from those `kept`.

    `cov` (n, n) are their second moments.
    """
    amount = ridge * max(float(np.trace(cov)) / max(len(cov), 1), 1e-12)
    left = cov[np.ix_(kept, kept)] + amount * np.eye(len(kept))
    return np.asarray(np.linalg.solve(left, cov[np.ix_(kept, gone)]), np.float64)


def mergers(rows: Floats, kept: Ints, gone: Ints) -> Floats:
    """(n_kept, n_gone) each filter of `gone` as a multiple of the most similar one `kept`.

    `rows` (n_channels, m) are filters with their bias; behind a ReLU a positive multiple of a
    filter gives the same multiple of its activation.
    """
    norms = np.maximum(np.linalg.norm(rows, axis=1), 1e-30)
    unit = rows / norms[:, None]
    cosine = unit[kept] @ unit[gone].T
    best = cosine.argmax(0)
    at = np.arange(len(gone))
    scale = norms[gone] / norms[kept][best]
    made = np.zeros((len(kept), len(gone)))
    made[best, at] = np.where(cosine[best, at] >= ALIKE, cosine[best, at] * scale, 0.0)
    return made


def estimated_profiles(known: Mapping[str, Estimate]) -> dict[Axis, ActivationStatistics]:
    """Beliefs as statistics for the criteria `variance`, `wanda` and `obs`, in place of data.

    Those alone that a normalisation anchors: the scale of others drifts with depth.
    """
    made = {}
    for name, estimate in known.items():
        if not estimate.anchored:
            continue
        square = np.diag(estimate.cov) + estimate.mean**2
        none = np.zeros(len(square))
        made[Axis(name, 1)] = ActivationStatistics(
            1, estimate.mean, np.sqrt(square), square, none, estimate.cov
        )
    return made


def fold(
    analysis: Analysis, kept: Masks, known: Mapping[str, Estimate] | None = None
) -> dict[str, NDArray[Any]]:
    """New weights and biases for what reads groups of which only `kept` (n_channels,) stay.

    Removed channels are still there: cutting them with these weights in place is what counts.
    `known` is what is believed of tensors. Layers without a stored bias to take the mean keep their
    weights, see `biases.biased`.
    """
    if known is None:
        known = estimate_statistics(analysis.nodes, analysis.read, analysis.sample)
    following = analysis.index.readers
    cut = [(g, m) for g, m in zip(analysis.groups, kept, strict=True) if not m.all()]
    similar = _Similar(analysis, cut)
    patches: dict[str, NDArray[Any]] = {}
    for layer in analysis.layers:
        if layer.depthwise:
            continue
        axis = layer.data.at(layer.kernel.channel)
        here = [(k, dict(group.axes())[axis]) for k, (group, _) in enumerate(cut)
                if axis in dict(group.axes())]  # fmt: skip
        name, _ = bias_of(layer, following, analysis.read)
        stored, bias = analysis.read(layer.weight.name), analysis.read(name) if name else None
        if not here or stored is None or bias is None:
            continue
        estimate = known.get(axis.tensor) if axis.axis == 1 else None
        if estimate is None:
            merged = similar.merged(layer, stored, here)
            if merged is not None:
                patches[layer.weight.name] = merged
            continue
        dead = np.zeros(len(estimate.mean), bool)
        for k, at in here:
            dead[at[~cut[k][1]].ravel()] = True
        weight, moved = _guessed(layer, stored, estimate, dead)
        patches[layer.weight.name] = weight
        if estimate.anchored:
            patches[name] = (bias.ravel() + moved).reshape(bias.shape).astype(bias.dtype)
    return patches


def _guessed(
    layer: Layer, stored: NDArray[Any], estimate: Estimate, dead: NDArray[np.bool_]
) -> tuple[NDArray[Any], Floats]:
    """The weight with dead inputs guessed from the others, and what that adds to the bias (o,).

    Where the scale is not anchored the guess is a multiple of the others, without a constant, which
    is as good if all is larger or smaller than believed; the bias stays.
    """
    old = _by_channel(layer, layer.matrix(stored))
    kept, gone = np.flatnonzero(~dead), np.flatnonzero(dead)
    new = old.copy()
    moments = estimate.cov
    if not estimate.anchored:
        moments = moments + np.outer(estimate.mean, estimate.mean)
    new[kept] += np.einsum("kg,gto->kto", guesses(moments, kept, gone), old[gone])
    new[gone] = 0
    moved: Floats = estimate.mean @ (old - new).sum(1)
    by_tap = new.swapaxes(0, 1).reshape(-1, new.shape[-1])
    return layer.stored(by_tap, stored), moved


def _by_channel(layer: Layer, matrix: Floats) -> Floats:
    """(channels, taps, outputs) a layer's matrix."""
    channels = layer.data.size(layer.kernel.channel) or len(matrix)
    found: Floats = matrix.reshape(-1, channels, matrix.shape[1]).swapaxes(0, 1)
    return found


class _Similar:
    """Merging by filters, for the groups that are cut."""

    def __init__(self, analysis: Analysis, cut: Sequence[tuple[Group, NDArray[np.bool_]]]) -> None:
        self.analysis, self.cut = analysis, cut
        self.made: dict[int, Floats] = {}

    def merged(
        self, layer: Layer, stored: NDArray[Any], here: Sequence[tuple[int, Ints]]
    ) -> NDArray[Any] | None:
        """The weight with the columns of similar channels together; None if none are similar."""
        if not any(self._mergers(k).any() for k, _ in here):
            return None
        matrix = layer.matrix(stored)
        for k, at in here:
            mask = self.cut[k][1]
            columns = layer.columns(at, stored.shape)
            kept, gone = columns[mask], columns[~mask]
            added = np.einsum("kg,gto->kto", self._mergers(k), matrix[gone])
            matrix[kept] += added
            matrix[gone] = 0
        return layer.stored(matrix, stored)

    def _mergers(self, k: int) -> Floats:
        """(n_kept, n_gone) of the group with that number."""
        group, mask = self.cut[k]
        if k not in self.made:
            read = as_real(self.analysis.nodes, self.analysis.read)
            made = group_matrices(group, self.analysis.roles.makes, read)
            rows = [np.asarray(part, np.float64) for part in made]
            kept, gone = np.flatnonzero(mask), np.flatnonzero(~mask)
            if len(rows) == 1:
                self.made[k] = mergers(self._with_bias(group, rows[0]), kept, gone)
            else:  # a residual stream sums several filters
                self.made[k] = np.zeros((len(kept), len(gone)))
        return self.made[k]

    def _with_bias(self, group: Group, rows: Floats) -> Floats:
        """Filters with their bias as a further column."""
        places = {axis.tensor: at for axis, at in group.axes()}
        for node in self.analysis.nodes:
            form = ops.LAYERS.get(node.op)
            bias = node.input(form.bias) if form is not None and form.bias is not None else None
            if bias is None or bias.name not in places:
                continue
            values = self.analysis.read(bias.name)
            if values is not None:
                column = values[places[bias.name]].sum(1, keepdims=True, dtype=np.float64)
                return np.concatenate([rows, column], 1)
        return rows
