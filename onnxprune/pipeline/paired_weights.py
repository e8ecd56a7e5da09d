"""Keep quantised weights so small that no processor saturates on them.

Some kernels add two products of an unsigned byte, up to 255, and a signed one in 16 bits. That is
exact if no two neighbouring weights of a channel add up to more than 128: 255 · 128 < 2¹⁵. So a
channel where they do gets a larger scale, by a factor of two at most. Which weights are neighbours
depends on the kernel: along the summed axis of a matrix; in a convolution with channels or with
the window's positions last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.ir import graph, skeleton, tensors
from onnxprune.ir.graph import ModelProto

__all__ = ["INTEGERS", "SCALE", "Narrowed", "narrow", "neighbours"]

#: What the quantizer appends to a weight's name for its integers and for their scale.
INTEGERS = "_quantized"
SCALE = "_scale"
#: And before that to the name of a matrix that it turned for MatMul.
TRANSPOSED = "_Transposed"
#: The largest sum of two neighbours as reals, in steps: rounding adds one at most.
LARGEST = 127
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Narrowed:
    """What became of the weights.

    Attributes:
        weights: how many were looked at.
        bits: of the eight, what their channels keep on average and at least.
    """

    weights: int
    bits: tuple[float, float]

    def note(self) -> str:
        """What the report says; empty where nothing was changed."""
        if self.bits[0] > 7.999:
            return ""
        mean, least = self.bits
        return (
            f"{self.weights} weights keep {mean:.1f} of 8 bits, the least channel {least:.1f}, so "
            "that no processor saturates on sums of products; full_range = true keeps all"
        )


def narrow(before: ModelProto, quantized: ModelProto) -> Narrowed:
    """Make scales larger where neighbouring weights could saturate a sum of two products.

    Args:
        before: the model with real weights.
        quantized: what the quantizer made of it, with symmetric weights; it is changed in place.
    """
    reals, stored = graph.constants(before), graph.constants(quantized)
    kept, changed = list[NDArray[np.float64]](), dict[str, NDArray[Any]]()
    for integers, layer in _factors(quantized):
        name, bytes_ = integers.removesuffix(INTEGERS), tensors.array(stored[integers])
        if bytes_.dtype != np.int8 or bytes_.ndim < 2 or name + SCALE not in stored:
            continue
        scale = tensors.array(stored[name + SCALE])
        weight = _real(reals, name, (bytes_, scale), _channel_axis(layer))
        least = _least_scale(weight.astype(np.float64), layer)
        if scale.size not in (1, len(least)):
            continue
        wider = np.maximum(scale, (least if scale.size > 1 else least.max()).reshape(scale.shape))
        shares = np.divide(scale, wider, out=np.ones_like(scale), where=wider > 0)
        kept.append(np.ravel(shares).astype(np.float64))
        if (wider > scale).any():
            changed[name + SCALE] = wider = wider.astype(scale.dtype)
            changed[integers] = _encoded(weight, wider, _channel_axis(layer))
    skeleton.store(quantized, changed)
    bits = 8 + np.log2(np.concatenate(kept)) if kept else np.array([8.0])
    return Narrowed(len(kept), (float(bits.mean()), float(bits.min())))


def _real(
    reals: Mapping[str, Any], name: str, encoded: tuple[NDArray[Any], NDArray[Any]], axis: int
) -> NDArray[Any]:
    """The weight that integers stand for: as it was, or what they say where that is not known."""
    integers, scale = encoded
    for known, turned in ((name, False), (name.removesuffix(TRANSPOSED), True)):
        if known in reals:
            weight = tensors.array(reals[known])
            weight = weight.T if turned else weight
            if weight.shape == integers.shape:
                return weight
    return np.moveaxis(np.moveaxis(integers, axis, -1) * scale, -1, axis)


def _factors(model: ModelProto) -> Iterator[tuple[str, Any]]:
    """Names of integers that kernels multiply in pairs, each with the layer that reads them."""
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    stored = {tensor.name for tensor in model.graph.initializer}
    found = dict[str, Any]()
    for node in model.graph.node:
        key = graph.op_key(node)
        for factor, _ in ops.PAIRS.get(key, ()):
            found.setdefault(node.input[factor.input], node)
        if key in ops.DECODERS:
            layers = (n for n in readers.get(node.output[0], ()) if _joins(n))
            found.update((node.input[0], layer) for layer in layers)
    return ((name, node) for name, node in found.items() if name in stored)


def _joins(node: Any) -> bool:
    """Say whether onnxruntime joins an operator with those that decode what it reads."""
    form = ops.LAYERS.get(graph.op_key(node))
    return form is not None and form.kind != "transposed"


def neighbours(weight: NDArray[Any], layer: Any) -> tuple[NDArray[Any], ...]:
    """The weights of every channel (channels, …, summed) in each order that kernels have."""
    if ops.convolves(graph.op_key(layer)):
        flat = weight.reshape(len(weight), -1)
        return flat, np.moveaxis(weight, 1, -1).reshape(flat.shape)
    return (np.moveaxis(weight, _channel_axis(layer), 0),)


def _least_scale(weight: NDArray[np.float64], layer: Any) -> NDArray[np.float64]:
    """(channels,) The scale from which on no two neighbours of a channel can saturate."""
    attrs = graph.attributes(layer)
    if ops.convolves(graph.op_key(layer)) and attrs.get("group", 1) == len(weight):
        return np.zeros(len(weight))  # kernels of depthwise convolutions add in 32 bits
    least = np.zeros(len(neighbours(weight, layer)[0]))
    for rows in neighbours(weight, layer):
        if rows.shape[-1] > 1:
            sums = np.abs(rows[..., 1:] + rows[..., :-1])
            least = np.maximum(least, sums.reshape(len(rows), -1).max(1) / LARGEST)
    return least


def _encoded(weight: NDArray[Any], scale: NDArray[Any], axis: int) -> NDArray[np.int8]:
    """Integers that stand for the weight, by one scale or one for each position of `axis`."""
    steps = np.moveaxis(weight, axis, -1) / np.maximum(scale, TINY)
    limit = np.iinfo(np.int8).max
    return np.moveaxis(np.clip(np.rint(steps), -limit, limit).astype(np.int8), -1, axis)


def _channel_axis(layer: Any) -> int:
    """The axis of the weight that makes channels."""
    first = ops.convolves(graph.op_key(layer)) or graph.attributes(layer).get("transB", 0)
    return 0 if first else -1
