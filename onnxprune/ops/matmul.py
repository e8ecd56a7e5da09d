"""Matrix products: MatMul with numpy's broadcasting, Gemm with its transposes."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnxprune.ops import matmul_gradient
from onnxprune.ops.constants import Numbers, constant
from onnxprune.ops.constants_products import linear
from onnxprune.ops.elementwise import broadcast
from onnxprune.ops.facets import LAYERS, LayerForm, state
from onnxprune.ops.gradients import gradient
from onnxprune.ops.moments import moments
from onnxprune.ops.moments_layers import multiplied
from onnxprune.ops.registry import couples, kernel, macs, same, sums
from onnxprune.ops.zero_channels import summed_zeros
from onnxprune.types import Axis, Coupling, Floats, Frozen, Kernel, Node, Tensor, Work


@couples("MatMul")
def matmul(node: Node) -> Iterator[Coupling | Frozen]:
    """(…, m, k) times (…, k, n); a vector lacks the axis that it does not need."""
    a, b = node.inputs[0], node.inputs[1]
    if a is None or b is None or a.rank < 1 or b.rank < 1:
        return
    y = node.outputs[0]
    yield from same(a, -1, b, -2 if b.rank > 1 else -1)
    if b.rank > 1:
        yield from same(b, -1, y, -1)
    if a.rank > 1:
        yield from same(a, -2, y, -2 if b.rank > 1 else -1)
    if a.rank > 1 and b.rank > 1:
        yield from broadcast((_stack(a), _stack(b)), _stack(y))


def _stack(x: Tensor) -> Tensor:
    """`x` without its two matrix axes."""
    return Tensor(x.name, None if x.shape is None else x.shape[:-2])


def _gemm_axes(node: Node) -> tuple[Tensor, int, Tensor, int] | None:
    """A and its summed axis, B and its summed axis."""
    a, b = node.input(0), node.input(1)
    if a is None or b is None:
        return None
    return a, 0 if node.attrs.get("transA", 0) else 1, b, 1 if node.attrs.get("transB", 0) else 0


@couples("Gemm")
def gemm(node: Node) -> Iterator[Coupling | Frozen]:
    """A (m, k) times B (k, n) plus C, each of A and B possibly transposed."""
    axes = _gemm_axes(node)
    if axes is None:
        return
    a, ka, b, kb = axes
    y = node.outputs[0]
    yield from same(a, ka, b, kb)
    yield from same(a, 1 - ka, y, 0)
    yield from same(b, 1 - kb, y, 1)
    yield from broadcast((node.input(2),), y)


@sums("MatMul")
def sums_matmul(node: Node) -> Iterator[tuple[int, int]]:
    """The shared axis; a stored operand brings its zeros along."""
    a, b = node.inputs[0], node.inputs[1]
    if a is not None and b is not None and not (a.constant or b.constant):
        yield 0, -1
        yield 1, -2 if b.rank > 1 else -1


@sums("Gemm")
def sums_gemm(node: Node) -> Iterator[tuple[int, int]]:
    """The shared axis; a stored operand brings its zeros along."""
    axes = _gemm_axes(node)
    if axes is not None and not (axes[0].constant or axes[2].constant):
        yield 0, axes[1]
        yield 1, axes[3]


@macs("Gemm")
def macs_gemm(node: Node) -> Work | None:
    """M · n · k."""
    axes = _gemm_axes(node)
    if axes is None:
        return None
    a, ka, b, kb = axes
    if a.sample is None or b.sample is None:
        return None
    rows = a.sample[1 - ka]
    return Work(float(rows * math.prod(b.sample)), (a.at(1 - ka), b.at(kb), b.at(1 - kb)))


@macs("MatMul")
def macs_matmul(node: Node) -> Work | None:
    """Every entry of the result times the summed axis."""
    a, b, y = node.inputs[0], node.inputs[1], node.outputs[0]
    if a is None or b is None or not a.sample or b.sample is None or y.sample is None:
        return None
    return Work(
        float(math.prod(y.sample) * a.sample[-1]),
        (a.at(-1), *(y.at(i) for i in range(y.rank))),
    )


@kernel("Gemm")
def kernel_gemm(node: Node) -> Kernel:
    """(in, out), or (out, in) when transposed."""
    transposed = bool(node.attrs.get("transB", 0))
    return Kernel(1, 0 if transposed else 1, 1 if transposed else 0, bias=2, channel=1)


@kernel("MatMul")
def kernel_matmul(node: Node) -> Kernel | None:
    """The constant operand: (…, in, out) on the right, (…, out, in) on the left."""
    a, b = node.inputs[0], node.inputs[1]
    if b is not None and b.constant and b.rank > 1:
        return Kernel(1, b.rank - 1, b.rank - 2, channel=-1)
    if a is not None and a.constant and a.rank > 1:
        return Kernel(0, a.rank - 2, a.rank - 1, channel=-2)
    return None


@constant("MatMul")
def constant_matmul(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """What a stored matrix makes of constants; zeros of either factor where both vary."""
    known = list(linear(node, numbers))
    yield from known or summed_zeros(node, numbers)


state(
    LAYERS,
    LayerForm("dense", 2, lambda attrs, shape: shape[0 if attrs.get("transB", 0) else 1]),
    "Gemm",
)
state(LAYERS, LayerForm("dense", None, lambda attrs, shape: shape[1]), "MatMul")
constant("Gemm")(linear)
moments("Gemm", "MatMul")(multiplied)
gradient("Gemm")(matmul_gradient.gemm)
gradient("MatMul")(matmul_gradient.matmul)
