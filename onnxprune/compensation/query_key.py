"""The width of queries and keys: fewer dimensions that give nearly the same products.

Scores are products qᵀk of two linear maps, so that any Q = qA and K = kB with ABᵀ close to the
identity will do. With second moments G_Q and G_K of queries and keys, the squared error
E(qᵀ(I - ABᵀ)k)², for queries independent of keys, is |G_Q^½ (I - ABᵀ) G_K^½|²: least for the
truncated singular value decomposition of G_Q^½ G_K^½. CORP (2026) chooses dimensions first and then
solves the same quadratic on them; here what stays is mixed from all. Softmax over keys does not see
what all keys share, so that there G_K is centred. Rotary embeddings stand between: then
dimensions just go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.calibration.incremental_run import opened
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.ir import runtime, skeleton
from onnxprune.types import Floats, Group, Ints, Node

__all__ = ["Pair", "Side", "applied", "factors", "grams", "pairs_of", "tails", "turn", "turned"]

#: Share of the mean variance that is added to every direction.
RIDGE = 1e-3


@dataclass(frozen=True)
class Side:
    """Queries or keys: the layer that makes them, its result with bias, and that bias.

    `columns` (n_channels, heads) are places on the result's last axis; `centred`: what all
    positions share does not count.
    """

    layer: Layer
    bias: str
    result: str
    columns: Ints
    centred: bool


@dataclass(frozen=True)
class Pair:
    """Two sides whose products are all that becomes of a group."""

    sides: tuple[Side, Side]


def pairs_of(analysis: Analysis, layers: Sequence[Layer]) -> dict[int, Pair]:
    """The groups that are the width of queries and keys, and nothing else."""
    readers = analysis.index.readers
    made = (_pair(analysis, group, layers, readers) for group in analysis.groups)
    return {g: pair for g, pair in enumerate(made) if pair is not None}


def _pair(
    analysis: Analysis, group: Group, layers: Sequence[Layer], readers: Mapping[str, list[Node]]
) -> Pair | None:
    at = dict(group.axes())
    ends = {}
    for layer in layers:
        positions = at.get(layer.weight.at(layer.kernel.out_axis))
        if layer.dense and positions is not None and not layer.node.outputs[0].constant:
            bias, result = bias_of(layer, readers, analysis.read)
            ends[layer.node.outputs[0].name] = (layer, bias, result.name, positions)
    products = list[Node]()
    for node in analysis.nodes:
        touched = any(t.at(k) in at for t in node.tensors for k in range(t.rank))
        if not touched or node.outputs[0].name in ends:
            continue
        if _is_product(node):
            products.append(node)
        elif not ops.rearranges(node.op) and not _scales(node, {end[2] for end in ends.values()}):
            return None
    if len(products) != 1 or not ends or not _contracted(products[0], at):
        return None
    keys = _source(products[0], 1, analysis.nodes) if _softmax_behind(products[0], readers) else ""
    sides = [
        Side(layer, bias, result, columns, keys == result and len(ends) == 2)
        for layer, bias, result, positions in ends.values()
        for columns in np.moveaxis(positions.reshape(group.channels, group.heads, -1), 2, 0)
    ]
    return Pair((sides[0], sides[1])) if len(sides) == 2 else None


def _is_product(node: Node) -> bool:
    """Whether two matrices of activations are multiplied."""
    dense = node.op in ops.LAYERS and ops.LAYERS[node.op].kind == "dense"
    return dense and not ops.kernels_of(node)


def _scales(node: Node, results: set[str]) -> bool:
    """Whether it adds a layer's bias, or multiplies everything by one number."""
    if ops.adds(node.op):
        return node.outputs[0].name in results
    numbers = [t for t in node.inputs if t is not None and t.constant and set(t.shape or ()) <= {1}]
    return ops.multiplies(node.op) and len(numbers) == 1


def _contracted(node: Node, at: Mapping[Any, Any]) -> bool:
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
    """The last result of more than one parent on the way to an input: a layer's, with bias."""
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
    analysis: Analysis, pairs: Mapping[int, Pair], batches: Sequence[runtime.Feeds]
) -> dict[int, tuple[Floats, Floats]]:
    """(heads, n, n) second moments of both sides of every pair, in one pass."""
    if not pairs:
        return {}
    bare = skeleton.skeleton(analysis.model)
    gives = sorted({side.result for pair in pairs.values() for side in pair.sides})
    session, needs = opened(bare, list(bare.graph.node), batches[0], analysis.read, (gives, ()))
    totals: dict[int, list[Any]] = {g: [0.0, 0.0] for g in pairs}
    for feeds in batches:
        values = runtime.run(session, {name: feeds[name] for name in needs})
        for g, pair in pairs.items():
            for k, side in enumerate(pair.sides):
                totals[g][k] = totals[g][k] + _moment(values[side.result], side) / len(batches)
    return {g: (both[0], both[1]) for g, both in totals.items()}


def _moment(values: NDArray[Any], side: Side) -> Floats:
    rows = values.astype(np.float64)
    if side.centred and rows.ndim > 1:
        rows = rows - rows.mean(-2, keepdims=True)
    heads = rows.reshape(-1, rows.shape[-1])[:, side.columns.T]  # (m, heads, n)
    moments: Floats = np.einsum("mhi,mhj->hij", heads, heads, optimize=True) / len(heads)
    return moments


def _roots(gram: Floats) -> tuple[Floats, Floats]:
    """(heads, n, n) square roots and their inverses."""
    n = gram.shape[-1]
    ridge = RIDGE * np.trace(gram, axis1=1, axis2=2) / n + 1e-12
    values, vectors = np.linalg.eigh(gram + ridge[:, None, None] * np.eye(n))
    root = np.sqrt(np.maximum(values, 1e-12))[:, None, :]
    turned = vectors.transpose(0, 2, 1)
    return (vectors * root) @ turned, (vectors / root) @ turned


def tails(both: tuple[Floats, Floats]) -> Floats:
    """(n + 1,) share of the products' squared size that is lost at every width."""
    (one, _), (two, _) = map(_roots, both)
    squares = np.square(np.linalg.svd(one @ two, compute_uv=False)).sum(0)
    lost = np.append(np.cumsum(squares[::-1])[::-1], 0.0)
    return np.asarray(lost / max(float(lost[0]), 1e-30))


def factors(both: tuple[Floats, Floats], width: int) -> tuple[Floats, Floats]:
    """(heads, n, width) A and B: (qA)ᵀ(kB) is as close to qᵀk as `width` dimensions allow."""
    (one, one_inverse), (two, two_inverse) = map(_roots, both)
    left, values, right = np.linalg.svd(one @ two)
    root = np.sqrt(values[:, None, :width])
    a: Floats = one_inverse @ left[:, :, :width] * root
    b: Floats = two_inverse @ right.transpose(0, 2, 1)[:, :, :width] * root
    return a, b


def turn(side: Side, factor: Floats, kept: NDArray[np.bool_], size: int) -> Floats:
    """(size, size) what a layer's result is multiplied with: `factor` lands on `kept` channels."""
    matrix = np.eye(size)
    for head, own in enumerate(side.columns.T):
        matrix[np.ix_(own, own)] = 0
        matrix[np.ix_(own, own[kept])] = factor[head]
    return matrix


def turned(
    pair: Pair, both: tuple[Floats, Floats], kept: NDArray[np.bool_]
) -> Iterator[tuple[Side, Floats]]:
    """For each side the matrix that its layer's result is multiplied with."""
    for side, factor in zip(pair.sides, factors(both, int(kept.sum())), strict=True):
        size = side.layer.node.outputs[0].size(-1)
        assert size is not None
        yield side, turn(side, factor, kept, size)


def applied(
    side: Side, matrix: Floats, read: Callable[[str], NDArray[Any] | None]
) -> dict[str, NDArray[Any]]:
    """New content of a layer's weight and bias, whose result is multiplied with `matrix`."""
    weight, bias = read(side.layer.weight.name), read(side.bias) if side.bias else None
    assert weight is not None
    layer = side.layer
    changed = {layer.weight.name: layer.stored(layer.matrix(weight) @ matrix, weight)}
    if bias is not None:
        wide = np.broadcast_to(bias.ravel(), len(matrix)).astype(np.float64)
        changed[side.bias] = (wide @ matrix).reshape(bias.shape).astype(bias.dtype)
    return changed
