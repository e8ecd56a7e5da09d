"""Decide which samples are held out, and in what order steps see the others.

Each epoch has an order of its own, which depends on the seed and the epoch's number alone, so that
a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.training.samples import Batch, SampleSet
from onnxprune.types import Ints

__all__ = ["Parts", "Unit", "held_batches", "order_of", "split", "step_batches"]

Array = NDArray[Any]


class Unit(NamedTuple):
    """What cannot be divided: a sample of a batch, or with `row` below zero a whole batch."""

    batch: Batch
    row: int

    @property
    def size(self) -> int:
        """How many samples it holds."""
        return 1 if self.row >= 0 else self.batch.size


@dataclass(frozen=True)
class Parts:
    """Samples to train on, by the shapes of their arrays, and samples that are held out."""

    fit: Sequence[Sequence[Unit]]
    held: Sequence[Sequence[Unit]]

    @property
    def samples(self) -> int:
        """How many there are to train on."""
        return _count(self.fit)

    @property
    def held_samples(self) -> int:
        """How many are held out."""
        return _count(self.held)


def _count(groups: Sequence[Sequence[Unit]]) -> int:
    return sum(unit.size for group in groups for unit in group)


def split(sets: Sequence[SampleSet], share: float, seed: int) -> Parts:
    """Hold out a share of the labelled samples, of others where none has labels.

    A sample that comes with labels and without counts once, with them. It is not held out where
    others can be: what was calibrated on it knows it already, and would seem better than it is.

    Args:
        sets: samples with and without labels.
        share: of those that judge, at least one of them.
        seed: picks them.
    """
    units = [[unit for batch in one.batches for unit in _units(batch, one.whole)] for one in sets]
    judged = next((k for k, one in enumerate(sets) if one.labelled), 0)
    others = [unit for k, own in enumerate(units) for unit in own if k != judged]
    known = {_content(unit) for unit in others}
    own = units[judged]
    contents = [_content(unit) if known else b"" for unit in own]
    free = [k for k, content in enumerate(contents) if content not in known]
    wanted = max(1, round(share * len(own)))
    if free and len(free) < 2 * wanted:
        wanted = max(1, len(free) // 2)
    free = free or list(range(len(own)))
    drawn = np.random.default_rng([seed, 0]).permutation(len(free))[:wanted]
    held = {free[k] for k in drawn.tolist()}
    twice = set(contents)
    fit = [unit for k, unit in enumerate(own) if k not in held]
    fit += [unit for unit in others if _content(unit) not in twice]
    return Parts(_alike(fit), _alike([own[k] for k in sorted(held)]))


def _content(unit: Unit) -> bytes:
    """What tells the inputs of a sample from those of others."""
    digest = hashlib.blake2b(digest_size=16)
    for name, array in sorted(unit.batch.feeds.items()):
        own = array[unit.row] if unit.row >= 0 and array.ndim else array
        digest.update(f"{name} {own.dtype} {own.shape}".encode())
        text = own.dtype.hasobject
        digest.update(repr(own.tolist()).encode() if text else np.ascontiguousarray(own).tobytes())
    return digest.digest()


def _units(batch: Batch, whole: bool) -> Iterator[Unit]:
    if whole:
        yield Unit(batch, -1)
    else:
        yield from (Unit(batch, row) for row in range(batch.size))


def _alike(units: Sequence[Unit]) -> list[list[Unit]]:
    """Units whose arrays can be joined, together."""
    found = dict[Any, list[Unit]]()
    for unit in units:
        found.setdefault(_shapes(unit), []).append(unit)
    return list(found.values())


def _shapes(unit: Unit) -> Any:
    batch = unit.batch
    shapes = [
        (name, array.shape[1:] if array.ndim else array.item())
        for name, array in sorted(batch.feeds.items())
    ]
    return tuple(shapes), tuple(sorted(batch.labels)), unit.row < 0


def order_of(split_: Parts, batch_size: int, seed: int, epoch: int) -> list[list[Unit]]:
    """The steps of an epoch: samples that are seen together, at most `batch_size` of them.

    Args:
        split_: the samples.
        batch_size: samples of a step.
        seed: of the run.
        epoch: its number.
    """
    rng = np.random.default_rng([seed, 1, epoch])
    steps = list[list[Unit]]()
    for group in split_.fit:
        each = max(1, batch_size // group[0].size)
        order = rng.permutation(len(group)).tolist()
        count = max(1, round(len(group) / each))  # parts of nearly the same size
        steps += [[group[i] for i in part] for part in np.array_split(order, count)]
    return [steps[i] for i in rng.permutation(len(steps)).tolist()]


def step_batches(units: Sequence[Unit], most: int) -> Iterator[Batch]:
    """Join the units of a step into batches of at most `most` samples."""
    if units[0].row < 0:
        yield from (unit.batch for unit in units)
        return
    for start in range(0, len(units), most):
        yield _joined(units[start : start + most])


def held_batches(groups: Sequence[Sequence[Unit]], most: int) -> Iterator[Batch]:
    """Join units of every group into batches of at most `most` samples."""
    for group in groups:
        yield from step_batches(group, most)


def _joined(units: Sequence[Unit]) -> Batch:
    """Samples of several batches as one."""
    first = units[0].batch
    rows: dict[int, tuple[Batch, list[int], list[int]]] = {}
    for k, unit in enumerate(units):
        _, at, places = rows.setdefault(id(unit.batch), (unit.batch, [], []))
        at.append(unit.row)
        places.append(k)
    parts = [(batch, np.array(at), np.array(to)) for batch, at, to in rows.values()]
    feeds = {name: _gathered(name, parts, "feeds", len(units)) for name in first.feeds}
    labels = {name: _gathered(name, parts, "labels", len(units)) for name in first.labels}
    return Batch(feeds, labels, len(units))


def _gathered(
    name: str, parts: Sequence[tuple[Batch, Ints, Ints]], where: str, count: int
) -> Array:
    """Rows of one array out of several batches; what has no axes is the same in all."""
    held: Mapping[str, Array] = getattr(parts[0][0], where)
    first = held[name]
    if not first.ndim:
        return first
    made = np.empty((count, *first.shape[1:]), first.dtype)
    for batch, at, to in parts:
        own: Mapping[str, Array] = getattr(batch, where)
        made[to] = own[name][at]
    return made
