"""Run a teacher and the model in the making side by side, layer by layer, on calibration data.

At each layer the model in the making shows what really arrives there, and the teacher what should
come out (see `layer_targets`). The teacher is ahead where a layer's result is next added further
on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.incremental_run import IncrementalRun
from onnxprune.calibration.moments import finite_rows
from onnxprune.calibration.samples import Calibration
from onnxprune.compensation.layer_targets import LayerTarget, layer_target
from onnxprune.errors import INTERNAL, one_line
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Axis, Floats, Plan, Read

__all__ = ["LayerRows", "PairedRun", "Teacher", "own_teacher", "refusal"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Teacher:
    """The model whose values layers should give.

    Attributes:
        model: computes them.
        read: the content of its stored tensors.
        data: samples to compute them on.
        plan: the positions of its tensors that the model in the making still had before this cut.
    """

    model: ModelProto
    read: Read
    data: Calibration
    plan: Plan

    def value(self, name: str, values: Array) -> Array:
        """A tensor's values, at the positions that the model in the making has."""
        for axis in range(values.ndim):
            kept = self.plan.keep.get(Axis(name, axis))
            values = values if kept is None else np.take(values, kept, axis)
        return values

    def knows(self, name: str, made: Collection[str], mixed: Collection[str]) -> bool:
        """Whether a tensor's positions mean the same in the model in the making.

        Args:
            name: of the tensor.
            made: tensors that the teacher computes.
            mixed: tensors whose positions stand for something else once they are cut.
        """
        unclear = {axis.tensor for axis in self.plan.nominal}
        unclear |= {axis.tensor for axis in self.plan.keep if axis.tensor in mixed}
        return name in made and name not in unclear


def own_teacher(analysis: Analysis, data: Calibration) -> Teacher:
    """The model itself, before it is changed, as its own teacher."""
    return Teacher(analysis.model, analysis.read, data, Plan({}, {}))


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
    """Both models at one point of the order that operators run in, for every batch.

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
        data = teacher.data
        self._student = IncrementalRun(analysis.model, data.batches, {}, data.place)
        self.order, self.batches = self._student.order, len(self._student.values)
        self.layers = tuple(sorted(layers, key=self.at))
        self.targets = tuple(self._target(layer) for layer in self.layers)
        made = IncrementalRun(teacher.model, (), {}).order
        if all(teacher.knows(target.tensor, made, mixed) for target in self.targets):
            self._teacher = teacher
        else:
            self._teacher, made = own_teacher(analysis, data), self.order
        self._reach, needed = _reach(self.targets, made)
        self._ahead = IncrementalRun(self._teacher.model, data.batches, needed, data.place)
        self._rng = np.random.default_rng(0)

    def _target(self, layer: Layer) -> LayerTarget:
        at = self.at(layer)
        return layer_target(
            layer, self._readers, self._analysis.read, lambda name: self.order.get(name, -1) < at
        )

    def at(self, layer: Layer) -> int:
        """The number of the layer's operator."""
        return self.order[layer.node.outputs[0].name]

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

    def advance(self, k: int) -> None:
        """Run both models up to layer number `k`, the teacher up to its target."""
        self._student.advance(self.at(self.layers[k]), self.read)
        self._ahead.advance(self._reach[k], self._teacher.read)

    def rows(self, k: int, mixing: Floats | None = None) -> Iterator[LayerRows]:
        """Rows of layer number `k` on every batch, those of finite numbers.

        Args:
            k: the layer that `advance` ran to.
            mixing: (o, o) what the teacher's values are multiplied with.
        """
        layer, target = self.layers[k], self.targets[k]
        shape = self._analysis.stored[layer.weight.name]
        for now, ahead in zip(self._student.values, self._ahead.values, strict=True):
            values = self._teacher.value(target.tensor, ahead[target.tensor])
            places = layer.places(values.shape, self._rng)
            inputs = layer.inputs(now[layer.data.name], values.shape, places, shape)
            value = layer.outputs(values, places)
            other = layer.outputs(now[target.minus], places) if target.minus else None
            wanted = target.rows(value, other)
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


def refusal(error: Exception) -> str:
    """Why a layer keeps its weights, from what went wrong when it was refitted.

    Numbers without a solution are a property of the model and its samples. A lack of memory or disk
    is raised again, for it ends the run; all else is ours.
    """
    if isinstance(error, (MemoryError, OSError)):
        raise error
    numeric = isinstance(error, (ArithmeticError, np.linalg.LinAlgError))
    return one_line(error) if numeric else f"{INTERNAL}{one_line(error)}"


def _reach(
    targets: Sequence[LayerTarget], made: Mapping[str, int]
) -> tuple[list[int], dict[str, int]]:
    """How far the teacher must run for each target, and until where it must keep the tensors."""
    reach, needed = list[int](), dict[str, int]()
    for target in targets:
        reach.append(max([made[target.tensor] + 1, *reach[-1:]]))
        needed[target.tensor] = reach[-1]
    return reach, needed
