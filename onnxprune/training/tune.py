"""Fine-tune a model on labels and on a teacher. Start reading at `tune`.

Samples that no step sees judge every epoch; the weights of the best epoch are taken, and none where
all were worse than before. What gradients do not reach stays, and so do zeros that a mask keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration import batches as batching
from onnxprune.compensation.distillation.augmentation import Augmentation, natural_augmentations
from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.reach import Part
from onnxprune.ir.runtime import Device
from onnxprune.training.checkpoint import Checkpoint, Epoch
from onnxprune.training.compared import Losses, losses_of
from onnxprune.training.loop import Run, Trained, train
from onnxprune.training.moments import SCALED_ON, with_scales
from onnxprune.training.options import INSIDE, TEACHER, Training
from onnxprune.training.order import Parts, held_batches, split
from onnxprune.training.samples import Batch, SampleSet
from onnxprune.training.session import Lesson, OpenTraining, open_training

__all__ = ["Place", "Tuned", "tune"]

Array = NDArray[Any]
#: Samples that augmentations are tried on.
TRIED = 128


@dataclass(frozen=True)
class Place:
    """Where and how a run takes place.

    Attributes:
        seed: of orders and augmentations.
        device: what runs everything, None: the processor.
        checkpoint: where it is kept, None: nowhere.
        progress: called with the share done and what to tell.
        excluded: names of stored tensors that stay.
        own: by name of a tensor of the model that is a loss of the user's how much it counts.
    """

    seed: int = 0
    device: Device | None = None
    checkpoint: Checkpoint | None = None
    progress: Callable[[float, str], None] = field(default=lambda share, text: None)
    excluded: Set[str] = frozenset()
    own: Mapping[str, float] = field(default_factory=dict)


class Tuned(NamedTuple):
    """What training gave.

    Attributes:
        trained: the weights, and the history.
        losses: weight of every loss that counted, by name.
        samples: trained on, and held out.
        reached: parameters that were trained, and why others were not.
    """

    trained: Trained
    losses: Mapping[str, float]
    samples: tuple[int, int]
    reached: Part

    @property
    def history(self) -> Sequence[Epoch]:
        """What held-out samples say before, and after every epoch."""
        return self.trained.history


def tune(
    student: Analysis,
    teacher: Analysis | None,
    sets: Sequence[SampleSet],
    options: Training,
    place: Place,
) -> Tuned:
    """Train all that gradients reach.

    Args:
        student: the model.
        teacher: whose outputs it should give, None: there is none.
        sets: samples, with and without labels.
        options: how.
        place: where.

    Raises:
        InputError: no gradient reaches a weight, labels or teacher do not fit, or too few samples.
    """
    labelled = any(one.labelled for one in sets)
    losses = losses_of(options, labelled, teacher is not None)
    parts = split(sets, options.held_out, place.seed)
    if not parts.samples:
        raise InputError(
            f"all of the {parts.held_samples} samples are held out to judge by: give more"
        )
    judged = next((one for one in sets if one.labelled), sets[0])
    masks = _zeros(student)
    batches = list(judged.batches)
    lesson = Lesson(
        losses, batches, teacher, masks, place.device, place.excluded, place.own, options.qat
    )
    opened = open_training(student, lesson)
    _refuse_without_targets(opened, sets)
    most = _at_once(student, judged.batches[0], options.batch_size)
    few = _first_batches(parts, most)
    ready = with_scales(student, opened.bare, opened.parameters, few, place.device)
    opened = replace(opened, parameters=ready)
    trained = train(_run(opened, parts, few, options, place))
    counted = _counted(opened, losses, options.own_losses)
    return Tuned(trained, counted, (parts.samples, parts.held_samples), _reached(student, opened))


def _refuse_without_targets(opened: OpenTraining, sets: Sequence[SampleSet]) -> None:
    """Refuse samples of which neither labels nor a teacher say what an output should be."""
    for one in opened.objectives:
        for samples in sets if not one.teacher else ():
            if not all(one.output in batch.labels for batch in samples.batches):
                raise InputError(
                    f"samples in {samples.source} have no labels of '{one.output}', and no loss "
                    "compares it with a teacher: give a --teacher, or leave these samples out"
                )


def _run(
    opened: OpenTraining, parts: Parts, few: Sequence[Batch], options: Training, place: Place
) -> Run:
    """What the run is made of; `few` are samples that augmentations are tried on.

    Of mixed or mirrored samples nobody knows what a loss of the user's own should say.
    """
    regression = any(one.form == "numbers" and one.labels for one in opened.objectives)
    varied = options.augment and not opened.own
    most = max(batch.size for batch in few)
    return Run(
        opened,
        parts,
        list(held_batches(parts.held, most)),
        options,
        place.seed,
        most,
        _augmentations(opened, few) if varied else (),
        varied and not regression,
        place.checkpoint,
        place.progress,
    )


def _zeros(student: Analysis) -> dict[str, NDArray[np.bool_]]:
    """By name of a weight that holds zeros the numbers that move: all others.

    Weights of a layer are hardly ever zero by chance, but where something made them sparse. A
    vector, such as a bias, often begins at zero.
    """
    masks = dict[str, NDArray[np.bool_]]()
    for name, shape in student.stored.items():
        array = student.read(name) if len(shape) > 1 and name in student.parameters else None
        if array is not None and array.dtype.kind == "f":
            moves = np.asarray(array != 0)
            if not moves.all() and max(shape) < array.size:
                masks[name] = moves
    return masks


def _at_once(student: Analysis, batch: Batch, wanted: int) -> int:
    """How many samples go through the model at once, so that no activation becomes too large."""
    elements = sum(array.size for array in batch.feeds.values()) / max(batch.size, 1)
    each = 4 * batching.activation_growth(student.nodes) * elements
    return int(min(wanted, max(1, batching.LIMITS.bytes // max(each, 1))))


def _first_batches(parts: Parts, most: int) -> list[Batch]:
    """Some samples that are trained on, spread over all of them."""
    found, seen = list[Batch](), 0
    for group in parts.fit:
        step = max(1, len(group) // SCALED_ON)
        for batch in held_batches([group[::step]], most):
            found.append(batch)
            seen += batch.size
            if seen >= SCALED_ON:
                return found
    return found


def _augmentations(opened: OpenTraining, batches: Sequence[Batch]) -> tuple[Augmentation, ...]:
    """The augmentations that hardly change what the teacher gives, else what the model does.

    There are none where labels or outputs have axes of space, which would have to move along.
    """
    if any(len(opened.shapes[one.tensor]) > 2 for one in opened.objectives):
        return ()
    tried = [batch.feeds for batch in batches[: -(-TRIED // max(batches[0].size, 1))]]

    def outputs(feeds: Mapping[str, Array]) -> dict[str, Array]:
        if opened.teacher is None:
            return opened.forward.run(feeds, opened.fed)
        values = opened.teacher.values(feeds)
        names = [opened.teacher.scores.get(one.output, one.output) for one in opened.objectives]
        return {name: values[name] for name in names}

    return natural_augmentations(tried, outputs)


def _counted(opened: OpenTraining, losses: Losses, own: Mapping[str, float]) -> dict[str, float]:
    """Weight of every loss that counted, by name."""
    names = {"classes": "ce", "binary": "bce", "numbers": "mse"}
    found = {names[one.form]: one.labels for one in opened.objectives if one.labels}
    if any(one.teacher for one in opened.objectives):
        found[TEACHER] = losses.teacher
    inside = {INSIDE: losses.inside} if opened.inside else {}
    return {**found, **inside, **own}


def _reached(student: Analysis, opened: OpenTraining) -> Part:
    """Count the parameters that are trained."""
    sizes = student.parameters
    tuned = {name for parameter in opened.parameters for name in parameter.names}
    left = {name: opened.left.get(name, "it is not trained") for name in sizes if name not in tuned}
    return Part(sum(sizes.values()), sum(sizes[name] for name in tuned), left)
