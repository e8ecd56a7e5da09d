"""Measure what blocks that go whole add to their shortcuts on average, see `block_successors`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from onnxprune.calibration.samples import Calibration
from onnxprune.calibration.single_pass import Asked, single_pass
from onnxprune.compensation.block_successors import Successors
from onnxprune.compensation.teacher import Teacher
from onnxprune.ir import runtime
from onnxprune.types import Floats

__all__ = ["with_biases"]

#: Samples that a mean for each channel needs, at most.
SAMPLES = 256


def with_biases(found: Successors, teacher: Teacher, growth: Mapping[str, float]) -> Successors:
    """Measure how much more sums are on average than what takes their place.

    Args:
        found: what takes the place of blocks.
        teacher: gives the values.
        growth: elements of each tensor in shares of those of all inputs.
    """
    if not found.sums:
        return found
    pairs = {name: found.sum_for(name) for name in found.sums}
    rectified = {name for first in found.rectified for name in (first, pairs[first])}
    axes = {name: found.channels[first] for first, last in pairs.items() for name in (first, last)}
    means: dict[str, list[Floats]] = {name: [] for name in axes}
    asked, batches, place = Asked(means, growth), list(_some(teacher.data)), teacher.data.place
    for _, values in single_pass(teacher.model, batches, asked, teacher.read, place):
        for name in values.keys() & means.keys():
            value = teacher.value(name, values[name])
            value = np.maximum(value, 0) if name in rectified else value
            others = tuple(k for k in range(value.ndim) if k != axes[name])
            means[name].append(value.mean(others, np.float64))
    added = {}
    for first, last in pairs.items():
        if means[first] and means[last]:
            more = np.mean(means[last], 0) - np.mean(means[first], 0)
            added[first] = np.minimum(more, 0) if first in rectified else more
    return replace(found, added=added)


def _some(data: Calibration) -> Iterator[runtime.Feeds]:
    """The first batches that have enough samples together."""
    seen = 0
    for feeds, size in zip(data.batches, data.sizes, strict=True):
        yield feeds
        seen += size
        if seen >= SAMPLES:
            return
