"""Cut to given widths while every layer behind is refitted to what the original gives there.

Walks the graph once with two models side by side, the original and the one pruned so far. At each
layer the channels to keep are chosen on what the pruned model feeds it, and its weight and bias
become the least-squares answer to the original's values (see `layer_targets`), so that no error
piles up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.samples import Calibration
from onnxprune.compensation import query_key
from onnxprune.compensation.layer_targets import LayerTarget
from onnxprune.compensation.least_squares import (
    RIDGE,
    Channelwise,
    ClippedRows,
    LayerMoments,
    refitted,
)
from onnxprune.compensation.obs import Reader, eliminate, refit, shrinkage
from onnxprune.compensation.paired_run import PairedRun, Teacher
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.head_units import order_of, reordered
from onnxprune.groups.layers import Layer
from onnxprune.groups.readers import GroupReaders
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import masked_weights
from onnxprune.types import Floats, Group, Ints, Plan

__all__ = ["Compensated", "compensate"]

#: Rows of wider inputs than this are not kept for further rounds.
WIDEST = 2304
Masks = list[NDArray[np.bool_]]


@dataclass
class Compensated:
    """Groups as cut, which channels (n_channels,) stay, and new content of stored tensors."""

    groups: list[Group]
    kept: Masks
    patches: dict[str, NDArray[Any]] = field(default_factory=dict)


def compensate(
    analysis: Analysis,
    groups: Sequence[Group],
    kept: Masks,
    teacher: Teacher | Calibration,
    progress: Callable[[float], None] = lambda share: None,
) -> Compensated:
    """Refit a model whose groups keep as many channels as are marked in `kept` (n_channels,).

    Which channels stay is chosen anew where one layer alone reads the group. `teacher` may be
    calibration data alone: then the model itself is aimed at.
    """
    result = Compensated(list(groups), list(kept))
    _Walk(analysis, result, teacher).run(progress)
    return result


class _Walk:
    """Both models on their way through the graph."""

    def __init__(
        self, analysis: Analysis, result: Compensated, teacher: Teacher | Calibration
    ) -> None:
        self.analysis, self.result = analysis, result
        layers = analysis.layers
        self.groups = analysis.readers
        self.pairs = query_key.pairs_of(analysis, layers)
        mixed = {side.result for pair in self.pairs.values() for side in pair.sides}
        self.both = PairedRun(analysis, teacher, layers, result.patches, mixed)
        crossed = set(analysis.cost.crossings[:2].ravel().tolist())
        self.open = {
            g
            for g, own in enumerate(self.groups)
            if own.complete and len(own.layers) == 1 and g not in crossed
        }
        self.turns: dict[str, Floats] = {}

    def run(self, progress: Callable[[float], None]) -> None:
        """Refit every layer from the first that a cut group reaches."""
        cut = [not mask.all() for mask in self.result.kept]
        hidden = [g for g, own in enumerate(self.groups) if cut[g] and not own.complete]
        self._mask(hidden)
        first, layers = self._first(cut), self.both.layers
        for k, layer in enumerate(layers):
            if self.both.at(layer) >= first:
                self.both.advance(k)
                self._refit(k)
                progress((k + 1) / len(layers))

    def _first(self, cut: Sequence[bool]) -> int:
        """The first operator that a cut changes."""
        starts = [
            self.both.at(layer)
            for g, own in enumerate(self.groups)
            if cut[g] and own.complete
            for layer in own.layers
        ]
        touched = set(self.result.patches)
        starts += [
            self.both.order[node.outputs[0].name]
            for node in self.analysis.nodes
            if any(t is not None and t.name in touched for t in node.inputs)
            and node.outputs[0].name in self.both.order
        ]
        return min(starts, default=len(self.both.order))

    def _mask(self, hidden: Sequence[int]) -> None:
        """Groups that no layer's refit can make up for: their channels go to zero at once."""
        pairs = {g: self.pairs[g] for g in hidden if g in self.pairs}
        plan = self._plan([g for g in hidden if g not in pairs])
        self.result.patches.update(masked_weights(self.analysis.read, self.analysis.nodes, plan))
        grams = query_key.grams(self.analysis, pairs, self.both.values)
        for g, pair in pairs.items():
            for side, matrix in query_key.turned(pair, grams[g], self.result.kept[g]):
                self.result.patches |= query_key.applied(side, matrix, self.both.read)
                name = side.layer.node.outputs[0].name
                self.turns[name] = self.turns.get(name, np.eye(len(matrix))) @ matrix
        plan = self._plan(hidden)
        self.dead = {axis: plan.dead(axis) for axis in plan.keep if axis not in plan.nominal}

    def _plan(self, groups: Sequence[int]) -> Plan:
        kept = [self.result.kept[g] for g in groups]
        return plan_of([self.result.groups[g] for g in groups], kept)

    def _refit(self, k: int) -> None:
        layer, layer_target = self.both.layers[k], self.both.layer_targets[k]
        stored = self.both.read(layer.weight.name)
        assert stored is not None
        weight = layer.matrix(stored)
        moments = Channelwise() if layer.depthwise else LayerMoments()
        clipped = self._clipped_rows(layer, layer_target, weight)
        turn = self.turns.get(layer.node.outputs[0].name)
        for rows, target, threshold in self.both.rows(k, stored.shape, turn):
            moments.add(rows, target)
            if clipped is not None:
                clipped.add(rows, target, threshold)
        if isinstance(moments, Channelwise):
            new, bias = moments.refitted(weight)
        else:
            kept = self._kept_columns(layer, moments, weight)
            new, bias = refitted(moments, weight, kept)
            if clipped is not None:
                new, bias = clipped.improved(new, bias, kept, moments.fit.statistics())
        self._store(layer, new, bias, stored)

    def _clipped_rows(
        self, layer: Layer, layer_target: LayerTarget, weight: Floats
    ) -> ClippedRows | None:
        if not layer_target.clipped or layer.depthwise or len(weight) > WIDEST:
            return None
        sign = (
            np.ones(weight.shape[1]) if layer_target.scale is None else np.sign(layer_target.scale)
        )
        return ClippedRows(sign, len(self.both.values))

    def _kept_columns(self, layer: Layer, moments: LayerMoments, weight: Floats) -> Ints:
        """Input columns of a layer that stay, after choosing for the groups that end here."""
        alive = np.ones(len(weight), bool)
        axis = layer.data.at(layer.kernel.channel)
        for g, own in enumerate(self.groups):
            at = dict(self.result.groups[g].axes()).get(axis)
            if at is None or self.result.kept[g].all():
                continue
            if g in self.open and own.layers[0] is layer:
                self._choose(g, own, moments, weight)
                at = dict(self.result.groups[g].axes())[axis]
            gone = at[~self.result.kept[g]]
            alive[layer.columns(gone, self._shape(layer)).ravel()] = False
        return np.flatnonzero(alive)

    def _shape(self, layer: Layer) -> tuple[int, ...]:
        stored = self.analysis.read(layer.weight.name)
        assert stored is not None
        return stored.shape

    def _choose(self, g: int, own: GroupReaders, moments: LayerMoments, weight: Floats) -> None:
        """Keep the channels whose removal costs least on what arrives here now."""
        width = int(self.result.kept[g].sum())
        stats = moments.fit.statistics()
        ridge = shrinkage(stats, RIDGE)
        best = refit(stats, weight, np.arange(len(weight)), ridge)
        group = own.group
        least = width if group.heads == 1 else 0
        units, _ = eliminate([Reader(stats.cov, best, own.columns[0], ridge)], least)
        mask = np.zeros(group.channels, bool)
        if group.heads > 1:
            self.result.groups[g] = reordered(group, order_of(units, group))
            mask[:width] = True
        else:
            mask[units[::-1][:width]] = True
        self.result.kept[g] = mask

    def _store(self, layer: Layer, new: Floats, bias: Floats, stored: NDArray[Any]) -> None:
        weight = layer.stored(new, stored)
        dead = self.dead.get(layer.weight.at(layer.kernel.out_axis), ())
        if len(dead):
            np.moveaxis(weight, layer.kernel.out_axis, 0)[dead] = 0
            bias[dead] = 0
        self.both.store(layer, weight, bias)
