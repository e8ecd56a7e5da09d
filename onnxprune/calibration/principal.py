"""Principal directions of the activations of a stream: the orthogonal matrix that turns to them.

Moments of all tensors that layers read are added up, each in shares of its own sum, so that every
layer counts alike.

A normalisation that subtracts the mean asks for Q·1 = 1, so that no position can be a principal
direction itself. What all positions have in common says nothing there; beside it there are n - 1
directions. Helmert's matrix spreads them over the n positions with sums of zero: direction j
ends at position j, and lies on those before it with -1/sqrt(j(j+1)) each. So whatever k positions
are cut at the end, they hold nothing of the first n - k - 1 directions.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.activation_statistics import ActivationStatistics, measure_statistics
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.turning import Rotation, Stream
from onnxprune.ir import runtime
from onnxprune.ir.runtime import Device
from onnxprune.types import Floats

__all__ = ["principal_rotations"]


def principal_rotations(
    analysis: Analysis,
    streams: Iterable[Stream],
    batches: Iterable[runtime.Feeds],
    device: Device | None = None,
) -> list[Rotation]:
    """Turn streams to principal directions, those with the largest moment first.

    Args:
        analysis: the model with γ and β of the streams' normalisations folded away.
        streams: of this model.
        batches: feeds of each batch.
        device: what runs the model, None: the processor.

    Raises:
        InputError: there is no batch.
    """
    streams = list(streams)
    axes = sorted({axis for stream in streams for axis in stream.read})
    seen = measure_statistics(analysis, batches, covariance=True, axes=axes, device=device)
    found = []
    for stream in streams:
        each = [seen[axis] for axis in stream.read if axis in seen and seen[axis].cov is not None]
        if each:
            total = np.sum([_share(one) for one in each], axis=0)
            found.append(Rotation(stream.group.name, principal(total, stream.centred)))
    return found


def _share(one: ActivationStatistics) -> Floats:
    """(n, n) moments along an axis, their trace one."""
    assert one.cov is not None
    moments = one.cov + np.outer(one.mean, one.mean)
    share: Floats = moments / max(float(np.trace(moments)), float(np.finfo(np.float64).tiny))
    return share


def principal(moments: Floats, centred: bool) -> NDArray[np.float32]:
    """(n, n) orthogonal matrix whose rows are principal directions of (n, n) moments.

    With `centred` it leaves (1, …, 1) where it is, and the first row takes most of nothing.
    """
    size = len(moments)
    if not centred or size == 1:
        return _descending(moments).astype(np.float32)
    spread = _helmert(size)
    inner = spread[:, 1:].T @ moments @ spread[:, 1:]  # in the dimensions beside (1, …, 1)
    turned = np.eye(size)
    turned[1:, 1:] = _descending(inner)
    matrix: Floats = spread @ turned @ spread.T
    return matrix.astype(np.float32)


def _descending(moments: Floats) -> Floats:
    """Eigenvectors as rows, the largest eigenvalue first, the largest entry of each positive."""
    vectors = np.linalg.eigh(moments)[1][:, ::-1].T
    largest = np.abs(vectors).argmax(1)
    signs = np.sign(vectors[np.arange(len(vectors)), largest])
    directions: Floats = vectors * signs[:, None]
    return directions


def _helmert(size: int) -> Floats:
    """(n, n) orthogonal matrix, (1, …, 1)/sqrt(n) in the first column, upper triangular behind."""
    steps = np.arange(1, size)
    columns = np.triu(np.full((size, size - 1), -1.0)) / np.sqrt(steps * (steps + 1))
    columns[steps, steps - 1] = np.sqrt(steps / (steps + 1))
    matrix: Floats = np.concatenate([np.full((size, 1), 1 / np.sqrt(size)), columns], 1)
    return matrix
