"""What BatchNormalization parameters say about activations, without any data.

Behind a normalisation channel c has mean β_c and standard deviation |γ_c|, as in training. How
channels move together follows from the weights before it: a convolution makes W C Wᵀ of the
covariance C that it reads, scaled afterwards to the variances that the normalisation stores. What
is taken as Gaussian goes through a ReLU in closed form, correlations along their Hermite series.
Neighbours in space are correlated by one number, chosen where the stored variances fit best.
Where normalisations have been folded away, what an image looks like is carried on from the input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.gaussian import curved
from onnxprune.groups.layers import layer_of
from onnxprune.ir import runtime, skeleton
from onnxprune.types import Floats, Ints, Node, Read, Tensor

__all__ = ["Estimate", "estimate_statistics"]

#: Correlations of neighbours in space that are tried.
NEIGHBOURS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97)
#: The one that is taken where nothing is known of the result.
NEAR = 0.6
#: Correlation of the colours of an image.
COLOURS = 0.9
#: Mean and standard deviation of images as models take them.
SCALES = ((0.0, 1.0), (0.45, 0.25), (115.0, 64.0))
#: A flattened result with more channels than this says nothing.
WIDEST = 4096
_SAME = {"Dropout", "Identity", "GlobalAveragePool", "AveragePool", "MaxPool"}
_MOVES = {"Pad", "Slice", "Flatten", "Reshape", "Squeeze", "ReduceMean"}
_CURVES = {
    *("Relu", "Clip", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Mish", "Softplus", "Softsign"),
    *("Sigmoid", "HardSigmoid", "HardSwish", "Tanh"),
}


@dataclass(frozen=True)
class Estimate:
    """Mean (n,) and covariance (n, n) of the channels on axis 1 of a tensor.

    `anchored`: their scale is that of a normalisation, not carried on from a guess of the input's.
    """

    mean: Floats
    cov: Floats
    anchored: bool = False


def estimate_statistics(
    nodes: Sequence[Node], read: Read, sample: Mapping[str, Sequence[int]]
) -> dict[str, Estimate]:
    """Belief of every tensor that normalisations say something about.

    `sample` holds the sizes of the inputs; of those with three channels it is believed that they
    are images.
    """
    known = {
        name: image
        for name, shape in sample.items()
        if (image := _image(name, shape, nodes, read)) is not None
    }
    makers = {node.outputs[0].name: node for node in nodes}
    for node in nodes:
        made = _made(node, known, makers, read)
        if made is not None:
            known[node.outputs[0].name] = made
    return known


def _image(name: str, shape: Sequence[int], nodes: Sequence[Node], read: Read) -> Estimate | None:
    """An input that may be an image, of the scale that the first convolution seems made for."""
    if len(shape) != 4 or not {shape[1], shape[3]} & {1, 3}:
        return None
    n = shape[1] if shape[1] in (1, 3) else shape[3]
    cov = COLOURS + (1 - COLOURS) * np.eye(n)
    guesses = [Estimate(np.full(n, mean), cov * std**2) for mean, std in SCALES]
    found = {name: guesses[0]}
    for node in nodes:
        data = node.input(0)
        if data is None or data.name not in found:
            continue
        if node.op == "Transpose":
            found[node.outputs[0].name] = guesses[0]
        elif node.op == "Conv":
            made = [_convolved(node, guess, read) for guess in guesses]
            return min(zip(made, guesses, strict=True), key=lambda pair: _unlikely(pair[0]))[1]
    return guesses[0]


def _unlikely(made: Estimate | None) -> float:
    """How far the standard deviation behind a convolution is from one."""
    if made is None:
        return math.inf
    return abs(float(np.median(np.log(np.maximum(np.diag(made.cov), 1e-24)))))


def _made(
    node: Node, known: Mapping[str, Estimate], makers: Mapping[str, Node], read: Read
) -> Estimate | None:
    """Belief of a node's result, None where nothing is known."""
    if node.op == "BatchNormalization":
        return _normalised(node, known, makers, read)
    data = [known.get(t.name) if t is not None else None for t in node.inputs]
    if node.op == "Concat" and node.attrs.get("axis") == 1:
        return _side_by_side(data)
    if node.op in ("Add", "Sum", "Mul", "Sub", "Div") and len(node.inputs) == 2:
        return _combined(node, data, makers, read)
    if not data or data[0] is None:
        return None
    if node.op in ("Conv", "Gemm", "MatMul"):
        return _convolved(node, data[0], read)
    return _passed_on(node, data[0])


def _side_by_side(data: Sequence[Estimate | None]) -> Estimate | None:
    """Channels of several tensors that are taken as independent."""
    parts = [part for part in data if part is not None]
    if len(parts) < len(data):
        return None
    mean = np.concatenate([part.mean for part in parts])
    cov, at = np.zeros((len(mean), len(mean))), 0
    for part in parts:
        n = len(part.mean)
        cov[at : at + n, at : at + n], at = part.cov, at + n
    return Estimate(mean, cov, all(part.anchored for part in parts))


def _combined(
    node: Node, data: Sequence[Estimate | None], makers: Mapping[str, Node], read: Read
) -> Estimate | None:
    """Two tensors together: a constant and another, a gate and what it is made of, or a sum."""
    a, b = data
    if a is None or b is None:
        return _with_constant(node, data, read)
    if node.op == "Mul":
        return _gated(node, (a, b), makers)
    if node.op not in ("Add", "Sum") or len(a.mean) != len(b.mean):
        return None
    return Estimate(a.mean + b.mean, a.cov + b.cov, a.anchored and b.anchored)


def _with_constant(node: Node, data: Sequence[Estimate | None], read: Read) -> Estimate | None:
    """Scaled or moved by a number or a vector over the channels."""
    index = 0 if data[0] is not None else 1
    given, other = data[index], node.inputs[1 - index]
    stored = read(other.name) if other is not None else None
    if given is None or stored is None or stored.dtype.kind != "f":
        return None
    rank, n = node.outputs[0].rank, len(given.mean)
    shape = (*[1] * (rank - stored.ndim), *stored.shape)
    if stored.size not in (1, n) or (stored.size == n > 1 and shape[1:2] != (n,)):
        return None
    vector = np.broadcast_to(stored.ravel().astype(np.float64), n)
    if node.op in ("Add", "Sum"):
        return Estimate(given.mean + vector, given.cov, given.anchored)
    if node.op == "Mul":
        return Estimate(given.mean * vector, given.cov * np.outer(vector, vector), given.anchored)
    return None


def _gated(
    node: Node, data: tuple[Estimate, Estimate], makers: Mapping[str, Node]
) -> Estimate | None:
    """X · f(x), such as SiLU."""
    for x, gate, given in zip(node.inputs, node.inputs[::-1], data, strict=True):
        maker = makers.get(gate.name) if gate is not None else None
        if x is None or maker is None or maker.op not in _CURVES or maker.input(0) != x:
            continue
        return _through(maker, given, gated=True)
    return None


def _through(node: Node, given: Estimate, gated: bool = False) -> Estimate | None:
    """Behind an elementwise function f of one tensor x, or `gated` x · f(x)."""
    values = {t.name: t.value for t in node.inputs[1:] if t is not None and t.value is not None}
    names = ["" if t is None else t.name for t in node.inputs]
    if any(name and name not in values for name in names[1:]):
        return None

    def function(x: Floats) -> Floats:
        filled = {**values, names[0]: x.astype(np.float32)}
        model, outputs = skeleton.single_node(node.op, names, node.attrs, node.opset, filled)
        y = runtime.compute(model, outputs).get("out", np.full_like(x, np.nan))
        return np.asarray(x * y if gated else y, np.float64)

    mean, cov = curved(function, given.mean, given.cov)
    return Estimate(mean, cov, given.anchored) if np.isfinite(cov).all() else None


def _passed_on(node: Node, given: Estimate) -> Estimate | None:
    """Behind an operator with one input."""
    result = node.outputs[0]
    if node.op in _CURVES:
        return _through(node, given)
    if node.op in _SAME:
        return given if result.size(1) == len(given.mean) else None
    if node.op == "Transpose":  # an image with its channels last
        return given if result.rank == 4 and result.size(1) == len(given.mean) else None
    return _moved(node, given) if node.op in _MOVES else None


def _normalised(
    node: Node, known: Mapping[str, Estimate], makers: Mapping[str, Node], read: Read
) -> Estimate | None:
    parts = [read(t.name) if t is not None else None for t in node.inputs[1:5]]
    if any(part is None for part in parts):
        return None
    gamma, beta, _, variance = (np.asarray(part, np.float64) for part in parts)
    correlation = _correlation(node.inputs[0], variance, known, makers, read)
    return Estimate(beta, correlation * np.outer(gamma, gamma), anchored=True)


def _correlation(
    made: Tensor | None,
    variance: Floats,
    known: Mapping[str, Estimate],
    makers: Mapping[str, Node],
    read: Read,
) -> Floats:
    """(n, n) correlation of what a normalisation reads, from the convolution before it."""
    nothing = np.eye(len(variance))
    maker = makers.get(made.name) if made is not None else None
    layer = layer_of(maker, read) if maker is not None and maker.op == "Conv" else None
    given = known.get(layer.data.name) if layer is not None else None
    stored = read(layer.weight.name) if layer is not None else None
    if layer is None or given is None or stored is None:
        return nothing
    cov = given.cov
    fits = [_covariance(stored, cov, rho, layer.depthwise) for rho in NEIGHBOURS]
    best = min(fits, key=lambda cov: _misfit(np.diag(cov), variance))
    std = np.sqrt(np.maximum(np.diag(best), 1e-24))
    found: Floats = best / np.outer(std, std)
    return found


def _convolved(node: Node, given: Estimate, read: Read) -> Estimate | None:
    """Behind a convolution that no normalisation follows."""
    layer = layer_of(node, read)
    stored = read(layer.weight.name) if layer is not None else None
    if layer is None or stored is None or layer.data.size(1) != len(given.mean):
        return None
    bias = read(layer.bias.name) if layer.bias is not None else None
    if layer.dense:
        weight = layer.matrix(stored)
        mean, cov = given.mean @ weight, weight.T @ given.cov @ weight
    else:
        taps = stored.reshape(*stored.shape[:2], -1).sum(2, dtype=np.float64)
        mean = taps[:, 0] * given.mean if layer.depthwise else taps @ given.mean
        cov = _covariance(stored, given.cov, NEAR, layer.depthwise)
    return Estimate(mean if bias is None else mean + bias, cov)


def _misfit(guess: Floats, variance: Floats) -> float:
    """Spread of the ratio between guessed and stored variances."""
    return float(np.std(np.log(np.maximum(guess, 1e-24)) - np.log(np.maximum(variance, 1e-24))))


def _covariance(weight: NDArray[Any], cov: Floats, rho: float, depthwise: bool) -> Floats:
    """(o, o) of a convolution (o, n, …) over channels with `cov`, neighbours correlated by rho."""
    places = np.array(list(np.ndindex(*weight.shape[2:])), np.float64)
    distance = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
    space = np.where(distance == 0, 1.0, rho**distance if rho else 0.0)
    flat = weight.reshape(*weight.shape[:2], -1).astype(np.float64)
    mixed = np.einsum("ocs,st->oct", flat, space)
    if depthwise:
        return np.asarray(mixed[:, 0] @ flat[:, 0].T * cov)
    mixed = np.einsum("oct,cd->odt", mixed, cov)
    made: Floats = mixed.reshape(len(flat), -1) @ flat.reshape(len(flat), -1).T
    return made


def _moved(node: Node, given: Estimate) -> Estimate | None:
    """Through an operator that moves channels or puts zeros between: run on their numbers."""
    data, result = node.inputs[0], node.outputs[0]
    if data is None or data.sample is None or result.rank < 2:
        return None
    values = {t.name: t.value for t in node.inputs[1:] if t is not None and t.value is not None}
    n = len(given.mean)
    numbers = np.zeros((1, *data.sample[1:]), np.float32)
    if numbers.ndim < 2 or numbers.shape[1] != n:
        return None
    numbers += np.arange(1, n + 1, dtype=np.float32).reshape(-1, *[1] * (data.rank - 2))
    names = ["" if t is None else t.name for t in node.inputs]
    values[data.name] = numbers
    model, outputs = skeleton.single_node(node.op, names, node.attrs, node.opset, values)
    moved = runtime.compute(model, outputs).get("out")
    if moved is None or moved.ndim < 2 or moved.shape[1] > WIDEST:
        return None
    middle = tuple(size // 2 for size in moved.shape[2:])
    centre = (0, slice(None), *middle)
    at: Ints = np.rint(moved[centre]).astype(np.int64) - 1
    alive = at >= 0
    if node.op not in ("Pad", "Slice") and len(set(at.tolist())) < n:
        return None  # the channels lie elsewhere now
    # a channel that was flattened lies at several places
    place = np.array([int((at[:i] == c).sum()) for i, c in enumerate(at.tolist())])
    near = np.where(np.equal.outer(place, place), 1.0, NEAR)
    return Estimate(
        np.where(alive, given.mean[at], 0.0),
        np.where(np.outer(alive, alive), given.cov[np.ix_(at, at)] * near, 0.0),
        given.anchored,
    )
