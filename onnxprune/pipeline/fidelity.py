"""Measure how far the outputs of a pruned model drift from the original's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError
from onnxprune.report.values import Fidelity
from onnxprune.surgery.proof import Outputs

__all__ = ["OutputPair", "fidelity"]


class OutputPair(NamedTuple):
    """Outputs of both models on one batch, and the labels (n,) of its samples if they are known."""

    original: Outputs
    pruned: Outputs
    labels: NDArray[np.int64] | None = None


def fidelity(pairs: Iterable[OutputPair], data: str) -> Fidelity:
    """Add up drift over batches.

    Args:
        pairs: outputs of both models, batch by batch.
        data: what reports call the samples.
    """
    sums, classes = np.zeros(4), np.zeros(5, np.int64)
    samples = 0
    for pair in pairs:
        samples += max((len(v) for v in pair.original.values() if np.ndim(v)), default=0)
        for products in _products(pair):
            sums += products
        classes += _classes(pair)
    dot, square, pruned_square, noise = sums.tolist()
    judged, same, labelled, right, pruned_right = classes.tolist()
    signal = max(square, 1e-30) / max(noise, 1e-30)
    return Fidelity(
        cosine=dot / max((square * pruned_square) ** 0.5, 1e-30) if noise else 1.0,
        sqnr_db=float(10 * np.log10(signal)) if noise else None,
        agreement=same / judged if judged else None,
        samples=samples,
        data=data,
        accuracy=(right / labelled, pruned_right / labelled) if labelled else None,
    )


def _products(pair: OutputPair) -> Iterator[list[float]]:
    """Σ xy, Σ x², Σ y² and Σ (x - y)² for each output x of floating point and the pruned one y."""
    for name, array in pair.original.items():
        if np.issubdtype(array.dtype, np.floating):
            if array.shape != pair.pruned[name].shape:
                raise InputError(
                    f"output '{name}' has shape {list(array.shape)} in the first model, and "
                    f"{list(pair.pruned[name].shape)} in the second. Compare a model with its "
                    "pruned self."
                )
            x, y = array.astype(np.float64), pair.pruned[name].astype(np.float64)
            yield [float(p.sum()) for p in (x * y, x * x, y * y, (x - y) ** 2)]


def _classes(pair: OutputPair) -> NDArray[np.int64]:
    """(5,) counts on the first output of class scores (n, classes), zero if there is none.

    Samples, those with the same largest score in both models, labelled samples, and how many of
    these the original and the pruned model get right.
    """
    scores = (name for name, v in pair.original.items() if v.ndim == 2 and v.shape[1] > 1)
    name = next(scores, None)
    if name is None:
        return np.zeros(5, np.int64)
    top, pruned_top = pair.original[name].argmax(1), pair.pruned[name].argmax(1)
    counts = [len(top), (top == pruned_top).sum(), 0, 0, 0]
    if pair.labels is not None:
        right = [(found == pair.labels).sum() for found in (top, pruned_top)]
        counts[2:] = [len(pair.labels), *right]
    return np.array(counts, np.int64)
