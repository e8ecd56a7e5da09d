"""Masks of weights: which numbers stay, by score, exactly as many as asked for.

Scores are non-negative; among equal ones the first go. Where weights of many layers compete the
limit is found in two passes over histograms of their bits (radix selection), so that no more than
one tensor is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.sparsity.patterns import Blocks, NofM

__all__ = [
    "Limit",
    "block_scores",
    "by_limit",
    "erk",
    "expanded",
    "keep_largest",
    "keep_largest_of_rows",
    "limit_of",
    "n_of_m",
]

Array: TypeAlias = NDArray[Any]
Mask: TypeAlias = NDArray[np.bool_]
#: Numbers that a histogram looks at together.
PIECE = 2**22


def keep_largest(scores: Array, dropped: int) -> Mask:
    """True but for the `dropped` smallest scores, of any shape."""
    flat = scores.ravel()
    kept = np.ones(flat.size, bool)
    if dropped >= flat.size:
        kept[:] = False
    elif dropped > 0:
        limit = np.partition(flat, dropped - 1)[dropped - 1]
        kept = flat > limit
        equal = np.flatnonzero(flat == limit)
        kept[equal[dropped - int((flat < limit).sum()) :]] = True
    return kept.reshape(scores.shape)


def keep_largest_of_rows(scores: Array, dropped: int) -> Mask:
    """True but for the `dropped` smallest scores of each row; `scores` (rows, n)."""
    order = np.argsort(scores, axis=1, kind="stable")
    kept = np.ones(scores.shape, bool)
    np.put_along_axis(kept, order[:, :dropped], False, 1)
    return kept


def n_of_m(scores: Array, pattern: NofM) -> Mask:
    """The largest of every M neighbours along the last axis; `scores` (rows, taps, channels)."""
    groups = scores.reshape(-1, pattern.of)
    return keep_largest_of_rows(groups, pattern.of - pattern.kept).reshape(scores.shape)


def block_scores(scores: Array, blocks: Blocks) -> Array:
    """Sum over each block: (rows / r, taps, channels / c) of `scores` (rows, taps, channels)."""
    rows, taps, channels = scores.shape
    r, c = blocks.rows, blocks.columns
    wide = scores.reshape(rows // r, r, taps, channels // c, c)
    return np.asarray(wide.sum((1, 4)))


def expanded(mask: Mask, blocks: Blocks) -> Mask:
    """A mask of blocks as one of numbers."""
    return mask.repeat(blocks.rows, 0).repeat(blocks.columns, 2)


class Limit(NamedTuple):
    """Scores below `value` go, and so many of those equal to it, the first ones."""

    value: np.float32
    equal: int


def limit_of(scores: Callable[[], Iterable[Array]], dropped: int) -> Limit:
    """The limit below which `dropped` numbers of all arrays lie.

    `scores` gives all arrays, in single precision, each time it is called; positive floats are
    ordered as their bits are.
    """
    high = _counts(scores(), lambda bits: bits >> 16)
    top = int(np.searchsorted(np.cumsum(high), dropped)) if dropped else 0
    left = dropped - int(high[:top].sum())
    low = _counts(scores(), lambda bits: (bits & 0xFFFF)[bits >> 16 == top])
    bottom = int(np.searchsorted(np.cumsum(low), left)) if left else 0
    value = np.array([top << 16 | bottom], np.uint32).view(np.float32)[0]
    return Limit(value, left - int(low[:bottom].sum()))


def _counts(arrays: Iterable[Array], key: Callable[[Array], Array]) -> NDArray[np.int64]:
    """(65536,) how often each key occurs."""
    counts = np.zeros(2**16, np.int64)
    for array in arrays:
        bits = np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32)
        for at in range(0, bits.size, PIECE):
            counts += np.bincount(key(bits[at : at + PIECE]), minlength=2**16)
    return counts


def by_limit(scores: Array, limit: Limit) -> tuple[Mask, Limit]:
    """The mask of one array, and the limit for the next."""
    single = scores.astype(np.float32, copy=False)
    kept = np.ascontiguousarray(single >= limit.value)  # in C order, so that it can be flattened
    if not limit.equal:
        return kept, limit
    equal = np.flatnonzero(single.ravel() == limit.value)[: limit.equal]
    kept.reshape(-1)[equal] = False
    return kept, limit._replace(equal=limit.equal - len(equal))


def erk(shapes: Sequence[tuple[int, int, int]], sparsity: float) -> list[float]:
    """Sparsity of each layer by the Erdős-Rényi kernel rule, for one share of all numbers.

    Density is proportional to (rows + channels + k + k) / (rows · channels · k · k) with taps as
    k², and at most one (Evci et al., RigL, 2020).
    """
    sizes = np.array([np.prod(shape, dtype=np.int64) for shape in shapes], np.float64)
    raw = np.array([(r + c + 2 * t**0.5) for r, t, c in shapes]) / sizes
    budget, full = (1 - sparsity) * sizes.sum(), np.zeros(len(sizes), bool)
    while True:
        left = budget - sizes[full].sum()
        scale = left / max(float((raw * sizes)[~full].sum()), 1e-30)
        density = np.where(full, 1.0, raw * scale)
        if not (density[~full] > 1).any():
            return [float(1 - d) for d in density]
        full |= density > 1
