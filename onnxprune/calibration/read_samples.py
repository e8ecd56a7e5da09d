"""Read at most so many samples from shards, spread evenly over them where all are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count as count_from
from typing import NamedTuple

import numpy as np

from onnxprune import ops
from onnxprune.calibration.lazy_array import ROWS_AT_ONCE
from onnxprune.calibration.sources import Shard, Shards, shard_of
from onnxprune.errors import InputError
from onnxprune.ir import graph, inputs, shape_inference
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.inputs import Feeds
from onnxprune.settings import InputSettings
from onnxprune.types import Ints, Node

__all__ = ["FirstAxes", "Samples", "first_axes", "random_shards", "read_samples"]


class FirstAxes(NamedTuple):
    """What the first axes of a model's inputs are.

    Attributes:
        stacked: whether they count samples.
        fixed: how many samples the model takes at once, None for any number.
        several: whether they have names that differ, so that their sizes may differ too.

    Inputs without axes have one number for all samples, or are given one for each.
    """

    stacked: bool
    fixed: int | None
    several: bool


class Samples(NamedTuple):
    """Feeds that were read.

    Attributes:
        where: begins messages about them.
        feeds: arrays by input name.
        stacked: whether first axes count samples; else the feeds are those of one run.
    """

    where: str
    feeds: Feeds
    stacked: bool


def first_axes(model: ModelProto) -> FirstAxes:
    """Look at the declared shapes of a model's inputs."""
    values = graph.graph_inputs(model)
    several = [value for value in values if not graph.is_single(value)]
    sizes = [graph.declared_sizes(value) for value in several]
    first = {size[0] for size in sizes if size}
    fixed = first - {None}
    dims = [value.type.tensor_type.shape.dim for value in values]
    names = {own[0].dim_param for own in dims if len(own)}
    same = len(fixed) <= 1 and not (None in first and fixed - {1})  # a state is no sample
    series = len(several) < len(values) and any(len(size) == 1 for size in sizes)
    stacked = bool(several) and all(sizes) and same and not series  # audio beside its rate
    return FirstAxes(stacked, next(iter(fixed), None), len(names - {""}) > 1)


def read_samples(
    shards: Shards, model: ModelProto, axes: FirstAxes, limit: int, labelled: bool = False
) -> Iterator[Samples]:
    """Read at most `limit` samples: of a sequence of shards evenly spread, of a stream the first.

    With `labelled` their labels are among the feeds, under their own names.

    Raises:
        InputError: a shard cannot be read, or does not fit the model's inputs.
    """
    if not isinstance(shards, Sequence):
        yield from _read_stream(shards, model, axes, limit, labelled)
        return
    counts = [_count(shard, model, axes) for shard in shards]
    total = sum(count or 1 for count in counts)
    used = min(limit, total)
    chosen = np.arange(used) * total // max(used, 1)
    start = 0
    for shard, count in zip(shards, counts, strict=True):
        inside = (chosen >= start) & (chosen < start + (count or 1))
        own = shard.labelled(count) if labelled else shard
        yield from _read(own, count, chosen[inside] - start, model)
        start += count or 1


def _read_stream(
    shards: Iterator[Shard], model: ModelProto, axes: FirstAxes, limit: int, labelled: bool
) -> Iterator[Samples]:
    """Read the first samples; no shard is asked for beyond them."""
    for shard in shards:
        count = _count(shard, model, axes)
        numbers = np.arange(min(count or 1, limit))
        yield from _read(shard.labelled(count) if labelled else shard, count, numbers, model)
        limit -= len(numbers)
        if not limit:
            return


def _read(shard: Shard, count: int | None, numbers: Ints, model: ModelProto) -> Iterator[Samples]:
    """Read the samples of these numbers (n,); `count` is None where the shard is one run."""
    if count is None and len(numbers):
        yield Samples(shard.where, shard.whole(), False)
    elif len(numbers):
        for rows in shard.rows(numbers):
            yield from (Samples(shard.where, feeds, True) for _, feeds in inputs.apart(rows, model))


def _count(shard: Shard, model: ModelProto, axes: FirstAxes) -> int | None:
    """Count the samples of a shard that fits the model; None where it is the input of one run."""
    lengths = {name: array.shape[0] for name, array in shard.arrays.items() if array.shape}
    differ = len(set(lengths.values())) > 1
    if not axes.stacked or (differ and axes.several):
        inputs.check(shard.arrays, model, shard.where, samples=False)
        return None
    inputs.check(shard.arrays, model, shard.where)
    if differ or 0 in lengths.values():
        raise InputError(
            f"{shard.where} arrays differ in length, or are empty: {lengths}. Give the same "
            "samples of each."
        )
    return next(iter(lengths.values()), None)


def random_shards(
    model: ModelProto, settings: InputSettings, nodes: Sequence[Node], axes: FirstAxes
) -> Iterator[Shard]:
    """Draw seeded inputs without end; `nodes` tell which integers the model accepts."""
    shapes: Mapping[str, tuple[int, ...]] = shape_inference.sample_shapes(
        model, settings.input_shapes
    )
    if axes.stacked:
        shapes = {
            name: (ROWS_AT_ONCE, *shape[1:]) if shape else () for name, shape in shapes.items()
        }
    bounds = ops.index_bounds(nodes)
    for seed in count_from(settings.seed):
        feeds = inputs.seeded(model, bounds, shapes, seed)
        yield shard_of(feeds, list(shapes), "random inputs")
