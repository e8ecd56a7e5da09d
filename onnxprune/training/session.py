"""Open a model for training: forward, backward, the teacher, and what they are compared in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.segment import Part, Segment, open_model, open_segment
from onnxprune.compensation.distillation.backward import (
    TARGET,
    Differentiated,
    Seed,
    differentiated,
)
from onnxprune.compensation.distillation.losses import (
    inner_tensors,
    relative_error_seed,
    scores_of,
)
from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import skeleton
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.runtime import Device
from onnxprune.ops.builder import Builder
from onnxprune.training.compared import Losses, Seen, objectives_for
from onnxprune.training.labels import label_target
from onnxprune.training.objectives import Objective, seed_of, shares, target_of
from onnxprune.training.parameters import Parameter, found_parameters
from onnxprune.training.rounding import rounded, rounded_axes
from onnxprune.training.samples import Batch
from onnxprune.training.teacher import Teacher, behind_outputs, open_teacher
from onnxprune.types import Floats

__all__ = ["Judged", "Lesson", "OpenTraining", "open_training"]

Array = NDArray[Any]


class Lesson(NamedTuple):
    """What a model is to learn.

    Attributes:
        losses: how much each counts.
        batches: labelled ones, or others where none has labels. The first tell types and shapes.
        teacher: the model whose outputs it should give, None: there is none.
        masks: by name of a stored tensor, in its shape, the numbers that may move.
        device: what runs everything, None: the processor.
        excluded: names of stored tensors that stay.
        own: by name of a tensor that is a loss of the user's how much it counts.
        qat: what has a scale of its own where weights are rounded, None: they are not.
    """

    losses: Losses
    batches: Sequence[Batch]
    teacher: Analysis | None
    masks: Mapping[str, NDArray[np.bool_]]
    device: Device | None
    excluded: Set[str] = frozenset()
    own: Mapping[str, float] = MappingProxyType({})
    qat: str | None = None


class Judged(NamedTuple):
    """By output what it gives on a batch, and what labels and teacher say; losses of the user's."""

    given: Mapping[str, Floats]
    labels: Mapping[str, Floats]
    teacher: Mapping[str, Floats]
    own: float = 0.0


@dataclass(frozen=True)
class OpenTraining:
    """A model that is trained, opened.

    Attributes:
        bare: the model without large weights.
        objectives: how outputs are compared.
        inside: names of tensors inside that are compared with the teacher's.
        parameters: what gradients reach.
        fed: all weights that every run needs, as they were before the first step.
        forward: gives the compared tensors, with `fed` given.
        backward: gives gradients, with `fed` and targets given.
        teacher: gives what the student should, None: there is none.
        shapes: of the compared tensors on the first batch.
        left: by name of a stored tensor why it is not trained.
        own: by name of a tensor that is a loss of the user's how much it counts.
        rounding: by name of a weight that is rounded the axis of its scales, see `rounded_axes`.
    """

    bare: ModelProto
    objectives: Sequence[Objective]
    inside: Sequence[str]
    parameters: Sequence[Parameter]
    fed: Mapping[str, Array]
    forward: Segment
    backward: Differentiated
    teacher: Teacher | None
    shapes: Mapping[str, tuple[int, ...]]
    left: Mapping[str, str]
    own: Mapping[str, float]
    rounding: Mapping[str, int | None]

    def _fed(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """All weights that a run needs, as it sees them."""
        return rounded({**self.fed, **weights}, self.rounding)

    @property
    def teaches_all(self) -> bool:
        """Whether a teacher speaks about every output that is compared."""
        return self.teacher is not None and all(one.teacher for one in self.objectives)

    def judged(self, batch: Batch, weights: Mapping[str, Array]) -> Judged:
        """What outputs give with new weights, and what they should."""
        values = self.forward.run(batch.feeds, self._fed(weights))
        given = {one.output: shares(one, values[one.tensor]) for one in self.objectives}
        taught = {} if self.teacher is None else self.teacher.values(batch.feeds)
        own = sum(weight * float(values[name].mean()) for name, weight in self.own.items())
        return Judged(given, self.labelled(batch), self._taught(taught), own)

    def labelled(self, batch: Batch) -> dict[str, Floats]:
        """Labels of a batch as targets, by output; none where there are none."""
        return {
            one.output: label_target(one, batch.labels[one.output], self.shapes[one.tensor])
            for one in self.objectives
            if one.labels and one.output in batch.labels
        }

    def _taught(self, values: Mapping[str, Array]) -> dict[str, Floats]:
        """A teacher's outputs as targets."""
        found = dict[str, Floats]()
        for one in self.objectives:
            if self.teacher is None or not one.teacher:
                continue
            scores = self.teacher.scores.get(one.output) if one.form == "classes" else None
            if scores is not None:
                found[one.output] = shares(replace(one, scores=True), values[scores])
            else:
                plain = one.tensor == one.output and one.scores
                found[one.output] = shares(replace(one, scores=plain), values[one.output])
        return found

    def gradients(
        self, feeds: Mapping[str, Array], labels: Mapping[str, Floats], weights: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Gradients of the loss by name of a weight.

        Args:
            feeds: of a batch.
            labels: targets by output.
            weights: new content of stored tensors.
        """
        taught = {} if self.teacher is None else self.teacher.values(feeds)
        outputs, kind = self._taught(taught), next(iter(self.fed.values())).dtype
        targets = {TARGET + name: taught[name] for name in self.inside}
        for one in self.objectives:
            own = target_of(one, labels.get(one.output), outputs.get(one.output))
            targets[TARGET + one.tensor] = own.astype(kind)
        return self.backward.run({**feeds, **targets, **self._fed(weights)})


def open_training(analysis: Analysis, lesson: Lesson) -> OpenTraining:
    """Open a model for training.

    Raises:
        InputError: no gradient reaches a weight, or labels or teacher do not fit.
    """
    bare = skeleton.without_constant_nodes(analysis.model)
    batches, device = lesson.batches, lesson.device
    values, seen = _seen(analysis, bare, lesson)
    objectives = objectives_for(seen, lesson.losses, batches)
    teacher = _taught_by(analysis, lesson, seen, values)
    own = {one.tensor for one in objectives}
    inside = [name for name in (teacher.inside if teacher else ()) if name not in own]
    parameters, left = found_parameters(analysis, lesson.masks, lesson.excluded)
    fed = _of_main_kind(analysis, parameters)
    kind = next(iter(fed.values())).dtype
    seeds = _seeds(objectives, inside, lesson, values)
    backward = differentiated(analysis, fed, seeds, kind, device)
    if backward is None:
        raise InputError(
            "no gradient reaches a weight of this model, so it cannot be fine-tuned: export it "
            "with operators that have a gradient (docs/operators.md), or train it where it was made"
        )
    reached = [p for p in parameters if all(name in backward.gives for name in p.names)]
    tensors = [*(one.tensor for one in objectives), *lesson.own]
    part = Part(list(bare.graph.node), tensors, fed, device=device)
    return OpenTraining(
        bare,
        objectives,
        inside,
        reached,
        fed,
        open_segment(bare, part, batches[0].feeds, analysis.read),
        backward,
        teacher,
        {name: value.shape for name, value in values.items()},
        {**left, **_not_reached(parameters, reached, backward)},
        lesson.own,
        rounded_axes(reached, lesson.qat),
    )


def _taught_by(
    analysis: Analysis, lesson: Lesson, seen: Seen, values: Mapping[str, Array]
) -> Teacher | None:
    """The teacher, where a loss asks for it."""
    losses = lesson.losses
    if lesson.teacher is None or not (losses.teacher or losses.inside):
        return None
    compared = {*seen.outputs, *(inner_tensors(analysis) if losses.inside else ())}
    sizes = {name: value.shape for name, value in values.items() if name in compared}
    return open_teacher(lesson.teacher, sizes, lesson.batches[0].feeds, lesson.device)


def _seeds(
    objectives: Sequence[Objective],
    inside: Sequence[str],
    lesson: Lesson,
    values: Mapping[str, Array],
) -> dict[str, Seed]:
    """The gradient of the loss at every tensor that is compared."""
    seeds = {one.tensor: seed_of(one, values[one.tensor].shape) for one in objectives}
    each = lesson.losses.inside / max(len(inside), 1)
    seeds |= {name: relative_error_seed(values[name], each) for name in inside}
    return seeds | {name: _constant_seed(weight) for name, weight in lesson.own.items()}


def _constant_seed(weight: float) -> Seed:
    """The gradient of a loss that is there already, of the shape that it has."""

    def seed(t: Builder, y: str, target: str) -> str:
        return t.plus(t.scaled(y, 0.0), weight)

    return seed


def _seen(analysis: Analysis, bare: ModelProto, lesson: Lesson) -> tuple[dict[str, Array], Seen]:
    """What the model gives on the first batch: outputs, what is behind them, tensors inside."""
    made = {name for node in bare.graph.node for name in node.output}
    outputs = [v.name for v in bare.graph.output if v.name in made and v.name not in lesson.own]
    behind = behind_outputs(analysis, outputs)
    inner = inner_tensors(analysis) if lesson.losses.inside else []
    wanted = sorted({*outputs, *behind.values(), *inner, *lesson.own} & made)
    batch = lesson.batches[0]
    segment = open_model(bare, wanted, batch.feeds, analysis.read, lesson.device)
    values = {
        name: value
        for name, value in segment.run(batch.feeds).items()
        if np.issubdtype(value.dtype, np.floating)
    }
    for name in lesson.own:
        if name not in values or values[name].size != 1:
            shape = list(values[name].shape) if name in values else "no numbers"
            raise InputError(f"a loss of your own gives {shape}: return one number, its mean")
    floating = [name for name in outputs if name in values]
    return values, Seen(batch, values, floating, behind, scores_of(analysis, outputs).keys())


def _of_main_kind(analysis: Analysis, parameters: Sequence[Parameter]) -> dict[str, Array]:
    """Content of the parameters, of the type that most numbers have."""
    names = {name for parameter in parameters for name in parameter.names}
    arrays = {name: v for name in sorted(names) if (v := analysis.read(name)) is not None}
    sizes = dict[np.dtype[Any], int]()
    for array in arrays.values():
        sizes[array.dtype] = sizes.get(array.dtype, 0) + array.size
    if not sizes:
        raise InputError(
            "the model holds no weight of floating point that could be fine-tuned: exclude less "
            "(--exclude), or give the model before it was quantised"
        )
    kind = max(sizes, key=lambda one: sizes[one])
    return {name: array for name, array in arrays.items() if array.dtype == kind}


def _not_reached(
    parameters: Sequence[Parameter], reached: Sequence[Parameter], backward: Differentiated
) -> dict[str, str]:
    """By name of a tensor that no gradient reaches, why."""
    done = {name for parameter in reached for name in parameter.names}
    names = [name for parameter in parameters for name in parameter.names if name not in done]
    other = "its layer's weight or bias gets no gradient, or its type is another than most have"
    return {name: backward.blocked.get(name, other) for name in names}
