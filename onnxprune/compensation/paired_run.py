"""The original and what is made of it, side by side on their way through the graph.

At each layer the model in the making says what really arrives there, and the original what should
come out (see `layer_targets`). It runs ahead where a layer's result is next added further on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.incremental_run import IncrementalRun
from onnxprune.calibration.samples import Calibration
from onnxprune.compensation.layer_targets import LayerTarget, layer_target
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Axis, Floats, Plan, Read

__all__ = ["PairedRun", "Teacher"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Teacher:
    """What layers aim at: an original, on calibration data.

    `plan` says what is left of its tensors in the model that is cut, after steps before.
    """

    model: ModelProto
    read: Read
    data: Calibration
    plan: Plan

    def value(self, name: str, values: Array) -> Array:
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


class PairedRun:
    """Both models at one point of the order that operators run in, for every batch.

    Attributes:
        layers: in that order.
        order: the number of the operator that makes each tensor.
        values: of the model in the making, for every batch what is still needed.
        patches: new content of stored tensors.
    """

    def __init__(
        self,
        analysis: Analysis,
        teacher: Teacher | Calibration,
        layers: Sequence[Layer],
        patches: dict[str, Array],
        mixed: Collection[str] = (),
    ) -> None:
        """`teacher` may be calibration data alone, where the model itself is aimed at.

        So it is where the teacher does not know what to aim at; `mixed`: see `Teacher.knows`.
        """
        self.analysis, self.patches = analysis, patches
        self.nodes = analysis.index.readers
        data = teacher.data if isinstance(teacher, Teacher) else teacher
        self._now = IncrementalRun(analysis.model, data.batches, {}, data.folder)
        self.order, self.values = self._now.order, self._now.values
        self.layers = tuple(sorted(layers, key=self.at))
        self.layer_targets = [self._aim(layer) for layer in self.layers]
        own = Teacher(analysis.model, analysis.read, data, Plan({}, {}))
        self.teacher = teacher if isinstance(teacher, Teacher) else own
        ahead = IncrementalRun(self.teacher.model, (), {}).order
        if not self.teacher.knows((aim.tensor for aim in self.layer_targets), ahead, mixed):
            self.teacher, ahead = own, self.order
        self._reach, needed = list[int](), dict[str, int]()
        for aim in self.layer_targets:
            self._reach.append(max([ahead[aim.tensor] + 1, *self._reach[-1:]]))
            needed[aim.tensor] = self._reach[-1]
        self._before = IncrementalRun(self.teacher.model, data.batches, needed, data.folder)
        self._rng = np.random.default_rng(0)

    def at(self, layer: Layer) -> int:
        """The number of the layer's operator."""
        return self.order[layer.node.outputs[0].name]

    def _aim(self, layer: Layer) -> LayerTarget:
        at = self.at(layer)
        return layer_target(
            layer, self.nodes, self.analysis.read, lambda name: self.order.get(name, -1) < at
        )

    def read(self, name: str) -> Array | None:
        """Weights as they are now."""
        patch = self.patches.get(name)
        return self.analysis.read(name) if patch is None else patch

    def advance(self, k: int) -> None:
        """Run both models up to layer number `k`."""
        self._now.advance(self.at(self.layers[k]), self.read)
        self._before.advance(self._reach[k], self.teacher.read)

    def rows(
        self, k: int, shape: tuple[int, ...], turn: Floats | None = None
    ) -> Iterator[tuple[Array, Array, Array]]:
        """Of every batch inputs (m, d), targets (m, o), and what gives zero behind layer `k`.

        `shape` is that of the layer's weight; `turn` (o, o) mixes what the original gives.
        """
        layer, aim = self.layers[k], self.layer_targets[k]
        for now, before in zip(self.values, self._before.values, strict=True):
            wanted = self.teacher.value(aim.tensor, before[aim.tensor])
            places = layer.places(wanted.shape, self._rng)
            rows = layer.inputs(now[layer.data.name], wanted.shape, places, shape)
            value = layer.outputs(wanted, places)
            other = layer.outputs(now[aim.minus], places) if aim.minus else None
            target = aim.of(value, other)
            if turn is not None:
                target = np.asarray(target @ turn, target.dtype)
            yield rows, target, aim.of(np.zeros_like(value), other)

    def bias(self, layer: Layer) -> tuple[str, Array | None]:
        """Name and content of a layer's bias as it is now; None without one."""
        name, _ = bias_of(layer, self.nodes, self.analysis.read)
        return name, self.read(name) if name else None

    def store(self, layer: Layer, weight: Array, bias: Floats) -> None:
        """Take a weight, as it is stored, and its bias (o,).

        Without a bias to move the mean into the weight stays as it was.
        """
        name, old = self.bias(layer)
        if old is not None:
            self.patches[layer.weight.name] = weight
            self.patches[name] = bias.reshape(old.shape).astype(old.dtype)
