"""Gradients of matrix products."""

from __future__ import annotations

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, sizes_of, tensor_of
from onnxprune.types import Node, Tensor

__all__ = ["gemm", "matmul"]


def matmul(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy · Bᵀ and Aᵀ · dy, summed over batches that one side repeats."""
    a, b, out = tensor_of(node), tensor_of(node, 1), node.outputs[0]
    need(a.rank >= 2 and b.rank >= 2)
    to_a = t.emit("MatMul", dy, t.swapped(b.name, b.rank))
    if b.rank == 2:
        k, n = (t.constant([-1, size], np.int64) for size in sizes_of(b))
        rows, grads = t.emit("Reshape", a.name, k), t.emit("Reshape", dy, n)
        return [to_a, t.emit("Gemm", rows, grads, transA=1)]
    to_b = t.emit("MatMul", t.swapped(a.name, a.rank), dy)
    return [t.summed(to_a, a, _batched(out, a)), t.summed(to_b, b, _batched(out, b))]


def _batched(out: Tensor, like: Tensor) -> Tensor:
    """The shape of a gradient of `like` before it is summed over batches."""
    assert out.shape is not None and like.shape is not None
    return Tensor("", (*out.shape[:-2], *like.shape[-2:]))


def gemm(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy · Bᵀ and Aᵀ · dy; a bias gets the sum over rows."""
    a, b, out = tensor_of(node), tensor_of(node, 1), node.outputs[0]
    plain = node.attrs.get("alpha", 1.0) == 1 and node.attrs.get("beta", 1.0) == 1
    need(plain and not node.attrs.get("transA", 0))
    turned = int(node.attrs.get("transB", 0))
    to_a = t.emit("Gemm", dy, b.name, transB=1 - turned)
    pair = (dy, a.name) if turned else (a.name, dy)
    found: Gradients = [to_a, t.emit("Gemm", *pair, transA=1)]
    if len(node.inputs) > 2:
        found.append(t.summed(dy, tensor_of(node, 2), out))
    return found
