"""Reduce the width of queries and keys to fewer dimensions that give nearly the same products.

Scores are products qᵀk of two linear maps, so any Q = qA and K = kB with ABᵀ close to the identity
will do. With second moments G_Q and G_K of queries and keys, the squared error
E(qᵀ(I - ABᵀ)k)², for queries independent of keys, is |G_Q^½ (I - ABᵀ) G_K^½|²: least for the
truncated singular value decomposition of G_Q^½ G_K^½. CORP (2026) selects dimensions first and then
solves the same quadratic on them; here those that stay are mixtures of all. A softmax over keys
ignores what all keys share, so G_K is centred there. Dimensions cannot be mixed where rotary
embeddings stand in between; such groups are none of these pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.calibration.batches import growths
from onnxprune.calibration.single_pass import Asked, single_pass
from onnxprune.calibration.workplace import Workplace
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.ir import runtime
from onnxprune.types import Axis, Floats, Group, Ints, Node, Read

__all__ = [
    "Grams",
    "Pair",
    "Side",
    "factors",
    "grams",
    "lost_shares",
    "mixed_weights",
    "mixing_matrices",
    "pairs_of",
]

#: Second moments (heads, n, n) of queries and of keys, by the number of their group.
Grams: TypeAlias = "Mapping[int, tuple[Floats, Floats]]"
#: Ridge that is added to second moments, in shares of the mean variance.
RIDGE = 1e-3


@dataclass(frozen=True)
class Side:
    """Queries or keys.

    Attributes:
        layer: computes them.
        bias: name of its bias, "" without one.
        result: name of the layer's result with the bias added.
        columns: (n_channels, heads) positions on the result's last axis.
        centred: whether what all positions of a sequence share is ignored.
    """

    layer: Layer
    bias: str
    result: str
    columns: Ints
    centred: bool


@dataclass(frozen=True)
class Pair:
    """Queries and keys, which nothing but their product reads."""

    sides: tuple[Side, Side]


def pairs_of(analysis: Analysis, layers: Sequence[Layer]) -> dict[int, Pair]:
    """Find the groups that are the width of queries and keys, and nothing else.

    Args:
        analysis: the model.
        layers: those that least squares can refit.

    Returns:
        Pairs by the number of their group.
    """
    if not any(_is_product(node) for node in analysis.nodes):
        return {}
    readers = analysis.index.readers
    made = (_pair(analysis, group, layers, readers) for group in analysis.groups)
    return {g: pair for g, pair in enumerate(made) if pair is not None}


def _pair(
    analysis: Analysis, group: Group, layers: Sequence[Layer], readers: Mapping[str, list[Node]]
) -> Pair | None:
    """Queries and keys of a group; None where it is something else."""
    at = dict(group.axes())
    makers = _makers(analysis, at, layers, readers)
    products = list[Node]()
    for node in analysis.nodes:
        touched = any(t.at(k) in at for t in node.tensors for k in range(t.rank))
        if not touched or node.outputs[0].name in makers:
            continue
        if _is_product(node):
            products.append(node)
        elif not ops.rearranges(node.op) and not _scales(node, {m.result for m in makers.values()}):
            return None
    if len(products) != 1 or not makers or not _contracted(products[0], at):
        return None
    keys = _source(products[0], 1, analysis.nodes) if _softmax_behind(products[0], readers) else ""
    alone = len(makers) == 2  # queries and keys of one layer are centred together or not at all
    sides = [
        Side(made.layer, made.bias, made.result, columns, keys == made.result and alone)
        for made in makers.values()
        for columns in np.moveaxis(made.positions.reshape(group.channels, group.heads, -1), 2, 0)
    ]
    return Pair((sides[0], sides[1])) if len(sides) == 2 else None


def _is_product(node: Node) -> bool:
    """Whether two matrices of activations are multiplied."""
    dense = node.op in ops.LAYERS and ops.LAYERS[node.op].kind == "dense"
    return dense and not ops.kernels_of(node)


class _Maker(NamedTuple):
    """A layer that makes channels of a group, its bias, its result with bias, and their columns."""

    layer: Layer
    bias: str
    result: str
    positions: Ints


def _makers(
    analysis: Analysis,
    at: Mapping[Axis, Ints],
    layers: Sequence[Layer],
    readers: Mapping[str, list[Node]],
) -> dict[str, _Maker]:
    """The dense layers that make a group, whose positions are `at` axes, by their results."""
    makers = {}
    for layer in layers:
        positions = at.get(layer.weight.at(layer.kernel.out_axis))
        y = layer.node.outputs[0]
        if layer.dense and positions is not None and not y.constant:
            bias, result = bias_of(layer, readers, analysis.read)
            makers[y.name] = _Maker(layer, bias, result.name, positions)
    return makers


def _scales(node: Node, results: set[str]) -> bool:
    """Whether it adds a layer's bias, or multiplies everything by one number."""
    if ops.adds(node.op):
        return node.outputs[0].name in results
    numbers = [t for t in node.inputs if t is not None and t.constant and set(t.shape or ()) <= {1}]
    return ops.multiplies(node.op) and len(numbers) == 1


def _contracted(node: Node, at: Mapping[Axis, Ints]) -> bool:
    """Whether the product sums over the group, on both sides."""
    pairs = list(ops.SUMS[node.op](node))
    tensors = [(node.inputs[index], axis) for index, axis in pairs]
    return len(tensors) == 2 and all(t is not None and t.at(axis) in at for t, axis in tensors)


def _softmax_behind(node: Node, readers: Mapping[str, list[Node]]) -> bool:
    """Whether only probabilities over keys read the product, scaled or masked before."""
    y = node.outputs[0]
    while len(readers.get(y.name, ())) == 1:
        (reader,) = readers[y.name]
        if reader.op in ops.PROBABILITIES:
            return reader.attrs.get("axis", -1) in (-1, y.rank - 1)
        masks = ops.adds(reader.op) or ops.chooses(reader.op)
        if not (masks or ops.multiplies(reader.op)) or reader.outputs[0].shape != y.shape:
            return False
        others = [t for t in reader.inputs if t is not None and t.name != y.name]
        if ops.multiplies(reader.op) and any(set(t.shape or (0,)) > {1} for t in others):
            return False
        y = reader.outputs[0]
    return False


def _source(node: Node, index: int, nodes: Sequence[Node]) -> str:
    """Name of the result that reaches an input of `node` through moves and scales alone."""
    makers = {t.name: n for n in nodes for t in n.outputs}
    tensor = node.inputs[index]
    while tensor is not None and tensor.name in makers:
        maker = makers[tensor.name]
        moving = [t for t in maker.inputs if t is not None and not t.constant]
        if not (ops.rearranges(maker.op) or ops.multiplies(maker.op)) or not moving:
            return tensor.name
        tensor = moving[0]
    return ""


def grams(
    analysis: Analysis,
    pairs: Mapping[int, Pair],
    batches: Sequence[runtime.Feeds],
    place: Workplace | None = None,
) -> dict[int, tuple[Floats, Floats]]:
    """Measure second moments (heads, n, n) of queries and of keys, of all pairs in one pass.

    Args:
        analysis: the model.
        pairs: by the number of their group.
        batches: feeds of each batch, which all count the same.
        place: where the model runs, None: on the processor.
    """
    if not pairs:
        return {}
    results = {side.result for pair in pairs.values() for side in pair.sides}
    asked = Asked(results, growths(analysis.nodes))
    totals: dict[int, list[Any]] = {g: [0.0, 0.0] for g in pairs}
    for _, values in single_pass(analysis.model, batches, asked, analysis.read, place):
        for g, pair in pairs.items():
            for k, side in enumerate(pair.sides):
                if side.result in values:
                    totals[g][k] = totals[g][k] + _moment(values[side.result], side) / len(batches)
    return {g: (both[0], both[1]) for g, both in totals.items()}


def _moment(values: NDArray[Any], side: Side) -> Floats:
    """(heads, n, n) second moments of a result (…, positions, width)."""
    rows = values.astype(np.float64)
    if side.centred and rows.ndim > 1:
        rows = rows - rows.mean(-2, keepdims=True)
    heads = rows.reshape(-1, rows.shape[-1])[:, side.columns.T]  # (m, heads, n)
    moments: Floats = np.einsum("mhi,mhj->hij", heads, heads, optimize=True) / len(heads)
    return moments


def _roots(gram: Floats, ridge: float) -> tuple[Floats, Floats]:
    """Square roots of matrices (heads, n, n) with a ridge, and their inverses."""
    n = gram.shape[-1]
    amount = ridge * np.trace(gram, axis1=1, axis2=2) / n + 1e-12
    values, vectors = np.linalg.eigh(gram + amount[:, None, None] * np.eye(n))
    root = np.sqrt(np.maximum(values, 1e-12))[:, None, :]
    transposed = vectors.transpose(0, 2, 1)
    return (vectors * root) @ transposed, (vectors / root) @ transposed


def lost_shares(both: tuple[Floats, Floats], ridge: float = RIDGE) -> Floats:
    """(n + 1,) share of the products' squared size that is lost at every width 0 … n.

    Args:
        both: (heads, n, n) second moments of queries and of keys.
        ridge: in shares of the mean variance.
    """
    (queries, _), (keys, _) = (_roots(gram, ridge) for gram in both)
    squares = np.square(np.linalg.svd(queries @ keys, compute_uv=False)).sum(0)
    lost = np.append(np.cumsum(squares[::-1])[::-1], 0.0)
    return np.asarray(lost / max(float(lost[0]), 1e-30))


def factors(both: tuple[Floats, Floats], width: int, ridge: float = RIDGE) -> tuple[Floats, Floats]:
    """A and B (heads, n, width): (qA)ᵀ(kB) is as close to qᵀk as `width` dimensions allow.

    Args:
        both: (heads, n, n) second moments of queries and of keys.
        width: dimensions that stay.
        ridge: in shares of the mean variance.
    """
    (queries, queries_inverse), (keys, keys_inverse) = (_roots(gram, ridge) for gram in both)
    left, values, right = np.linalg.svd(queries @ keys)
    root = np.sqrt(values[:, None, :width])
    a: Floats = queries_inverse @ left[:, :, :width] * root
    b: Floats = keys_inverse @ right.transpose(0, 2, 1)[:, :, :width] * root
    return a, b


def _mixing_matrix(side: Side, factor: Floats, kept: NDArray[np.bool_], size: int) -> Floats:
    """(size, size) what a layer's result is multiplied with, so that `kept` channels hold qA."""
    matrix = np.eye(size)
    for head, own in enumerate(side.columns.T):
        matrix[np.ix_(own, own)] = 0
        matrix[np.ix_(own, own[kept])] = factor[head]
    return matrix


def mixing_matrices(
    pair: Pair, both: tuple[Floats, Floats], kept: NDArray[np.bool_]
) -> Iterator[tuple[Side, Floats]]:
    """For each side the matrix (o, o) that its layer's result is multiplied with.

    Args:
        pair: queries and keys.
        both: (heads, n, n) second moments of either.
        kept: (n_channels,) channels that hold the mixtures; the others become zero.
    """
    for side, factor in zip(pair.sides, factors(both, int(kept.sum())), strict=True):
        size = side.layer.node.outputs[0].size(-1)
        assert size is not None
        yield side, _mixing_matrix(side, factor, kept, size)


def mixed_weights(side: Side, matrix: Floats, read: Read) -> dict[str, NDArray[Any]]:
    """New content of a layer's weight and bias, whose result is multiplied with a matrix (o, o)."""
    weight, bias = read(side.layer.weight.name), read(side.bias) if side.bias else None
    assert weight is not None
    layer = side.layer
    changed = {layer.weight.name: layer.stored(layer.matrix(weight) @ matrix, weight)}
    if bias is not None:
        wide = np.broadcast_to(bias.ravel(), len(matrix)).astype(np.float64)
        changed[side.bias] = (wide @ matrix).reshape(bias.shape).astype(bias.dtype)
    return changed
