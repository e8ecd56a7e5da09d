"""Run the model in the making layer by layer on calibration data, beside what a teacher gave.

At each layer the model in the making shows what really arrives there, and the teacher, which ran
before in one pass (see `target_rows`), what should come out (see `layer_targets`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration import single_pass
from onnxprune.calibration.batches import divided, growths
from onnxprune.calibration.incremental_run import IncrementalRun, operator_numbers
from onnxprune.calibration.moments import finite_rows
from onnxprune.calibration.samples import Calibration
from onnxprune.compensation.layer_targets import LayerTarget, layer_target
from onnxprune.compensation.target_rows import Look, TargetRows, positions_of
from onnxprune.compensation.teacher import Teacher, own_teacher
from onnxprune.errors import INTERNAL, one_line
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.ir import skeleton, subgraphs
from onnxprune.types import Floats, Ints

__all__ = ["LayerRows", "PairedRun", "refusal"]

Array = NDArray[Any]


class LayerRows(NamedTuple):
    """Rows of one layer on one batch.

    Attributes:
        inputs: (m, d) what the layer reads; depthwise (m, taps, channels).
        target: (m, o) what it should give.
        threshold: (m, o) what makes the compared tensor zero.
    """

    inputs: Array
    target: Array
    threshold: Array


class PairedRun:
    """The model in the making at one point of the order of operators, and the teacher's values.

    Attributes:
        layers: in that order.
        targets: of each layer.
        order: the number of the operator that makes each tensor.
        batches: how many there are.
        patches: new content of stored tensors of the model in the making.
    """

    def __init__(
        self,
        analysis: Analysis,
        teacher: Teacher,
        layers: Sequence[Layer],
        patches: Mapping[str, Array],
        mixed: Collection[str] = (),
    ) -> None:
        """Stand before the first operator.

        Args:
            analysis: the model in the making, unchanged.
            teacher: gives the values to reach. Where it does not know all of them (see
                `Teacher.knows`) the model itself takes its place.
            layers: which will be looked at.
            patches: new content of stored tensors so far.
            mixed: see `Teacher.knows`.
        """
        self.patches = dict(patches)
        self._analysis, self._readers = analysis, analysis.index.readers
        self.order = operator_numbers(skeleton.without_constant_nodes(analysis.model))
        self.layers = tuple(sorted(layers, key=self.at))
        self.targets = tuple(self._target(layer, teacher) for layer in self.layers)
        self._growth = growths(analysis.nodes)
        data = self._data = _divided(teacher.data, self.targets, self._growth)
        self._student = IncrementalRun(analysis.model, data.batches, data.place)
        self.batches = len(data.batches)
        made = operator_numbers(skeleton.without_constant_nodes(teacher.model))
        known = all(teacher.knows(target.tensor, made, mixed) for target in self.targets)
        self._successors = teacher.successors
        self._teacher = teacher if known else own_teacher(analysis, teacher.data)
        self._rows: TargetRows | None = None

    def _target(self, layer: Layer, teacher: Teacher) -> LayerTarget:
        at = self.at(layer)
        target = layer_target(
            layer, self._readers, self._analysis.read, lambda name: self.order.get(name, -1) < at
        )
        return replace(target, added=teacher.successors.added.get(target.tensor))

    def at(self, layer: Layer) -> int:
        """The number of the layer's operator."""
        return self.order[layer.node.outputs[0].name]

    def affected(self, sources: Collection[str]) -> set[str]:
        """All tensors that hang on some, which may be stored; those themselves among them."""
        found = set(sources)
        for node in self._student.bare.graph.node:
            if not found.isdisjoint(subgraphs.needs(node)):
                found.update(name for name in node.output if name)
        return found

    def changed(self, weights: Collection[str]) -> list[int]:
        """Numbers of the layers whose inputs or targets change: all others give what they gave.

        Layers in blocks that go are left out, but for the last one of each.

        Args:
            weights: of the layers that read what goes.
        """
        names = self.affected({*weights, *self.patches})
        found = []
        for k, (layer, target) in enumerate(zip(self.layers, self.targets, strict=True)):
            result = layer.node.outputs[0].name
            moves = (
                result in names or target.minus in names or target.tensor in self._successors.sums
            )
            if moves and result not in self._successors.idle:
                found.append(k)
        return found

    def read(self, name: str) -> Array | None:
        """The content of a stored tensor as it is now."""
        patch = self.patches.get(name)
        return self._analysis.read(name) if patch is None else patch

    def stored(self, layer: Layer) -> Array:
        """A layer's weight as it is now."""
        weight = self.read(layer.weight.name)
        assert weight is not None
        return weight

    def bias(self, layer: Layer) -> tuple[str, Array | None]:
        """Name and content of a layer's bias as it is now; "" and None without one."""
        name, _ = bias_of(layer, self._readers, self._analysis.read)
        return name, self.read(name) if name else None

    def look_at(self, numbers: Sequence[int]) -> None:
        """Run the teacher for layers of these numbers, before `advance` to any of them."""
        if numbers:
            looks = {k: self._look(k) for k in numbers}
            self._rows = TargetRows(self._teacher, self._data, looks, self._growth)

    def advance(self, k: int) -> None:
        """Run the model up to layer number `k`; the teacher's values for layers before it go."""
        if self._rows is not None:
            self._rows.drop_before(k)
        self._student.advance(self.at(self.layers[k]), self.read)

    def _look(self, k: int) -> Look:
        layer = self.layers[k]
        shape = _shape(layer)
        return Look(layer, self.targets[k], positions_of(layer, shape, self._data.samples))

    def rows(
        self, k: int, mixing: Floats | None = None, channels: Ints | None = None
    ) -> Iterator[LayerRows]:
        """Rows of layer number `k` on every batch, those of finite numbers.

        Args:
            k: the layer that `advance` ran to.
            mixing: (o, o) what the teacher's values are multiplied with.
            channels: of what the layer reads, which to look at; None for all.
        """
        layer, target = self.layers[k], self.targets[k]
        shape = _shape(layer)
        assert self._rows is not None
        for now, given in zip(self._student.values, self._rows.rows(k), strict=True):
            value, out, places = given
            x = now[layer.data.name]
            x = x if channels is None else np.take(x, channels, layer.kernel.channel)
            inputs = layer.inputs(x, out, places, shape)
            other = layer.outputs(now[target.minus], places) if target.minus else None
            wanted = target.rows(target.wanted(value), other)
            if mixing is not None:
                wanted = np.asarray(wanted @ mixing, wanted.dtype)
            threshold = target.rows(np.zeros_like(value), other)
            yield LayerRows(*finite_rows(inputs, wanted, threshold))

    def store(self, layer: Layer, weight: Array, bias: Floats) -> bool:
        """Change a layer's weight, as it is stored, and bias (o,); whether that was possible.

        The weight stays as it was where there is no bias, which would take the mean.
        """
        name, old = self.bias(layer)
        if old is None:
            return False
        self.patches[layer.weight.name] = weight
        self.patches[name] = bias.reshape(old.shape).astype(old.dtype)
        return True

    def silence(self, layer: Layer) -> None:
        """Let a layer give zeros."""
        weight = self.stored(layer)
        self.store(layer, np.zeros_like(weight), np.zeros(weight.shape[layer.kernel.out_axis]))


def _shape(layer: Layer) -> tuple[int, ...]:
    """Of a layer's weight, which is stored."""
    return tuple(int(size) for size in layer.weight.shape or ())


def refusal(error: Exception) -> str:
    """Why a layer keeps its weights, from what went wrong when it was refitted.

    Numbers without a solution are a property of the model and its samples. A lack of memory or disk
    is raised again, for it ends the run; all else is ours.
    """
    if isinstance(error, (MemoryError, OSError)):
        raise error
    numeric = isinstance(error, (ArithmeticError, np.linalg.LinAlgError))
    return one_line(error) if numeric else f"{INTERNAL}{one_line(error)}"


def _divided(
    data: Calibration, targets: Sequence[LayerTarget], growth: Mapping[str, float]
) -> Calibration:
    """The samples in batches on which all targets together fit into memory, where that is free."""
    if data.whole:
        return data
    together = sum(growth.get(name, 0.0) for name in {target.tensor for target in targets})
    batches, sizes = divided(data.batches, data.sizes, together, single_pass.LIMIT)
    return replace(data, batches=batches, sizes=sizes)
