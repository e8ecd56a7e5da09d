"""Open a teacher: any model with the outputs of the student, whatever is inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.segment import Segment, open_model
from onnxprune.compensation.distillation.losses import scores_of
from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import graph, skeleton
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.runtime import Device

__all__ = ["Teacher", "behind_outputs", "check_teacher", "open_teacher"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Teacher:
    """A teacher, opened.

    Attributes:
        segment: gives what is compared.
        scores: by output of probabilities the teacher's scores behind it.
        inside: tensors that the student has too.
    """

    segment: Segment
    scores: Mapping[str, str]
    inside: Sequence[str]

    def values(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """All tensors by name."""
        return self.segment.run(feeds)


def check_teacher(teacher: ModelProto, student: ModelProto) -> None:
    """Refuse a teacher that takes or gives something else.

    Raises:
        InputError: which input or output it is.
    """
    own, other = graph.interface(student), graph.interface(teacher)
    outputs = [value.name for value in student.graph.output]
    given = [value.name for value in teacher.graph.output]
    if missing := [name for name in outputs if name not in given]:
        raise InputError(
            f"the teacher has no output '{missing[0]}', it gives {', '.join(given)}: give a "
            "teacher with the outputs of the model"
        )
    for value in graph.graph_inputs(teacher):
        if value.name not in own:
            raise InputError(
                f"the teacher reads '{value.name}', which the model does not: give a teacher with "
                "the inputs of the model"
            )
    for name in outputs:
        if _kind(own[name]) != _kind(other[name]):
            raise InputError(
                f"the teacher's output '{name}' is {other[name]}, the model's {own[name]}: give a "
                "teacher with the outputs of the model"
            )


def _kind(declared: str) -> str:
    """The element type of a declared tensor; sizes are compared where they are run."""
    return declared.partition(" and shape ")[0]


def behind_outputs(analysis: Analysis, outputs: Sequence[str]) -> dict[str, str]:
    """By output what it is computed from, where that is one tensor: perhaps its scores."""
    makers = {t.name: node for node in analysis.nodes for t in node.outputs}
    found = scores_of(analysis, outputs)
    for name in outputs:
        node = makers.get(name)
        if name not in found and node is not None and len(node.inputs) == 1:
            (data,) = node.inputs
            if data is not None and not data.constant:
                found[name] = data.name
    return found


def open_teacher(
    teacher: Analysis,
    tensors: Mapping[str, Sequence[int]],
    feeds: Mapping[str, Array],
    device: Device | None,
) -> Teacher:
    """Open a teacher that gives the outputs and the tensors inside that it shares with a student.

    Args:
        teacher: the model.
        tensors: shapes of the student's tensors inside, and of its outputs.
        feeds: one batch, which tells types and shapes.
        device: what runs it, None: the processor.

    Raises:
        InputError: an output has another shape than the student's.
    """
    bare = skeleton.without_constant_nodes(teacher.model)
    made = {name for node in bare.graph.node for name in node.output}
    outputs = [value.name for value in bare.graph.output if value.name in tensors]
    scores = scores_of(teacher, outputs)
    common = [name for name in tensors if name in made]
    wanted = sorted({*common, *scores.values()})
    values = open_model(bare, wanted, feeds, teacher.read, device).run(feeds)
    for name in outputs:
        if values[name].shape != tuple(tensors[name]):
            raise InputError(
                f"the teacher's output '{name}' has shape {list(values[name].shape)}, the model's "
                f"{list(tensors[name])}: give a teacher with the outputs of the model"
            )
    inside = [
        name
        for name in common
        if name not in outputs
        and values[name].shape == tuple(tensors[name])
        and np.issubdtype(values[name].dtype, np.floating)
    ]
    kept = sorted({*outputs, *scores.values(), *inside})
    return Teacher(open_model(bare, kept, feeds, teacher.read, device), scores, inside)
