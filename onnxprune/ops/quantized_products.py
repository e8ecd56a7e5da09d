"""Matrix products of integers, and of reals that are quantised on the way.

Sums of integers are exact, so that what is removed leaves the others as they were, bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from onnxprune.ops.constants import constant
from onnxprune.ops.constants_products import rounded
from onnxprune.ops.facets import INTEGER_RESULTS, PAIRS, mark, state
from onnxprune.ops.matmul import gemm, kernel_gemm, kernel_matmul, macs_gemm, macs_matmul, matmul
from onnxprune.ops.quantized import MS, at, only, parameters, seen_as
from onnxprune.ops.registry import couples, jumps, kernel, macs, quantized, sums
from onnxprune.types import Coupling, Fact, Kernel, Node, Quantized, Work

#: For each product of matrices: inputs A, B, then scale and zero point of A, of B and of the
#: result, then the bias.
PRODUCTS: dict[str, tuple[int | None, ...]] = {
    "QLinearMatMul": (0, 3, 1, 2, 4, 5, 6, 7, None),
    "MatMulInteger": (0, 1, None, 2, None, 3, None, None, None),
    f"{MS}MatMulIntegerToFloat": (0, 1, 2, 4, 3, 5, None, None, 6),
    f"{MS}DynamicQuantizeMatMul": (0, 1, None, None, 2, 3, None, None, 4),
}
DYNAMIC = f"{MS}DynamicQuantizeMatMul"
GEMM = f"{MS}QGemm"


def _product(node: Node) -> tuple[Node, list[Coupling] | None]:
    """The node as MatMul, and the couplings of its scales and zero points."""
    a, b, *given, bias = PRODUCTS[node.op]
    assert a is not None and b is not None
    view = seen_as("MatMul", node, a, b)
    left, right = view.inputs
    y, parts = view.outputs[0], [at(node, k) for k in given]
    if left is None or right is None or left.rank < 1 or right.rank < 1 or y.rank < 1:
        return view, None
    along = [
        parameters(left, -2, *parts[:2]),
        parameters(right, -1, *parts[2:4]),
        parameters(y, -2, *parts[4:]),
        parameters(y, -1, at(node, bias)),
    ]
    return view, None if None in along else [c for found in along for c in found or ()]


@couples(*PRODUCTS)
def product(node: Node) -> Iterator[Fact]:
    """A by rows, B by columns; the summed axis where one of them is stored."""
    view, along = _product(node)
    a, b = view.inputs
    if along is None or a is None or b is None:
        return
    summed = {a.at(-1), b.at(-2 if b.rank > 1 else -1)}
    stored = a.constant or b.constant
    for fact in matmul(view):
        if stored or not (isinstance(fact, Coupling) and {fact.a, fact.b} & summed):
            yield fact
    yield from along


jumps(DYNAMIC)  # it quantises what it reads


@sums(DYNAMIC)
def sums_dynamic(node: Node) -> Iterator[tuple[int, int]]:
    """A is quantised by its range, which always includes zero."""
    a = node.inputs[0]
    yield from ((0, k) for k in range(a.rank if a is not None else 0))


@macs(*PRODUCTS)
def macs_product(node: Node) -> Work | Sequence[Work] | None:
    """Every entry of the result times the summed axis."""
    return macs_matmul(_product(node)[0])


@kernel(*PRODUCTS)
def kernel_product(node: Node) -> Kernel | None:
    """The constant operand."""
    found = only(kernel_matmul(_product(node)[0]))
    if found is None:
        return None
    a, b, *_, bias = PRODUCTS[node.op]
    assert a is not None and b is not None
    index, data = (b, a) if found.index == 1 else (a, b)
    return replace(found, index=index, data=data, bias=bias)


@quantized(*PRODUCTS)
def quantized_product(node: Node) -> Iterator[Quantized]:
    """Rows of A, columns of B."""
    a, b, a_scale, a_zero, b_scale, b_zero, *_ = PRODUCTS[node.op]
    assert a is not None and b is not None
    if a_zero is not None:
        yield Quantized(a, a_scale, a_zero, -2)
    yield Quantized(b, b_scale, b_zero, -1)


def _gemm_column(node: Node) -> int:
    """The axis of B that makes the result's columns."""
    return 0 if node.attrs.get("transB", 0) else 1


@couples(GEMM)
def q_gemm(node: Node) -> Iterator[Fact]:
    """Gemm; B's scale and zero point may differ from column to column."""
    a, b, y = node.input(0), node.input(3), node.outputs[0]
    if a is None or b is None or not (a.constant or b.constant):
        return
    along = [
        parameters(a, 0, node.input(1), node.input(2)),
        parameters(b, _gemm_column(node), node.input(4), node.input(5)),
        parameters(y, 0, node.input(7), node.input(8)),
    ]
    if None not in along:
        yield from gemm(seen_as("Gemm", node, 0, 3, 6))
        yield from (c for found in along for c in found or ())


@macs(GEMM)
def macs_q_gemm(node: Node) -> Work | Sequence[Work] | None:
    """M · n · k."""
    return macs_gemm(seen_as("Gemm", node, 0, 3))


@kernel(GEMM)
def kernel_q_gemm(node: Node) -> Kernel | None:
    """(in, out), or (out, in) when transposed."""
    found = only(kernel_gemm(seen_as("Gemm", node, 0, 3)))
    return found and replace(found, index=3, bias=6, data=0)


@quantized(GEMM)
def quantized_gemm(node: Node) -> Iterator[Quantized]:
    """Data, and weight by column."""
    yield from (Quantized(0, 1, 2), Quantized(3, 4, 5, _gemm_column(node)))


mark(INTEGER_RESULTS, "QLinearMatMul")
state(PAIRS, ((Quantized(1, None, 3), Quantized(0, None, 2)),), "MatMulInteger")
state(PAIRS, ((Quantized(1, 3, 5), Quantized(0, 2, 4)),), f"{MS}MatMulIntegerToFloat")
state(PAIRS, ((Quantized(3, 4, 5), Quantized(0, 1, 2)),), "QLinearMatMul", GEMM)
state(PAIRS, ((Quantized(1, 2, 3), None),), DYNAMIC)
state(PAIRS, ((Quantized(1, 4, 7), Quantized(0, 3, 6)),), f"{MS}QAttention")
constant(*PRODUCTS, GEMM)(rounded)
