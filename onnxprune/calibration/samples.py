"""Calibration data: feeds in batches that the model takes, readable several times.

At most so many samples are used, spread evenly over arrays and files; of a stream the first ones.
Batches are kept in memory up to `MEMORY` bytes and in a temporary file beyond, so that memory does
not grow with the number of samples.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count as count_from
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.calibration.activation_store import content
from onnxprune.calibration.sources import PIECE, Part, Parts, part_of, parts_of
from onnxprune.errors import InputError
from onnxprune.ir import graph, shape_inference
from onnxprune.ir import inputs as feeding
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.inputs import Feeds
from onnxprune.settings import CalibrationSettings, InputSettings
from onnxprune.types import Ints, Node

__all__ = ["Calibration", "apart", "calibration", "is_random"]

#: The word that asks for random inputs.
RANDOM = "random"
#: Samples of a batch where the model takes any number, unless they take more bytes than `BYTES`.
BATCH, BYTES = 64, 2**26
#: Bytes of batches that stay in memory.
MEMORY = 2**28


@dataclass(frozen=True)
class Calibration:
    """Samples in batches; `source` is what reports call them, `digest` tells them from others.

    `sizes` are the samples of each batch; `whole`: they cannot be given to the model in fewer.
    `folder` is where files lie that hold what memory does not.
    """

    batches: tuple[Feeds, ...]
    sizes: tuple[int, ...]
    digest: str
    source: str
    notes: tuple[str, ...] = ()
    whole: bool = False
    folder: Path | None = None

    @property
    def samples(self) -> int:
        """How many there are in all."""
        return sum(self.sizes)


def is_random(source: Any) -> bool:
    """Whether a source is the word that asks for random inputs."""
    return isinstance(source, str) and source == RANDOM


def apart(data: Calibration, each: int) -> tuple[Calibration, Calibration]:
    """All samples but about one in `each`, and those; without any where there are too few.

    They are the last of every so many batches, or of every batch that holds as many.
    """
    rest, held = list[tuple[Feeds, int]](), list[tuple[Feeds, int]]()
    waiting = 0
    for feeds, size in zip(data.batches, data.sizes, strict=True):
        waiting += size
        count = size if data.whole or size == 1 else waiting // each
        if waiting < each or count == 0:
            rest.append((feeds, size))
            continue
        waiting -= each * (waiting // each)
        held.append(({k: v[size - count :] for k, v in feeds.items()}, count))
        if count < size:
            rest.append(({k: v[: size - count] for k, v in feeds.items()}, size - count))

    def made(parts: Sequence[tuple[Feeds, int]]) -> Calibration:
        batches, sizes = tuple(feeds for feeds, _ in parts), tuple(size for _, size in parts)
        return replace(data, batches=batches, sizes=sizes)

    return (made(rest), made(held)) if rest else (data, made([]))


class _Axes(NamedTuple):
    """What the first axes of the inputs are.

    `stacks`: they count samples; `fixed` of them at once, None for any number. `several`: they have
    names that differ, so that they need not count the same.
    """

    stacks: bool
    fixed: int | None
    several: bool


def calibration(
    source: Any,
    model: ModelProto,
    settings: CalibrationSettings | None = None,
    nodes: Sequence[Node] = (),
) -> Calibration:
    """Batches of a source: a path, `file.py:function`, `random`, arrays, a reader or an iterable.

    A reader is an object with `get_next()`, such as onnxruntime's CalibrationDataReader; what an
    iterable gives are dicts of arrays by input name, or arrays where there is one input. `nodes`
    tell what integers `random` may feed, and what a sample takes inside the model: batches are so
    small that no activation exceeds `BYTES`, if the model lets them. A Calibration is divided anew.

    Raises:
        InputError: the source cannot be read, or does not fit the model's inputs.
    """
    if isinstance(source, Calibration):
        return _divided(source, nodes)
    options = settings or CalibrationSettings()
    axes, limit = _axes(model), options.calib_samples
    notes = []
    if is_random(source):
        name = "random inputs"
        notes.append("calibrated on random inputs, which say little about real ones")
        parts: Parts = _random(model, options, nodes, axes.stacks)
    else:
        parts, name = parts_of(source, model)
    with closing(_Gathered(axes, options.folder)) as gathered:
        for where, feeds, stacked in _feeds(parts, model, axes, limit):
            gathered.add(where, feeds, stacked)
        left_out = gathered.finish(name)
    if left_out:
        notes.append(
            f"{left_out} calibration samples were left out: the model takes {axes.fixed} at once"
        )
    digest = gathered.digest.hexdigest()
    found = Calibration(
        tuple(gathered.batches),
        tuple(gathered.sizes),
        digest,
        name,
        tuple(notes),
        not axes.stacks or axes.fixed is not None,
        options.folder,
    )
    return _divided(found, nodes)


def _divided(data: Calibration, nodes: Sequence[Node]) -> Calibration:
    """Batches so small that no activation takes more than `BYTES`."""
    growth = _growth(nodes)
    if data.whole or not nodes:
        return data
    batches, sizes = list[Feeds](), list[int]()
    for feeds, size in zip(data.batches, data.sizes, strict=True):
        elements = sum(array.size for array in feeds.values()) / size
        step = int(min(size, max(1, BYTES // (4 * growth * max(elements, 1)))))
        for start in range(0, size, step):
            batches.append({k: v[start : start + step] for k, v in feeds.items()})
            sizes.append(min(step, size - start))
    return replace(data, batches=tuple(batches), sizes=tuple(sizes))


def _growth(nodes: Sequence[Node]) -> float:
    """How many times the elements of all inputs the largest activation has, on a sample input."""
    made = {t.name: t for node in nodes for t in node.outputs if t.sample and not t.constant}
    inputs = {
        t.name: t.sample
        for node in nodes
        for t in node.inputs
        if t is not None and t.sample and not t.constant and t.name not in made
    }
    given = sum(math.prod(sample) for sample in inputs.values())
    largest = max((math.prod(t.sample or ()) for t in made.values()), default=0)
    return largest / given if given else 1.0


def _axes(model: ModelProto) -> _Axes:
    inputs = graph.graph_inputs(model)
    sizes = [feeding.fixed_sizes(value) for value in inputs]
    fixed = {size[0] for size in sizes if size and size[0] is not None}
    dims = [value.type.tensor_type.shape.dim for value in inputs]
    names = {own[0].dim_param for own in dims if len(own)}
    stacks = bool(inputs) and all(sizes) and len(fixed) <= 1
    return _Axes(stacks, next(iter(fixed), None), len(names - {""}) > 1)


def _feeds(
    parts: Parts, model: ModelProto, axes: _Axes, limit: int
) -> Iterator[tuple[str, Feeds, bool]]:
    """At most `limit` samples: where they are from, and whether their first axis counts them."""
    if isinstance(parts, Sequence):
        counts = [_count(part, model, axes) for part in parts]
        total = sum(count or 1 for count in counts)
        used = min(limit, total)
        chosen = np.arange(used) * total // max(used, 1)
        start = 0
        for part, count in zip(parts, counts, strict=True):
            inside = (chosen >= start) & (chosen < start + (count or 1))
            yield from _read(part, count, chosen[inside] - start)
            start += count or 1
        return
    for part in parts:
        count = _count(part, model, axes)
        rows = np.arange(min(count or 1, limit))
        yield from _read(part, count, rows)
        limit -= len(rows)
        if not limit:
            return


def _read(part: Part, count: int | None, rows: Ints) -> Iterator[tuple[str, Feeds, bool]]:
    if count is None and len(rows):
        yield part.where, part.run(), False
    elif len(rows):
        yield from ((part.where, feeds, True) for feeds in part.pieces(rows))


def _count(part: Part, model: ModelProto, axes: _Axes) -> int | None:
    """Samples of a part whose arrays fit the model; None where it is the input of one run."""
    lengths = {name: array.shape[0] for name, array in part.arrays.items() if array.shape}
    differ = len(set(lengths.values())) > 1
    if not axes.stacks or (differ and axes.several):
        feeding.check(part.arrays, model, part.where, samples=False)
        return None
    feeding.check(part.arrays, model, part.where)
    if differ or 0 in lengths.values():
        raise InputError(f"{part.where} arrays differ in length, or are empty: {lengths}")
    return next(iter(lengths.values()))


def _random(
    model: ModelProto, options: InputSettings, nodes: Sequence[Node], stacks: bool
) -> Iterator[Part]:
    """Seeded inputs without end."""
    sample: Mapping[str, tuple[int, ...]] = shape_inference.sample_shapes(
        model, options.input_shapes
    )
    if stacks:
        sample = {name: (PIECE, *shape[1:]) for name, shape in sample.items()}
    names, bounds = list(sample), ops.index_bounds(nodes)
    for number in count_from(options.seed):
        yield part_of(feeding.seeded(model, bounds, sample, number), names, "random inputs")


class _Gathered:
    """Batches as they fill up."""

    def __init__(self, axes: _Axes, folder: Path | None) -> None:
        self.fixed, self.folder = axes.fixed if axes.stacks else None, folder
        self.batches: list[Feeds] = []
        self.sizes: list[int] = []
        self.digest = hashlib.blake2b(digest_size=32)  # twice as fast as SHA-256
        self.waiting: dict[tuple[Any, ...], list[Feeds]] = {}
        self.used = 0
        self.file: IO[bytes] | None = None

    def add(self, where: str, feeds: Feeds, stacked: bool) -> None:
        """Take in samples; those with the same sizes but for the first axis share batches."""
        for name, array in feeds.items():
            if array.dtype.kind == "f" and np.isnan(array).any():
                raise InputError(f"{where} '{name}' holds NaN: leave such samples out")
        if not stacked:
            self._keep(feeds, 1)
            return
        key = tuple((name, array.shape[1:]) for name, array in feeds.items())
        rows = [*self.waiting.pop(key, []), feeds]
        step = self.fixed or _step(feeds)
        if sum(map(_length, rows)) >= step:
            joined = _joined(rows)
            full = _length(joined) // step * step
            for start in range(0, full, step):
                self._keep({k: v[start : start + step] for k, v in joined.items()}, step)
            rows = [{k: v[full:].copy() for k, v in joined.items()}]
        if _length(rows[0]):
            self.waiting[key] = rows

    def finish(self, name: str) -> int:
        """Keep what waits for a full batch; how many samples a fixed batch leaves out."""
        rest = [_joined(rows) for rows in self.waiting.values()]
        left = sum(map(_length, rest))
        if not self.fixed:
            for feeds in rest:
                self._keep(feeds, _length(feeds))
            left = 0
        if not self.batches and left:
            raise InputError(
                f"calibration {name}: the model takes {self.fixed} samples at once, but there are "
                f"{left}"
            )
        if not self.batches:
            raise InputError(f"calibration {name}: holds no samples")
        return left

    def close(self) -> None:
        """Let go of the temporary file, which lives on in the arrays that lie in it."""
        if self.file is not None:
            self.file.close()

    def _keep(self, feeds: Feeds, samples: int) -> None:
        self.sizes.append(samples)
        for name, array in sorted(feeds.items()):
            self.digest.update(f"{name} {array.dtype} {array.shape}".encode())
            text = array.dtype.hasobject
            self.digest.update(repr(array.tolist()).encode() if text else content(array))
        self.batches.append({name: self._held(array) for name, array in feeds.items()})

    def _held(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array, or a view of the temporary file that it was written to."""
        self.used += array.nbytes
        if self.used <= MEMORY or array.dtype.hasobject or not array.nbytes:
            return np.array(array)
        try:
            if self.file is None:
                self.file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115
            begin = self.file.seek(0, os.SEEK_END)
            self.file.write(content(array))
            self.file.flush()
            view = np.memmap(self.file, array.dtype, "r", begin, array.shape)
        except OSError as error:
            raise InputError(
                f"calibration samples need a temporary file, which cannot be written: "
                f"{error.strerror}. Give fewer (--calib-samples), or set TMPDIR."
            ) from error
        return np.asarray(view)


def _step(feeds: Feeds) -> int:
    """Samples of a batch of any size."""
    return int(min(BATCH, max(1, BYTES // _each(feeds))))


def _each(feeds: Feeds) -> int:
    """Bytes of a sample."""
    return max(1, sum(array[:1].nbytes for array in feeds.values()))


def _length(feeds: Feeds) -> int:
    return len(next(iter(feeds.values())))


def _joined(rows: Sequence[Feeds]) -> Feeds:
    if len(rows) == 1:
        return rows[0]
    return {name: np.concatenate([feeds[name] for feeds in rows]) for name in rows[0]}
