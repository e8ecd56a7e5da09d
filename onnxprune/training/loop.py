"""Train: epochs of steps, each epoch judged on held-out samples, the best weights kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.compensation.distillation.augmentation import Augmentation, augmented
from onnxprune.compensation.distillation.mixup import mixup
from onnxprune.training.checkpoint import Checkpoint, Epoch, Moment, keep, kept
from onnxprune.training.judge import judge
from onnxprune.training.options import Training
from onnxprune.training.order import Parts, Unit, order_of, step_batches
from onnxprune.training.parameters import Move, State
from onnxprune.training.samples import Batch
from onnxprune.training.session import OpenTraining
from onnxprune.types import Floats

__all__ = ["Run", "Trained", "train"]

#: Share of steps that see mixtures of samples.
MIXED = 0.5
#: Steps after which a run is kept, beside every end of an epoch.
KEPT_EVERY = 256

Array = NDArray[Any]


@dataclass(frozen=True)
class Run:
    """What a run of training is made of.

    Attributes:
        opened: the model.
        split: samples to train on.
        held: batches that judge.
        options: how long and how far.
        seed: of orders and augmentations.
        most: samples that go through the model at once.
        augmentations: those that are natural for the model.
        mixes: whether samples may be mixed.
        place: where the run is kept, None: nowhere.
        progress: called with the share done and what to tell.
    """

    opened: OpenTraining
    split: Parts
    held: Sequence[Batch]
    options: Training
    seed: int
    most: int
    augmentations: Sequence[Augmentation]
    mixes: bool
    place: Checkpoint | None
    progress: Callable[[float, str], None]


@dataclass(frozen=True)
class Trained:
    """The weights by name that are taken, and the history: before, and after every epoch.

    `best` is the number of the epoch that gave them, 0: none was better than before; `resumed` that
    of the one in which a run that was stopped went on, 0: this one was not.
    """

    weights: Mapping[str, Array]
    history: Sequence[Epoch]
    best: int
    resumed: int = 0


def train(run: Run) -> Trained:
    """Train all parameters, from where a run of the same key was stopped if it was kept."""
    parameters = run.opened.parameters
    moment = None if run.place is None else kept(run.place)
    resumed = 0 if moment is None else moment.epoch + 1
    if moment is None:
        before = judge(run.opened, run.held, {})
        moment = Moment(0, 0, [parameter.start() for parameter in parameters], (), (before,))
    while moment.epoch < run.options.epochs and not _ended(moment.history, run.options.patience):
        moment = _epoch(run, moment)
        if run.place is not None:
            keep(run.place, moment)
    taken = _taken(moment.history, run.options.epochs)
    values = moment.best
    if taken == len(moment.history) - 1:
        values = [state.value for state in moment.states]
    weights = _stored(run, values) if taken else {}
    return Trained(weights, moment.history, taken, resumed)


def _taken(history: Sequence[Epoch], epochs: int) -> int:
    """The number of the epoch whose weights are taken, 0: none.

    That is the best one, or the last of all where it is no worse by more than a standard error:
    steps have come to rest there, and what an earlier epoch is better by is chance.
    """
    best, last = _best(history), history[-1]
    limit = min(history[best].loss + history[best].error, history[0].loss)
    return epochs if len(history) == epochs + 1 and last.loss < limit else best


def _ended(history: Sequence[Epoch], patience: int | None) -> bool:
    """Whether so many epochs did not improve on the best."""
    return patience is not None and len(history) - 1 - _best(history) >= patience


def _best(history: Sequence[Epoch]) -> int:
    """The number of the epoch with the smallest loss, the first of them; 0 is before all."""
    losses = [epoch.loss if math.isfinite(epoch.loss) else math.inf for epoch in history]
    return losses.index(min(losses))


def _epoch(run: Run, moment: Moment) -> Moment:
    """Go on to the end of an epoch."""
    order = order_of(run.split, run.options.batch_size, run.seed, moment.epoch)
    states, history = moment.states, moment.history
    for step in range(moment.step, len(order)):
        if run.place is not None and step > moment.step and step % KEPT_EVERY == 0:
            keep(run.place, Moment(moment.epoch, step, states, moment.best, history))
        states = _stepped(run, states, order[step], (moment.epoch, step, len(order)))
        done = (moment.epoch + (step + 1) / len(order)) / run.options.epochs
        run.progress(done, _told(moment.epoch, history))
    history = (*history, judge(run.opened, run.held, _weights(run, states)))
    values = [state.value for state in states]
    best = values if _best(history) == len(history) - 1 else moment.best
    return Moment(moment.epoch + 1, 0, states, best, history)


def _told(epoch: int, history: Sequence[Epoch]) -> str:
    """What progress says: the epoch, loss and score so far."""
    loss, score, _ = history[-1]
    right = "" if score is None else f", score {score:.4g}"
    return f"epoch {epoch + 1}, loss {loss:.4g}{right}"


def _stepped(
    run: Run, states: Sequence[State], units: Sequence[Unit], at: tuple[int, int, int]
) -> list[State]:
    """All parameters after a step.

    Args:
        run: of training.
        states: before it.
        units: its samples.
        at: number of the epoch, of the step in it, and how many steps an epoch has.
    """
    epoch, step, steps = at
    rng = np.random.default_rng([run.seed, 2, epoch, step])
    weights = _weights(run, states)
    batches = list(step_batches(units, run.most))
    total = sum(batch.size for batch in batches)
    gradients = dict[str, Array]()
    for batch in batches:
        feeds, labels = _varied(run, batch, rng)
        found = run.opened.gradients(feeds, labels, weights)
        part = batch.size / total
        for name, gradient in found.items():
            own = gradient if part == 1 else gradient * np.asarray(part, gradient.dtype)
            gradients[name] = gradients[name] + own if name in gradients else own
    number = epoch * steps + step
    move = Move(number + 1, _share(run, number, run.options.epochs * steps))
    pairs = zip(run.opened.parameters, states, strict=True)
    if not all(np.isfinite(gradient).all() for gradient in gradients.values()):
        return list(states)  # a batch that overflows moves nothing
    return [parameter.stepped(state, gradients, move) for parameter, state in pairs]


def _share(run: Run, number: int, steps: int) -> float:
    """How far a step goes: linear warm-up, then a cosine (Loshchilov and Hutter, SGDR, 2017)."""
    warm = run.options.warmup * steps
    rate = run.options.rate / len(run.opened.parameters)
    if number < warm:
        return rate * (number + 1) / (warm + 1)
    return rate * (1 + math.cos(math.pi * (number - warm) / max(steps - warm, 1))) / 2


def _varied(
    run: Run, batch: Batch, rng: np.random.Generator
) -> tuple[Mapping[str, Array], Mapping[str, Floats]]:
    """A batch after augmentations, and in some steps mixed, its labels with it."""
    labels = run.opened.labelled(batch)
    feeds = augmented(batch.feeds, run.augmentations, rng)
    if not run.mixes or rng.random() >= MIXED:
        return feeds, labels
    named = {f"labels/{name}": target for name, target in labels.items()}
    mixed = mixup({**feeds, **named}, batch.size, rng)
    return (
        {name: mixed[name] for name in feeds},
        {name: mixed[f"labels/{name}"] for name in labels},
    )


def _weights(run: Run, states: Sequence[State]) -> dict[str, Array]:
    """Content of all trained tensors, as it is stored."""
    found = dict[str, Array]()
    for parameter, state in zip(run.opened.parameters, states, strict=True):
        found |= parameter.stored(state)
    return found


def _stored(run: Run, values: Sequence[Floats]) -> dict[str, Array]:
    """The same from values alone."""
    nothing = np.zeros(0)
    return _weights(run, [State(value, nothing, nothing) for value in values])
