"""Draw few samples to measure divergence on: those that show most of it.

A perturbation of scores z with covariance σ²I causes, to second order, a divergence of
σ²/2 · (1 - Σ p²), the trace of the Fisher information of a softmax: next to nothing where the
original is sure of its answer. Sample i is therefore drawn with a probability πᵢ that grows with
the root of that trace, and never lies far below the average; a drawn sample counts 1/πᵢ times, so
that the expected sums are those over all samples (Horvitz & Thompson, 1952).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.calibration.divergence import is_scores, log_probabilities
from onnxprune.calibration.samples import Calibration
from onnxprune.ir import exact_products, graph, runtime
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.inputs import rows
from onnxprune.types import Floats, Ints

__all__ = [
    "SETTINGS",
    "WeightedBatch",
    "draw_samples",
    "inclusion_probabilities",
    "merged_batches",
    "systematic_sample",
]

#: What is added to every sample's root of the trace, in shares of the mean over all samples.
FLOOR = 0.3
#: Where no sample's root exceeds this the original is sure of all, and all are drawn alike.
CERTAIN = 1e-12
#: How many samples are looked at for each that is drawn, at most.
POOL = 3
#: What is drawn depends on, for keys of caches.
SETTINGS = (FLOOR, POOL)
#: Bytes of samples that are copied, at most.
MEMORY = 2**27
Array = NDArray[Any]


class WeightedBatch(NamedTuple):
    """A batch of samples, and how often each of them counts (n,)."""

    feeds: Mapping[str, Array]
    weights: Floats


def draw_samples(model: ModelProto, data: Calibration, count: int) -> list[WeightedBatch]:
    """Draw about `count` samples, fewer where they would take more than `MEMORY` bytes.

    Batches are no larger than those of the data. Where these cannot be divided, whole batches are
    taken, evenly spread; where there are no more than `count` samples, all.
    """
    if data.whole or count >= data.samples:
        return _whole_batches(data, count)
    each = sum(array.nbytes for array in data.batches[0].values()) // data.sizes[0]
    count = min(count, max(1, MEMORY // max(each, 1)))
    pool, share = _pool(data, count)
    probabilities = inclusion_probabilities(
        _all_fisher_roots(model, pool, data.place.device), count
    )
    drawn = systematic_sample(probabilities)
    parts, start = list[WeightedBatch](), 0
    for batch in pool:
        size = len(batch.weights)
        at = drawn[(drawn >= start) & (drawn < start + size)]
        if len(at):
            taken = batch.feeds if size == 1 else rows(dict(batch.feeds), at - start)
            parts.append(WeightedBatch(taken, share / probabilities[at]))
        start += size
    return merged_batches(parts, max(data.sizes))


def _pool(data: Calibration, count: int) -> tuple[list[WeightedBatch], float]:
    """Samples that are looked at, evenly spread, and how many each of them stands for."""
    looked = min(POOL * count, data.samples)
    at = np.arange(looked) * data.samples // looked
    parts, start = list[WeightedBatch](), 0
    for feeds, size in zip(data.batches, data.sizes, strict=True):
        own = at[(at >= start) & (at < start + size)] - start
        if len(own):
            taken = feeds if len(own) == size else rows(feeds, own)
            parts.append(WeightedBatch(taken, np.ones(len(own))))
        start += size
    return merged_batches(parts, max(data.sizes)), data.samples / looked


def _all_fisher_roots(
    model: ModelProto, pool: Sequence[WeightedBatch], device: runtime.Device
) -> Floats:
    """(n,) roots of all samples of a pool; zero where the model gives no class scores at all."""
    steady = exact_products.exact_where_needed(model, ops.byte_products(), ops.DECODERS)
    session = runtime.open_session(graph.model_bytes(steady), device, spin=False)
    roots = list[Floats]()
    for batch in pool:
        size = len(batch.weights)
        outputs = runtime.run(session, batch.feeds)
        if not any(is_scores(array) and len(array) == size for array in outputs.values()):
            return np.zeros(sum(len(other.weights) for other in pool))
        roots.append(_fisher_roots(outputs, size))
    return np.concatenate(roots)


def _whole_batches(data: Calibration, count: int) -> list[WeightedBatch]:
    """About `count` samples in whole batches, evenly spread; each counts once."""
    number = len(data.sizes)
    taken = min(number, max(1, round(count * number / data.samples)))
    at = [k * number // taken for k in range(taken)]
    return [WeightedBatch(data.batches[k], np.ones(data.sizes[k])) for k in at]


def _fisher_roots(outputs: Mapping[str, Array], size: int) -> Floats:
    """(size,) root of 1 - Σ p² for each sample of a batch, summed over outputs of class scores."""
    roots = np.zeros(size)
    for array in outputs.values():
        if is_scores(array) and len(array) == size:
            p = np.exp(log_probabilities(array.astype(np.float64)))
            roots += np.sqrt(np.maximum(1 - (p**2).sum(1), 0))
    return roots


def inclusion_probabilities(roots: Floats, count: int) -> Floats:
    """(n,) probabilities that sum to `count`, proportional to `roots` (n,) plus the floor.

    Those that would exceed one are one, and the others share what is left of `count`.
    """
    merit = roots + FLOOR * roots.mean() if roots.max() > CERTAIN else np.ones_like(roots)
    order = np.argsort(-merit)
    # The first k are certain: the least k for which the next probability does not exceed one.
    rest = np.cumsum(merit[order][::-1])[::-1]
    certain = int(np.argmax((count - np.arange(len(merit))) * merit[order] <= rest))
    probabilities = np.ones_like(merit)
    probabilities[order[certain:]] = (count - certain) * merit[order[certain:]] / rest[certain]
    return probabilities


def systematic_sample(probabilities: Floats) -> Ints:
    """Sample numbers, ascending, each included with its probability (n,).

    Samples stand in order of their probability, so that each level of it is drawn in proportion.
    """
    order = np.argsort(probabilities, kind="stable")
    ends = np.cumsum(probabilities[order]) + 0.5
    return np.sort(order[np.floor(ends) > np.floor(ends - probabilities[order])])


def merged_batches(parts: Sequence[WeightedBatch], most: int) -> list[WeightedBatch]:
    """Merge batches up to `most` samples each.

    Only those are merged whose arrays all have one row for each sample, and the same sizes along
    the other axes.
    """
    kinds: dict[Any, list[list[WeightedBatch]]] = {}
    for number, part in enumerate(parts):
        lengths = {len(array) if array.ndim else -1 for array in part.feeds.values()}
        mergeable = lengths == {len(part.weights)}
        shapes = tuple((name, array.shape[1:]) for name, array in part.feeds.items())
        batches = kinds.setdefault((shapes, None if mergeable else number), [[]])
        if batches[-1] and sum(len(p.weights) for p in batches[-1]) + len(part.weights) > most:
            batches.append([])
        batches[-1].append(part)
    return [_concatenated(batch) for batches in kinds.values() for batch in batches]


def _concatenated(parts: Sequence[WeightedBatch]) -> WeightedBatch:
    if len(parts) == 1:
        return parts[0]
    names = parts[0].feeds.keys()
    feeds = {name: np.concatenate([part.feeds[name] for part in parts]) for name in names}
    return WeightedBatch(feeds, np.concatenate([part.weights for part in parts]))
