"""Gradients of operators that rename positions, or hand on what they read."""

from __future__ import annotations

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, sizes_of, tensor_of, text_of, to_first
from onnxprune.types import Node, Tensor

__all__ = [
    "cast",
    "depth_to_space",
    "expand",
    "passed",
    "reshape",
    "space_to_depth",
    "tile",
    "transpose",
]


def reshape(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy in the shape of the data."""
    return to_first(node, t.like(dy, tensor_of(node)))


def transpose(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy with its axes put back."""
    perm = list(node.attrs.get("perm") or reversed(range(tensor_of(node).rank)))
    return [t.emit("Transpose", dy, perm=np.argsort(perm).tolist())]


def expand(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy summed over what was repeated."""
    return to_first(node, t.summed(dy, tensor_of(node), node.outputs[0]))


def passed(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy itself, for what hands on its first input."""
    return to_first(node, dy)


def cast(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy in the type of the weights, behind casts to a real type."""
    need(int(node.attrs["to"]) in (1, 11))
    return to_first(node, t.cast(dy))


def tile(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy summed over the copies."""
    x = tensor_of(node)
    repeats = tensor_of(node, 1).ints()
    need(repeats is not None and None not in repeats)
    entries = list[str]()
    for axis, count in enumerate(repeats or ()):
        place = t.constant([axis], np.int64)
        entries += [t.constant([count], np.int64), t.emit("Gather", t.sizes(x.name), place)]
    apart = t.emit("Reshape", dy, t.emit("Concat", *entries, axis=0))
    return to_first(node, t.along("ReduceSum", apart, list(range(0, 2 * x.rank, 2)), keep=False))


def depth_to_space(t: Builder, node: Node, dy: str) -> Gradients:
    """Blocks of positions put back into channels."""
    x, block = tensor_of(node), int(node.attrs["blocksize"])
    back = t.emit("SpaceToDepth", dy, blocksize=block)
    if text_of(node, "mode", "DCR") == "DCR":
        return [back]
    (channels,) = sizes_of(Tensor("", (x.size(1) or "",)))
    apart = np.arange(channels).reshape(block, block, -1)
    return [t.take(back, 1, apart.transpose(2, 0, 1).ravel())]


def space_to_depth(t: Builder, node: Node, dy: str) -> Gradients:
    """Channels put back into blocks of positions."""
    return [t.emit("DepthToSpace", dy, blocksize=int(node.attrs["blocksize"]))]
