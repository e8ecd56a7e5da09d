"""Gather samples into batches that the model takes, in memory or in a temporary file."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onnxprune.calibration.read_samples import Samples
from onnxprune.calibration.spill_file import Array, SpilledArray, SpillFile, raw_bytes
from onnxprune.errors import InputError
from onnxprune.ir import inputs
from onnxprune.ir.inputs import Feeds
from onnxprune.types import Node

__all__ = ["LIMITS", "BatchCollector", "BatchLimits", "activation_growth", "divided", "growths"]


class BatchLimits(NamedTuple):
    """How large batches become, and how many stay in memory.

    Attributes:
        samples: of a batch, where the model takes any number.
        bytes: of a batch, and of the largest activation that it leads to; one sample may take more.
        memory: bytes of batches that are kept in memory.
    """

    samples: int = 64
    bytes: int = 2**26
    memory: int = 2**28


LIMITS = BatchLimits()


class BatchCollector:
    """Batches that fill up as samples are added.

    Attributes:
        sizes: samples of each full batch.
        digest: of all full batches, in their order.
    """

    def __init__(self, fixed: int | None, limits: BatchLimits, folder: Path | None) -> None:
        """Begin without samples.

        Args:
            fixed: samples of every batch, None where the model takes any number.
            limits: how large batches become.
            folder: where batches lie that memory has no room for, None: the system's.
        """
        self.fixed, self.limits, self.folder = fixed, limits, folder
        self.sizes: list[int] = []
        self.digest = hashlib.blake2b(digest_size=32)  # twice as fast as SHA-256
        self._batches: list[dict[str, Array | SpilledArray]] = []
        self._waiting: dict[tuple[Any, ...], list[Feeds]] = {}
        self._used = 0
        self._file: SpillFile | None = None

    def add(self, samples: Samples) -> None:
        """Add samples; those whose arrays differ only along the first axis share batches.

        Raises:
            InputError: a sample holds NaN.
        """
        for name, array in samples.feeds.items():
            if array.dtype.kind == "f" and np.isnan(array).any():
                raise InputError(f"{samples.where} '{name}' holds NaN: leave such samples out")
        if not samples.stacked:
            self._keep(samples.feeds, 1)
            return
        key = tuple(
            (name, array.shape[1:] if array.ndim else array.item())
            for name, array in samples.feeds.items()
        )
        rows = [*self._waiting.pop(key, []), samples.feeds]
        step = self.fixed or _samples_per_batch(samples.feeds, self.limits)
        if sum(map(inputs.count, rows)) >= step:
            joined = _joined(rows)
            full = inputs.count(joined) // step * step
            for start in range(0, full, step):
                self._keep(inputs.rows(joined, slice(start, start + step)), step)
            left = inputs.rows(joined, slice(full, None))
            rows = [{name: array.copy() for name, array in left.items()}]
        if inputs.count(rows[0]):
            self._waiting[key] = rows

    def finish(self, name: str) -> int:
        """Keep batches that are not full, where the model takes any number of samples.

        Args:
            name: what messages call the data.

        Returns:
            How many samples were left out, which do not fill a batch of fixed size.

        Raises:
            InputError: there is no batch.
        """
        rest = [_joined(rows) for rows in self._waiting.values()]
        left = sum(map(inputs.count, rest))
        if not self.fixed:
            for feeds in rest:
                self._keep(feeds, inputs.count(feeds))
            left = 0
        if not self._batches and left:
            raise InputError(
                f"calibration {name}: the model takes {self.fixed} samples at once, but there are "
                f"{left}: give more"
            )
        if not self._batches:
            raise InputError(f"calibration {name}: holds no samples: give at least one")
        return left

    def batches(self) -> tuple[Feeds, ...]:
        """All batches; those in the file are mapped."""
        if self._file is None:
            return tuple(_in_memory(batch) for batch in self._batches)
        array_of = self._file.mapped()
        return tuple(
            {k: array_of(v) if isinstance(v, SpilledArray) else v for k, v in batch.items()}
            for batch in self._batches
        )

    def close(self) -> None:
        """Close the temporary file, whose space is freed with the last batch that it holds."""
        if self._file is not None:
            self._file.close()

    def _keep(self, feeds: Feeds, samples: int) -> None:
        self.sizes.append(samples)
        for name, array in sorted(feeds.items()):
            self.digest.update(f"{name} {array.dtype} {array.shape}".encode())
            text = array.dtype.hasobject
            self.digest.update(repr(array.tolist()).encode() if text else raw_bytes(array))
        self._batches.append({name: self._held(array) for name, array in feeds.items()})

    def _held(self, array: Array) -> Array | SpilledArray:
        """A copy of the array, in memory while it has room."""
        self._used += array.nbytes
        small = not (array.nbytes and array.ndim)
        if self._used <= self.limits.memory or array.dtype.hasobject or small:
            return np.array(array)
        if self._file is None:
            self._file = SpillFile("calibration samples", self.folder)
        return self._file.append(array)


def _in_memory(batch: dict[str, Array | SpilledArray]) -> Feeds:
    return {name: held for name, held in batch.items() if not isinstance(held, SpilledArray)}


def _samples_per_batch(feeds: Feeds, limits: BatchLimits) -> int:
    first = inputs.rows(feeds, slice(1))
    each = max(1, sum(array.nbytes for array in first.values()))
    return int(min(limits.samples, max(1, limits.bytes // each)))


def _joined(rows: Sequence[Feeds]) -> Feeds:
    """All samples of feeds that differ only along the first axis of what has axes."""
    if len(rows) == 1:
        return rows[0]
    return {
        name: np.concatenate([feeds[name] for feeds in rows]) if array.ndim else array
        for name, array in rows[0].items()
    }


def divided(
    batches: Sequence[Feeds], sizes: Sequence[int], growth: float, limit: int
) -> tuple[tuple[Feeds, ...], tuple[int, ...]]:
    """Divide batches so that no activation takes more than `limit` bytes, if one sample does not.

    Args:
        batches: feeds of each batch, whose first axes count samples.
        sizes: samples of each batch.
        growth: elements of the largest activation, in shares of those of all inputs.
        limit: bytes, four for each element.

    Returns:
        The batches, and their sizes.
    """
    parts, counts = list[Feeds](), list[int]()
    for feeds, size in zip(batches, sizes, strict=True):
        elements = sum(array.size for array in feeds.values()) / size
        step = int(min(size, max(1, limit // max(4 * growth * elements, 1))))
        for start in range(0, size, step):
            parts.append(inputs.rows(feeds, slice(start, start + step)))
            counts.append(min(step, size - start))
    return tuple(parts), tuple(counts)


def activation_growth(nodes: Sequence[Node]) -> float:
    """Elements of the largest activation on a sample input, in shares of those of all inputs."""
    return max(growths(nodes).values(), default=1.0)


def growths(nodes: Sequence[Node]) -> dict[str, float]:
    """Elements of each activation on a sample input, in shares of those of all inputs.

    There are none where the inputs have no elements.
    """
    made = {t.name: t for node in nodes for t in node.outputs if t.sample and not t.constant}
    read = {
        t.name: t.sample
        for node in nodes
        for t in node.inputs
        if t is not None and t.sample and not t.constant and t.name not in made
    }
    fed = sum(math.prod(sample) for sample in read.values())
    return {name: math.prod(t.sample or ()) / fed for name, t in made.items()} if fed else {}
