"""Mean and covariance of channels that an operator moves, picks or puts zeros beside."""

from __future__ import annotations

import numpy as np

from onnxprune.ops.moments import NEAR, Estimate, Estimates, stored_others
from onnxprune.types import Ints, Node

__all__ = ["moved", "picked"]

#: A flattened result with more channels than this says nothing.
WIDEST = 4096


def moved(node: Node, given: Estimates) -> Estimate | None:
    """Follow channels that are moved, each to one place at least."""
    at = _places(node, given)
    known = given.of(node)
    if at is None or known is None or len(set(at.tolist())) < len(known.mean):
        return None  # the channels lie elsewhere now
    return _at(known, at)


def picked(node: Node, given: Estimates) -> Estimate | None:
    """Follow channels of which some are left out, or get zeros beside them."""
    at, known = _places(node, given), given.of(node)
    return None if at is None or known is None else _at(known, at)


def _places(node: Node, given: Estimates) -> Ints | None:
    """(m,) which channel lies at each place of the result, -1 where it is padded.

    Found by running the node on the channels' numbers.
    """
    known, data, others = given.of(node), node.inputs[0], stored_others(node)
    if known is None or data is None or data.sample is None or others is None:
        return None
    n = len(known.mean)
    numbers = np.zeros((1, *data.sample[1:]), np.float32)
    if numbers.ndim < 2 or numbers.shape[1] != n or node.outputs[0].rank < 2:
        return None
    numbers += np.arange(1, n + 1, dtype=np.float32).reshape(-1, *[1] * (data.rank - 2))
    arrived = given.run(node, [numbers, *others])
    if arrived is None or arrived.ndim < 2 or arrived.shape[1] > WIDEST:
        return None
    centre = (0, slice(None), *(size // 2 for size in arrived.shape[2:]))
    at: Ints = np.rint(arrived[centre]).astype(np.int64) - 1
    return at


def _at(known: Estimate, at: Ints) -> Estimate:
    """The channels at places (m,), zeros where a place is below 0."""
    alive = at >= 0
    # a channel that was flattened lies at several places
    place = np.array([int((at[:i] == c).sum()) for i, c in enumerate(at.tolist())])
    near = np.where(np.equal.outer(place, place), 1.0, NEAR)
    return Estimate(
        np.where(alive, known.mean[at], 0.0),
        np.where(np.outer(alive, alive), known.cov[np.ix_(at, at)] * near, 0.0),
        known.anchored,
    )
