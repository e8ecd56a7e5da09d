"""Tune the layers of a student together, step by step, to what the teacher gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.divergence import relative_error
from onnxprune.calibration.segment import open_model
from onnxprune.compensation.distillation.augmentation import (
    Augmentation,
    augmented,
    natural_augmentations,
)
from onnxprune.compensation.distillation.backward import TARGET
from onnxprune.compensation.distillation.mixup import mixup
from onnxprune.compensation.distillation.models import OpenModels
from onnxprune.compensation.distillation.optimizer import (
    Preconditioner,
    State,
    preconditioner,
    start,
    step,
)
from onnxprune.compensation.distillation.schedule import TUNING, Schedule

__all__ = ["rows_in", "step_batches", "train"]

#: Samples of the moments that scale steps, and those that augmentations are tried on.
SCALED_ON, AUGMENTATIONS_ON = 256, 128
#: With fewer steps than this each is shorter, by the root of the ratio: what a long step worsens
#: takes others to mend.
LONG = 512

Array = NDArray[Any]
Feeds = Mapping[str, Array]


class _Scales(NamedTuple):
    """What decides on the length of steps.

    Attributes:
        layers: moments of what each layer reads.
        error: mean relative error of what is compared, before the first step.
    """

    layers: list[Preconditioner]
    error: float


def rows_in(feeds: Feeds) -> int:
    """The number of samples of a batch: its longest first axis."""
    return max((len(v) if v.ndim else 1 for v in feeds.values()), default=1)


def step_batches(batches: Sequence[Feeds], size: int = TUNING.batch) -> Iterator[Feeds]:
    """Divide batches into those of one step, where all inputs have one row for each sample."""
    for feeds in batches:
        count = rows_in(feeds)
        divisible = all(v.ndim and len(v) == count for v in feeds.values())
        for at in range(0, count, size) if divisible and count > size else [0]:
            yield {k: v[at : at + size] if divisible else v for k, v in feeds.items()}


def train(
    models: OpenModels,
    batches: Sequence[Feeds],
    schedule: Schedule,
    progress: Callable[[float], None],
) -> dict[str, Array]:
    """Tune the weights and biases of the student's layers.

    Args:
        models: teacher and student.
        batches: of one step each.
        schedule: says how many rounds over them, each in an order of its own, and how far.
        progress: called with the share done.

    Returns:
        New content of stored tensors.
    """
    how = schedule.tuning
    rng = np.random.default_rng(how.seed)
    scales = _scales(models, batches, rng)
    tried = batches[: -(-AUGMENTATIONS_ON // how.batch)]
    augmentations = natural_augmentations(tried, models.teacher.output_values)
    states = [start(tuned) for tuned in models.layers]
    weights = {name: models.student.stored(name) for name in models.fed}
    steps, done = schedule.rounds * len(batches), 0
    rate = how.rate * math.sqrt(min(scales.error, 1.0) * min(steps / LONG, 1.0))
    rate /= len(models.layers)
    for _ in range(schedule.rounds):
        for k in rng.permutation(len(batches)).tolist():
            weights |= _tuned(models, states)
            feeds = _varied(batches[k], augmentations, rng, how.mixed)
            share = rate * (1 + math.cos(math.pi * done / steps)) / 2
            states = _after_step(models, states, _gradients(models, feeds, weights), scales, share)
            done += 1
            progress(done / steps)
    return _tuned(models, states)


def _scales(models: OpenModels, batches: Sequence[Feeds], rng: np.random.Generator) -> _Scales:
    """Measure moments of what every layer reads, and the error, on the first batches."""
    layers = [tuned.layer for tuned in models.layers]
    wanted = {t for layer in layers for t in (layer.data.name, layer.node.outputs[0].name)}
    outputs = sorted((wanted | set(models.compared)) - batches[0].keys())
    student = open_model(
        models.bare, outputs, batches[0], models.student.analysis.read, models.device
    )
    rows: list[list[Array]] = [[] for _ in layers]
    seen, errors = 0, list[float]()
    for feeds in batches:
        values = {**feeds, **student.run(feeds)}
        for tuned, own in zip(models.layers, rows, strict=True):
            layer, shape = tuned.layer, values[tuned.layer.node.outputs[0].name].shape
            places = layer.places(shape, rng)
            own.append(layer.inputs(values[layer.data.name], shape, places, tuned.weight.shape))
        target = models.teacher.values(feeds)
        errors += [relative_error(target[name], values[name]) for name in models.compared]
        seen += rows_in(feeds)
        if seen >= SCALED_ON:
            break
    scales = []
    for layer in layers:  # rows of one layer after the other are released
        scales.append(preconditioner(np.concatenate(rows.pop(0)), layer.depthwise))
    return _Scales(scales, float(np.mean(errors)))


def _varied(
    feeds: Feeds, augmentations: Sequence[Augmentation], rng: np.random.Generator, mixed: float
) -> dict[str, Array]:
    """A batch after augmentations, and mixed in that share of steps."""
    seen = augmented(feeds, augmentations, rng)
    return mixup(seen, rows_in(seen), rng) if rng.random() < mixed else seen


def _gradients(models: OpenModels, feeds: Feeds, weights: Feeds) -> dict[str, Array]:
    """Gradients by name of a weight or bias, on one batch."""
    targets = {TARGET + name: value for name, value in models.teacher.values(feeds).items()}
    return models.backward.run({**feeds, **targets, **weights})


def _after_step(
    models: OpenModels,
    states: Sequence[State],
    gradients: Mapping[str, Array],
    scales: _Scales,
    share: float,
) -> list[State]:
    """All layers after one step of the same share."""
    moved = []
    for tuned, state, scale in zip(models.layers, states, scales.layers, strict=True):
        weight, bias = (gradients[name] for name in tuned.names)
        moved.append(step(state, tuned.joined(weight, bias), scale, tuned.mask, share))
    return moved


def _tuned(models: OpenModels, states: Sequence[State]) -> dict[str, Array]:
    """Weights and biases of all layers, as they are stored."""
    weights: dict[str, Array] = {}
    for tuned, state in zip(models.layers, states, strict=True):
        weights |= tuned.stored(state.value)
    return weights
