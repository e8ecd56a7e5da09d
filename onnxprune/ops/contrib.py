"""Onnxruntime's fused operators: matrix products, activations, normalisations, channel-last pools.

An operator that is a standard one with something elementwise behind it has the standard one's
rules. Where a normalisation gives its statistics as further results, these change with every
removal: those couplings are inexact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from onnxprune.ops import (
    activations,
    contrib_gradient,
    elementwise,
    matmul,
    matmul_gradient,
    norm,
    norm_gradient,
    scaled_statistics,
)
from onnxprune.ops.constants import constant
from onnxprune.ops.constants import elementwise as element_by_element
from onnxprune.ops.constants_products import rounded
from onnxprune.ops.facets import AVERAGES, mark, state
from onnxprune.ops.gradients import behind_bias, gradient, joint_gradient
from onnxprune.ops.registry import (
    barrier,
    centres,
    couples,
    inexact,
    kernel,
    macs,
    same,
    same_but,
    shrinks,
    sums,
)
from onnxprune.ops.turning import NORMS, Norm
from onnxprune.ops.zero_channels import summed_zeros
from onnxprune.types import Coupling, Edit, Frozen, Kept, Kernel, Node, Tensor, Work

MS = "com.microsoft:"
PRODUCTS = (MS + "FusedMatMul", MS + "TransposeMatMul")
SKIPPED = (MS + "SkipLayerNormalization", MS + "SkipSimplifiedLayerNormalization")
STATISTICS = "the statistics of the normalisation"

couples(MS + "FusedGemm")(matmul.gemm)
sums(MS + "FusedGemm")(matmul.sums_gemm)
macs(MS + "FusedGemm")(matmul.macs_gemm)
kernel(MS + "FusedGemm")(matmul.kernel_gemm)
couples(MS + "Gelu", MS + "QuickGelu", MS + "ScaledSiLU")(elementwise.unary)
couples(MS + "BiasGelu", MS + "FastGelu", MS + "GatedAdd")(elementwise.broadcasting)
couples("SimplifiedLayerNormalization")(norm.layer_normalization)
sums("SimplifiedLayerNormalization")(norm.squares)
shrinks("SimplifiedLayerNormalization")(norm.shrink_normalization)


class _Side:
    """A factor of a product as (batch …, row, column), whatever is transposed."""

    def __init__(self, tensor: Tensor, node: Node, letter: str) -> None:
        order = list(range(tensor.rank))
        if node.attrs.get(f"transBatch{letter}", 0) and len(order) > 2:
            order = [*order[1:-1], 0, order[-1]]
        if node.attrs.get(f"trans{letter}", 0):
            order[-2:] = order[:-3:-1]
        self.tensor, self.stack = tensor, order[:-2]
        self.row, self.column = order[-2:]
        self.plain = order == sorted(order)


def _sides(node: Node) -> tuple[_Side, _Side] | None:
    a, b = node.input(0), node.input(1)
    if a is None or b is None or a.rank < 2 or b.rank < 2:
        return None
    return _Side(a, node, "A"), _Side(b, node, "B")


@couples(*PRODUCTS)
def fused_matmul(node: Node) -> Iterator[Coupling | Frozen]:
    """(…, m, k) times (…, k, n), either with its axes in another order."""
    sides = _sides(node)
    if sides is None:
        return
    (a, b), y = sides, node.outputs[0]
    yield from same(a.tensor, a.column, b.tensor, b.row)
    yield from same(a.tensor, a.row, y, -2)
    yield from same(b.tensor, b.column, y, -1)
    for side in sides:
        yield from _stacked(side.tensor, side.stack, y)


def _stacked(x: Tensor, stack: Sequence[int], y: Tensor) -> Iterator[Coupling | Frozen]:
    """Axes before the matrix are broadcast."""
    for j, i in zip(range(y.rank - 3, -1, -1), reversed(stack), strict=False):
        if x.size(i) is None and y.size(j) is not None:
            yield Frozen(y.at(j), f"'{x.name}' may or may not be broadcast over it")
        yield from same(x, i, y, j)


@sums(*PRODUCTS)
def sums_fused_matmul(node: Node) -> Iterator[tuple[int, int]]:
    """The shared axis; a stored operand brings zeros along, but is known as a kernel only."""
    sides = _sides(node)
    if sides is None or kernel_fused_matmul(node) is not None:
        return
    for index, axis in ((0, sides[0].column), (1, sides[1].row)):
        if not sides[index].tensor.constant:
            yield index, axis


@macs(*PRODUCTS)
def macs_fused_matmul(node: Node) -> Work | None:
    """Every entry of the result times the summed axis."""
    sides, y = _sides(node), node.outputs[0]
    sample = sides[0].tensor.sample if sides is not None else None
    if sides is None or sample is None or y.sample is None:
        return None
    a = sides[0]
    axes = (a.tensor.at(a.column), *(y.at(i) for i in range(y.rank)))
    return Work(float(math.prod(y.sample) * sample[a.column]), axes)


@kernel(*PRODUCTS)
def kernel_fused_matmul(node: Node) -> Kernel | None:
    """A stored matrix on the right, beside data whose last axis is the summed one."""
    sides = _sides(node)
    if sides is None:
        return None
    a, b = sides
    if b.tensor.constant and b.tensor.rank == 2 and a.column == a.tensor.rank - 1:
        return Kernel(1, b.column, b.row, channel=-1)
    return None


def _last(node: Node, x: Tensor | None, y: Tensor) -> Iterator[Coupling]:
    """Couple the last axes, unless statistics over them are asked for."""
    kept = scaled_statistics.keeps(node, _deviations(node))
    yield from same(x, -1, y, -1) if kept else inexact(STATISTICS, same(x, -1, y, -1))


def _deviations(node: Node) -> list[Tensor]:
    """Means and deviations among the results, which have size 1 at the end."""
    y = node.outputs[0]
    return [t for t in node.outputs[1:] if t.rank == y.rank and t.size(-1) != y.size(-1)]


@couples(*SKIPPED)
def skip_normalization(node: Node) -> Iterator[Coupling]:
    """Sum of data, skip and bias, then LayerNormalization; the last result is the sum itself."""
    x, y = node.input(0), node.outputs[0]
    if x is None:
        return
    for result in node.outputs:
        yield from same_but((-1,), x, result)
        yield from _last(node, x, result)
    for other in node.inputs[1:]:
        for k in range(2, (other.rank if other is not None else 0) + 1):
            yield from same(other, -k, y, -k)
        if other is not None and other.rank > 0:
            yield from _last(node, other, y)


@sums(MS + "SkipSimplifiedLayerNormalization")
def summed_squares(node: Node) -> Iterator[tuple[int, int]]:
    """Of data, skip and bias, whose sum is normalised."""
    return scaled_statistics.last_axis(node, (0, 1, 3), _deviations(node))


@centres(MS + "SkipLayerNormalization")
def summed_centred_squares(node: Node) -> Iterator[tuple[int, int]]:
    """The same behind γ and β."""
    return scaled_statistics.last_axis(node, (0, 1, 4), _deviations(node))


@shrinks(*SKIPPED)
def shrink_skip_normalization(node: Node, kept: Kept) -> Edit:
    """The squares of fewer positions, divided by the width before."""
    return scaled_statistics.rescaled(node, kept, (2, 1e-12), _deviations(node))


@couples(MS + "EmbedLayerNormalization")
def embed_normalization(node: Node) -> Iterator[Coupling]:
    """Rows of three tables by number, summed and normalised; rows and places stay."""
    y = node.outputs[0]
    for k in (0, 1, 7):
        yield from same(node.input(k), 0, y, 0)
    for result in node.outputs[1:]:
        yield from same(result, 0, y, 0)
        if result.rank == y.rank:
            yield from _last(node, result, y)
    for k in range(2, 7):
        table = node.input(k)
        if table is not None:
            yield from _last(node, table, y)


@centres(MS + "EmbedLayerNormalization")
def looked_up_squares(node: Node) -> Iterator[tuple[int, int]]:
    """Of the three tables, whose rows are added."""
    return scaled_statistics.last_axis(node, (2, 3, 4), ())


@shrinks(MS + "EmbedLayerNormalization")
def shrink_embed_normalization(node: Node, kept: Kept) -> Edit:
    """The squares of fewer positions, divided by the width before."""
    return scaled_statistics.rescaled(node, kept, (5, 1e-12), ())


@couples(MS + "NhwcMaxPool")
def nhwc_pool(node: Node) -> Iterator[Coupling]:
    """Samples and channels, which are last."""
    x, y = node.inputs[0], node.outputs[0]
    yield from same(x, 0, y, 0)
    yield from same(x, -1, y, -1)


mark(AVERAGES, MS + "EmbedLayerNormalization", *SKIPPED)
joint_gradient(*SKIPPED)(norm_gradient.skipped)
gradient(*PRODUCTS)(matmul_gradient.fused_matmul)
gradient(MS + "FusedGemm")(contrib_gradient.fused_gemm)
gradient(MS + "BiasGelu")(behind_bias(activations.gelu_slope))
state(NORMS, Norm(2, 3, True, (0, 1, 4), 3), SKIPPED[0])
state(NORMS, Norm(2, None, False, (0, 1, 3), 3), SKIPPED[1])
constant(*PRODUCTS)(summed_zeros)
constant(MS + "FusedGemm")(rounded)
constant(MS + "BiasGelu")(element_by_element)

NO_KERNEL = "onnxruntime runs it on no CPU, so nothing could prove the cut"
barrier(NO_KERNEL, *(MS + op for op in (
    "BiasAdd", "BiasDropout", "BiasSoftmax", "BiasSplitGelu", "FusedMatMulActivation",
    "GatedRelativePositionBias", "GemmFastGelu", "GemmaRotaryEmbedding", "GroupNorm",
    "LongformerAttention", "NhwcConv", "NhwcFusedConv", "PackedAttention",
    "PackedMultiHeadAttention", "RelativePositionBias", "SkipGroupNorm")))  # fmt: skip
BLOCKED = "stores its channels in blocks made for one processor; save without layout optimisation"
barrier(BLOCKED, *(f"com.microsoft.nchwc:{op}" for op in (
    "AveragePool", "Conv", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReorderInput",
    "ReorderOutput", "Upsample")))  # fmt: skip
