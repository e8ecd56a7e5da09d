"""The samples that divergence is measured on: few, and those that tell most.

A perturbation of scores z with covariance σ²I moves them by a divergence of σ²/2 · (1 - Σ p²) to
second order (the trace of the Fisher information of a softmax), which is next to nothing where the
original is sure. Samples are therefore drawn by importance: sample i with probability πᵢ that grows
with the root of that trace, never far below the average, and counted 1/πᵢ times (Horvitz &
Thompson, 1952), so that sums remain what they are over all samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.divergence import is_scores, log_probabilities
from onnxprune.calibration.samples import Calibration
from onnxprune.ir import graph, runtime
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Floats

__all__ = ["Probe", "probes"]

#: What every sample has of the average root of the trace, on top of its own.
FLOOR = 0.3
#: Where no sample tells more than this the original is sure of everything, and all count alike.
LEAST = 1e-12
#: Bytes of samples that are copied, at most.
MEMORY = 2**27
Array = NDArray[Any]


class Probe(NamedTuple):
    """A batch of samples, and how often each of them counts (n,)."""

    feeds: Mapping[str, Array]
    weights: Floats


def probes(model: ModelProto, data: Calibration, count: int) -> list[Probe]:
    """About `count` samples of the calibration data, in batches no larger than its own.

    Fewer where they would take more than `MEMORY` bytes.
    """
    if data.whole or count >= data.samples:
        return _even(data, count)
    each = sum(array.nbytes for array in data.batches[0].values()) // data.sizes[0]
    count = min(count, max(1, MEMORY // max(each, 1)))
    session = runtime.open_session(graph.model_bytes(model), spin=False)
    told = [
        _told(runtime.run(session, feeds), size)
        for feeds, size in zip(data.batches, data.sizes, strict=True)
    ]
    share = _inclusion(np.concatenate(told), count)
    chosen = _systematic(share)
    found, start = list[Probe](), 0
    for feeds, size in zip(data.batches, data.sizes, strict=True):
        at = chosen[(chosen >= start) & (chosen < start + size)]
        if len(at):
            weights = 1 / share[at]
            own = Probe(feeds, weights) if size == 1 else Probe(_taken(feeds, at - start), weights)
            found.append(own)
        start += size
    return _joined(found, max(data.sizes))


def _even(data: Calibration, count: int) -> list[Probe]:
    """Whole batches, evenly spread."""
    number = len(data.sizes)
    take = min(number, max(1, round(count * number / data.samples)))
    at = [k * number // take for k in range(take)]
    return [Probe(data.batches[k], np.ones(data.sizes[k])) for k in at]


def _told(outputs: Mapping[str, Array], size: int) -> Floats:
    """(size,) how much samples tell: the root of 1 - Σ p², summed over class scores."""
    told = np.zeros(size)
    for array in outputs.values():
        if is_scores(array) and len(array) == size:
            p = np.exp(log_probabilities(array.astype(np.float64)))
            told += np.sqrt(np.maximum(1 - (p**2).sum(1), 0))
    return told


def _inclusion(told: Floats, count: int) -> Floats:
    """(n,) probabilities, proportional to what samples tell above a floor, that sum to `count`."""
    merit = told + FLOOR * told.mean() if told.max() > LEAST else np.ones_like(told)
    order = np.argsort(-merit)
    # The first k are certain: the least k for which the next one's share stays within one.
    rest = np.cumsum(merit[order][::-1])[::-1]
    certain = int(np.argmax((count - np.arange(len(merit))) * merit[order] <= rest))
    share = np.ones_like(merit)
    share[order[certain:]] = (count - certain) * merit[order[certain:]] / rest[certain]
    return share


def _systematic(share: Floats) -> NDArray[np.int64]:
    """Sample numbers, each drawn with its probability, from all levels of it alike."""
    order = np.argsort(share, kind="stable")
    ends = np.cumsum(share[order]) + 0.5
    return np.sort(order[np.floor(ends) > np.floor(ends - share[order])])


def _taken(feeds: Mapping[str, Array], at: NDArray[np.int64]) -> dict[str, Array]:
    return {name: array[at] for name, array in feeds.items()}


def _joined(parts: Sequence[Probe], most: int) -> list[Probe]:
    """Batches filled up with those whose arrays have the same sizes but for the first axis."""
    kinds: dict[Any, list[list[Probe]]] = {}
    for part in parts:
        single = any(len(array) != len(part.weights) for array in part.feeds.values() if array.ndim)
        scalar = any(not array.ndim for array in part.feeds.values())
        own = id(part) if single or scalar else None
        shapes = tuple((name, array.shape[1:]) for name, array in part.feeds.items())
        rows = kinds.setdefault((shapes, own), [[]])
        if rows[-1] and sum(len(p.weights) for p in rows[-1]) + len(part.weights) > most:
            rows.append([])
        rows[-1].append(part)
    return [_one(batch) for rows in kinds.values() for batch in rows]


def _one(batch: Sequence[Probe]) -> Probe:
    if len(batch) == 1:
        return batch[0]
    names = batch[0].feeds.keys()
    feeds = {name: np.concatenate([part.feeds[name] for part in batch]) for name in names}
    return Probe(feeds, np.concatenate([part.weights for part in batch]))
