"""The model whose values refitted layers should give."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.samples import Calibration
from onnxprune.compensation.block_successors import Successors
from onnxprune.groups.analysis import Analysis
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Axis, Plan, Read

__all__ = ["Teacher", "own_teacher"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Teacher:
    """The model whose values layers should give.

    Attributes:
        model: computes them.
        read: the content of its stored tensors.
        data: samples to compute them on.
        plan: the positions of its tensors that the model in the making still had before this cut.
        successors: what takes the place of residual blocks that go.
    """

    model: ModelProto
    read: Read
    data: Calibration
    plan: Plan
    successors: Successors = field(default_factory=Successors)

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
