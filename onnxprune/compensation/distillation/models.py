"""Open teacher and student, and decide which of their tensors are compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.segment import Part, Segment, open_model, open_segment
from onnxprune.compensation import query_key
from onnxprune.compensation.distillation.backward import Differentiated, Seed, differentiated
from onnxprune.compensation.distillation.losses import (
    inner_tensors,
    last_before,
    output_seeds,
    relative_error_seed,
    scores_of,
)
from onnxprune.compensation.distillation.optimizer import TunedLayer, tuned_layers
from onnxprune.compensation.distillation.schedule import TUNING, Tuning
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import skeleton
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.runtime import Device
from onnxprune.types import Axis, Ints, Plan

__all__ = ["OpenModels", "OpenTeacher", "Student", "open_models"]

Array = NDArray[Any]
Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Student:
    """The model that is tuned.

    Attributes:
        analysis: its layers have biases, its tensors the names of the teacher's.
        plan: the positions of the teacher's axes that it still has.
        masks: by name of a weight, in its shape, the numbers that may change; all where a weight
            has none.
    """

    analysis: Analysis
    plan: Plan = field(default_factory=lambda: Plan({}, {}))
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def stored(self, name: str) -> Array:
        """A stored tensor as it was before tuning."""
        content = self.analysis.read(name)
        assert content is not None
        return content


@dataclass(frozen=True)
class OpenTeacher:
    """The original, opened to give what the student is compared with.

    Attributes:
        segment: gives all compared tensors, and the outputs.
        keep: kept positions of axes that the student has less of.
        outputs: names of the outputs.
    """

    segment: Segment
    keep: Mapping[Axis, Ints]
    outputs: Sequence[str]

    def values(self, feeds: Feeds) -> dict[str, Array]:
        """What the teacher gives, at the positions that the student has."""
        values = self.segment.run(feeds)
        for axis, at in self.keep.items():
            if axis.tensor in values:
                values[axis.tensor] = np.take(values[axis.tensor], at, axis.axis)
        return values

    def output_values(self, feeds: Feeds) -> dict[str, Array]:
        """The outputs alone."""
        values = self.values(feeds)
        return {name: values[name] for name in self.outputs}


@dataclass(frozen=True)
class OpenModels:
    """Teacher and student, opened to tune the student.

    Attributes:
        student: the model that is tuned.
        bare: the student without large weights.
        teacher: gives the targets.
        layers: those that gradients reach.
        fed: names of all weights and biases that gradients were asked for; every run needs them.
        forward: the student's outputs, with `fed` given.
        backward: gradients of the loss, with `fed` and targets given.
        compared: names of the tensors that the loss compares.
        left: by name of a weight or bias of a layer why it is not tuned.
        device: what runs them, None: the processor.
    """

    student: Student
    bare: ModelProto
    teacher: OpenTeacher
    layers: Sequence[TunedLayer]
    fed: Sequence[str]
    forward: Segment
    backward: Differentiated
    compared: Collection[str]
    left: Mapping[str, str]
    device: Device | None = None


class _Compared(NamedTuple):
    """Names of compared tensors.

    Attributes:
        outputs: of the student.
        scores: by output of class probabilities, the scores that these come from.
        inside: tensors that both models have, at the same positions but for those that were cut.
        last: those of them right before the outputs.
    """

    outputs: list[str]
    scores: dict[str, str]
    inside: list[str]
    last: Collection[str]


def open_models(
    teacher: Analysis,
    student: Student,
    feeds: Feeds,
    device: Device | None = None,
    tuning: Tuning = TUNING,
) -> OpenModels | None:
    """Open both models; None where no gradient reaches a weight.

    Args:
        teacher: the original.
        student: the model that is tuned.
        feeds: of one batch, which tells types, and the variance of what is compared.
        device: what runs both, None: the processor.
        tuning: says what the loss compares how much.
    """
    analysis = student.analysis
    bare = skeleton.without_constant_nodes(analysis.model)
    teacher_bare = skeleton.without_constant_nodes(teacher.model)
    made = {name for node in bare.graph.node for name in node.output}
    layers, left = _alike(tuned_layers(analysis, student.masks), made)
    if not layers:
        return None
    both = made & {name for node in teacher_bare.graph.node for name in node.output}
    compared = _compared(teacher, student, bare, both)
    wanted = sorted({*compared.outputs, *compared.scores.values(), *compared.inside})
    segment = open_model(teacher_bare, wanted, feeds, teacher.read, device)
    open_teacher = OpenTeacher(segment, student.plan.keep, compared.outputs)
    gradients = _gradients_at(compared, open_teacher.values(feeds), tuning)
    fed = sorted({name for tuned in layers for name in tuned.names})
    backward = differentiated(analysis, fed, gradients, layers[0].weight.dtype, device)
    if backward is None:
        return None
    forward = Part(list(bare.graph.node), compared.outputs, fed, device=device)
    return OpenModels(
        student,
        bare,
        open_teacher,
        [tuned for tuned in layers if all(name in backward.gives for name in tuned.names)],
        fed,
        open_segment(bare, forward, feeds, analysis.read),
        backward,
        gradients.keys(),
        {**left, **backward.blocked},
        device,
    )


def _alike(
    layers: Iterable[TunedLayer], made: Collection[str]
) -> tuple[list[TunedLayer], dict[str, str]]:
    """Find the layers of the main graph, which makes the tensors `made`, of one type of numbers.

    Returns:
        Layers of the type that most numbers have, and by weight or bias why others are left.
    """
    inside, left, sizes = list[TunedLayer](), dict[str, str](), Counter[Any]()
    for tuned in layers:
        if tuned.layer.node.outputs[0].name in made:
            inside.append(tuned)
            sizes[tuned.weight.dtype] += tuned.weight.size
        else:
            left |= dict.fromkeys(tuned.names, "it belongs to a layer in a branch or loop")
    kind = sizes.most_common(1)[0][0] if sizes else None
    others = [tuned for tuned in inside if tuned.weight.dtype != kind]
    for tuned in others:
        left |= dict.fromkeys(tuned.names, f"most numbers are {kind}, its own {tuned.weight.dtype}")
    return [tuned for tuned in inside if tuned.weight.dtype == kind], left


def _compared(teacher: Analysis, student: Student, bare: ModelProto, both: Set[str]) -> _Compared:
    """Decide what to compare of a student; `both` are the tensors that both models compute."""
    made = {name for node in bare.graph.node for name in node.output}
    outputs = [value.name for value in bare.graph.output if value.name in made]
    scores = scores_of(student.analysis, outputs)
    other = _changed(teacher, student.plan) | {*outputs, *scores.values()}
    inner = [name for name in inner_tensors(student.analysis) if name in both - other]
    return _Compared(outputs, scores, inner, last_before(student.analysis, outputs, inner))


def _changed(teacher: Analysis, plan: Plan) -> set[str]:
    """Tensors whose positions mean something else in the student."""
    pairs = query_key.pairs_of(teacher, teacher.refittable)
    mixed = {side.result for pair in pairs.values() for side in pair.sides}
    return {axis.tensor for axis in plan.nominal} | mixed


def _gradients_at(
    compared: _Compared, values: Mapping[str, Array], tuning: Tuning
) -> dict[str, Seed]:
    """The gradient of the loss at each compared tensor, of which `values` tell the variance."""
    last = compared.last or compared.inside  # each takes its part of what falls to all of them
    rest = tuning.inside * (1 - tuning.last) / max(len(compared.inside), 1)
    more = tuning.inside * tuning.last / max(len(last), 1)
    weights = {name: rest + (more if name in last else 0.0) for name in compared.inside}
    return {
        **{name: relative_error_seed(values[name], weight) for name, weight in weights.items()},
        **output_seeds(compared.outputs, compared.scores, values, tuning.temperature),
    }
