"""Gradients of matrix products."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, sizes_of, tensor_of
from onnxprune.types import Node, Tensor

__all__ = ["fused_matmul", "gemm", "matmul"]


def matmul(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy · Bᵀ and Aᵀ · dy, summed over batches that one side repeats."""
    return _product(t, tensor_of(node), tensor_of(node, 1), dy)


def _product(t: Builder, a: Tensor, b: Tensor, dy: str) -> Gradients:
    need(a.rank >= 2 and b.rank >= 2)
    to_a = t.emit("MatMul", dy, t.swapped(b.name, b.rank))
    if b.rank == 2:
        k, n = (t.constant([-1, size], np.int64) for size in sizes_of(b))
        rows, grads = t.emit("Reshape", a.name, k), t.emit("Reshape", dy, n)
        return [to_a, t.emit("Gemm", rows, grads, transA=1)]
    to_b = t.emit("MatMul", t.swapped(a.name, a.rank), dy)
    return [t.summed(to_a, a, _batched(a, b)), t.summed(to_b, b, _batched(b, a))]


def _batched(like: Tensor, other: Tensor) -> Tensor:
    """The shape of a gradient of `like` before it is summed over batches."""
    assert like.shape is not None and other.shape is not None
    pairs = zip_longest(like.shape[-3::-1], other.shape[-3::-1], fillvalue=1)
    lead = [b if a == 1 else a if b in (1, a) else f"{a} or {b}" for a, b in pairs]
    return Tensor("", (*lead[::-1], *like.shape[-2:]))


def fused_matmul(t: Builder, node: Node, dy: str) -> Gradients:
    """The same of factors that are turned first, with a number before the product."""
    need(not node.attrs.get("transBatchA", 0) and not node.attrs.get("transBatchB", 0))
    turned = [int(node.attrs.get(name, 0)) for name in ("transA", "transB")]
    factors = [tensor_of(node, k) for k in range(2)]
    plain = [_turned(t, x) if turn else x for x, turn in zip(factors, turned, strict=True)]
    grads = t.scaled(dy, float(node.attrs.get("alpha", 1.0)))
    found = _product(t, plain[0], plain[1], grads)
    return [
        t.swapped(grad, x.rank) if turn and grad else grad
        for grad, x, turn in zip(found, factors, turned, strict=True)
    ]


def _turned(t: Builder, x: Tensor) -> Tensor:
    """A tensor with its last two axes exchanged."""
    need(x.rank >= 2)
    assert x.shape is not None
    return Tensor(t.swapped(x.name, x.rank), (*x.shape[:-2], *x.shape[:-3:-1]))


def gemm(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy · Bᵀ and Aᵀ · dy; a bias gets the sum over rows."""
    a, b, out = tensor_of(node), tensor_of(node, 1), node.outputs[0]
    alpha, beta = (float(node.attrs.get(name, 1.0)) for name in ("alpha", "beta"))
    of_a, of_b = (int(node.attrs.get(name, 0)) for name in ("transA", "transB"))
    if of_a:
        to_a = t.emit("Gemm", b.name, dy, transA=of_b, transB=1, alpha=alpha)
    else:
        to_a = t.emit("Gemm", dy, b.name, transB=1 - of_b, alpha=alpha)
    if of_b:
        to_b = t.emit("Gemm", dy, a.name, transA=1, transB=of_a, alpha=alpha)
    else:
        to_b = t.emit("Gemm", a.name, dy, transA=1 - of_a, alpha=alpha)
    found: Gradients = [to_a, to_b]
    if node.input(2) is not None:
        total = t.summed(dy, tensor_of(node, 2), out)
        found.append(t.scaled(total, beta) if beta != 1 else total)
    return found
