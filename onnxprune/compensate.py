"""Cut to given widths while every layer behind is refitted to what the original gives there.

Walks the graph once with two models side by side, the original and the one pruned so far. At each
layer the channels to keep are chosen on what the pruned model feeds it, and its weight and bias
become the least-squares answer to the original's values (see `aims`), so that no error piles up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import graph, querykey
from onnxprune.aims import Aim, aim_of, bias_of, readers_of
from onnxprune.calibration import Calibration
from onnxprune.carry import Carrier
from onnxprune.consumers import GroupReaders, layers_of, order_of, readers_of_groups
from onnxprune.graph import ModelProto
from onnxprune.layers import Layer
from onnxprune.moments import Floats
from onnxprune.obs import Reader, eliminate, refit, shrinkage
from onnxprune.readings import reordered
from onnxprune.refitting import RIDGE, Channelwise, ClippedRows, LayerMoments, refitted
from onnxprune.rewrite import masked_weights
from onnxprune.select import plan_of
from onnxprune.sensitivity import Curve
from onnxprune.survey import Survey
from onnxprune.types import Axis, Group, Ints, Plan

__all__ = ["Compensated", "Teacher", "compensate"]

#: Rows of wider inputs than this are not kept for further rounds.
WIDEST = 2304
Masks = list[NDArray[np.bool_]]


@dataclass
class Compensated:
    """Groups as cut, which channels (n_channels,) stay, and new content of stored tensors."""

    groups: list[Group]
    kept: Masks
    patches: dict[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Teacher:
    """What layers aim at: an original, on calibration data.

    `plan` says what is left of its tensors in the model that is cut, after steps before.
    """

    model: ModelProto
    read: graph.Reader
    data: Calibration
    plan: Plan

    def value(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """A tensor as the model that is cut has it."""
        for axis in range(values.ndim):
            kept = self.plan.keep.get(Axis(name, axis))
            values = values if kept is None else np.take(values, kept, axis)
        return values

    def knows(self, names: Iterable[str], made: Collection[str], mixed: Collection[str]) -> bool:
        """Whether all tensors exist, and none that was cut lost the meaning of its positions.

        Those of `mixed` ones stand for something else after a cut.
        """
        unclear = {axis.tensor for axis in self.plan.nominal}
        unclear |= {axis.tensor for axis in self.plan.keep if axis.tensor in mixed}
        return all(name in made and name not in unclear for name in names)


def compensate(
    found: Survey,
    curves: Sequence[Curve],
    widths: Ints,
    teacher: Teacher | Calibration,
    progress: Callable[[float], None] = lambda share: None,
) -> Compensated:
    """Weights for a model whose groups keep `widths` (n_groups,) channels.

    `teacher` may be calibration data alone: then the model itself is aimed at.
    """
    if not isinstance(teacher, Teacher):
        teacher = Teacher(found.model, found.read, teacher, Plan({}, {}))
    kept = []
    for curve, width in zip(curves, widths.tolist(), strict=True):
        mask = np.zeros(curve.group.channels, bool)
        mask[curve.ranking[:width]] = True
        kept.append(mask)
    result = Compensated([curve.group for curve in curves], kept)
    _Walk(found, result, teacher).run(progress)
    return result


class _Walk:
    """Both models on their way through the graph."""

    def __init__(self, found: Survey, result: Compensated, teacher: Teacher) -> None:
        self.found, self.result = found, result
        self.nodes = readers_of(found.nodes)
        self.layers = layers_of(found)
        self.groups = readers_of_groups(found, self.layers)
        data = teacher.data
        self.pruned = Carrier(found.model, data.batches, {}, data.folder)
        self.order = self.pruned.order
        self.layers = tuple(sorted(self.layers, key=lambda layer: self._at(layer)))
        self.aims = [self._aim(layer) for layer in self.layers]
        self.ahead = Carrier(teacher.model, (), {}).order
        self.pairs = querykey.pairs_of(found, self.layers)
        mixed = {side.result for pair in self.pairs.values() for side in pair.sides}
        if not teacher.knows((aim.tensor for aim in self.aims), self.ahead, mixed):
            teacher = Teacher(found.model, found.read, data, Plan({}, {}))
            self.ahead = self.order
        self.teacher = teacher
        self.original = Carrier(teacher.model, data.batches, self._needed(), data.folder)
        crossed = set(found.cost.crossings[:2].ravel().tolist())
        self.open = {
            g
            for g, own in enumerate(self.groups)
            if own.complete and len(own.layers) == 1 and g not in crossed
        }
        self.turns: dict[str, Floats] = {}
        self.rng = np.random.default_rng(0)

    def _at(self, layer: Layer) -> int:
        return self.order[layer.node.outputs[0].name]

    def _aim(self, layer: Layer) -> Aim:
        at = self._at(layer)
        return aim_of(
            layer, self.nodes, self.found.read, lambda name: self.order.get(name, -1) < at
        )

    def _needed(self) -> dict[str, int]:
        """Until when the original's targets are kept: it runs ahead where they lie further on."""
        needed, reached = dict[str, int](), 0
        for aim in self.aims:
            reached = max(reached, self.ahead[aim.tensor] + 1)
            needed[aim.tensor] = reached
        return needed

    def read(self, name: str) -> NDArray[Any] | None:
        """Weights as they are now."""
        patch = self.result.patches.get(name)
        return self.found.read(name) if patch is None else patch

    def run(self, progress: Callable[[float], None]) -> None:
        """Refit every layer from the first that a cut group reaches."""
        cut = [not mask.all() for mask in self.result.kept]
        hidden = [g for g, own in enumerate(self.groups) if cut[g] and not own.complete]
        self._mask(hidden)
        first = self._first(cut)
        for k, (layer, aim) in enumerate(zip(self.layers, self.aims, strict=True)):
            at = self._at(layer)
            if at < first:
                continue
            self.pruned.advance(at, self.read)
            self.original.advance(self._reach(k), self.teacher.read)
            self._refit(layer, aim)
            progress((k + 1) / len(self.layers))

    def _reach(self, k: int) -> int:
        return max(self.ahead[aim.tensor] + 1 for aim in self.aims[: k + 1])

    def _first(self, cut: Sequence[bool]) -> int:
        """The first operator that a cut changes."""
        starts = [
            self._at(layer)
            for g, own in enumerate(self.groups)
            if cut[g] and own.complete
            for layer in own.layers
        ]
        touched = set(self.result.patches)
        starts += [
            self.order[node.outputs[0].name]
            for node in self.found.nodes
            if any(t is not None and t.name in touched for t in node.inputs)
            and node.outputs[0].name in self.order
        ]
        return min(starts, default=len(self.order))

    def _mask(self, hidden: Sequence[int]) -> None:
        """Groups that no layer's refit can make up for: their channels go to zero at once."""
        pairs = {g: self.pairs[g] for g in hidden if g in self.pairs}
        plan = self._plan([g for g in hidden if g not in pairs])
        self.result.patches.update(masked_weights(self.found.read, self.found.nodes, plan))
        grams = querykey.grams(self.found, pairs, self.pruned.values)
        for g, pair in pairs.items():
            for side, matrix in querykey.turned(pair, grams[g], self.result.kept[g]):
                self.result.patches |= querykey.applied(side, matrix, self.read)
                name = side.layer.node.outputs[0].name
                self.turns[name] = self.turns.get(name, np.eye(len(matrix))) @ matrix
        plan = self._plan(hidden)
        self.dead = {axis: plan.dead(axis) for axis in plan.keep if axis not in plan.nominal}

    def _plan(self, groups: Sequence[int]) -> Plan:
        kept = [self.result.kept[g] for g in groups]
        return plan_of([self.result.groups[g] for g in groups], kept)

    def _refit(self, layer: Layer, aim: Aim) -> None:
        stored = self.read(layer.weight.name)
        assert stored is not None
        weight = layer.matrix(stored)
        moments = Channelwise() if layer.depthwise else LayerMoments()
        clipped = self._clipped_rows(layer, aim, weight)
        for rows, target, threshold in self._rows(layer, aim, stored.shape):
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

    def _rows(
        self, layer: Layer, aim: Aim, shape: tuple[int, ...]
    ) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """Of every batch inputs (m, d), targets (m, o), and what gives zero behind the layer."""
        turn = self.turns.get(layer.node.outputs[0].name)
        for now, before in zip(self.pruned.values, self.original.values, strict=True):
            wanted = self.teacher.value(aim.tensor, before[aim.tensor])
            places = layer.places(wanted.shape, self.rng)
            rows = layer.inputs(now[layer.data.name], wanted.shape, places, shape)
            value = layer.outputs(wanted, places)
            other = layer.outputs(now[aim.minus], places) if aim.minus else None
            target = aim.of(value, other)
            if turn is not None:
                target = np.asarray(target @ turn, target.dtype)
            yield rows, target, aim.of(np.zeros_like(value), other)

    def _clipped_rows(self, layer: Layer, aim: Aim, weight: Floats) -> ClippedRows | None:
        if not aim.clipped or layer.depthwise or len(weight) > WIDEST:
            return None
        sign = np.ones(weight.shape[1]) if aim.scale is None else np.sign(aim.scale)
        return ClippedRows(sign, len(self.pruned.values))

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
        stored = self.found.read(layer.weight.name)
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
        name, _ = bias_of(layer, self.nodes, self.found.read)
        old = self.read(name) if name else None
        if len(dead):
            np.moveaxis(weight, layer.kernel.out_axis, 0)[dead] = 0
            bias[dead] = 0
        if old is None:  # without a bias to move the mean into the weight stays as it was
            return
        self.result.patches[layer.weight.name] = weight
        self.result.patches[name] = bias.reshape(old.shape).astype(old.dtype)
