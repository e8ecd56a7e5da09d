"""What convolutions and matrix products make of channels that always carry one number.

Padding mixes zeros with them, so that only zeros are known behind it; so are they behind products
of integers, whose results are rounded, and behind activations that are fused with a product.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops.constants import Numbers
from onnxprune.ops.facets import FUNCTIONS, LAYERS
from onnxprune.ops.registry import QUANTIZED, kernels_of
from onnxprune.types import Axis, Floats, Kernel, Node, Read, Tensor

__all__ = ["linear", "padded", "rounded", "summed_taps", "used_weights"]

Array: TypeAlias = NDArray[Any]


def padded(node: Node) -> bool:
    """Say whether some outputs see zeros beside the data, so that a constant is none after it."""
    form = LAYERS.get(node.op)
    if form is not None and form.kind == "dense":
        return False
    auto = node.attrs.get("auto_pad", "NOTSET")
    return (
        node.op == "DeformConv"
        or (form is not None and form.kind == "transposed")
        or any(node.attrs.get("pads", ()))
        or auto not in ("NOTSET", "VALID")
    )


def summed_taps(node: Node, kernel: Kernel, weight: Array, width: int) -> Floats:
    """(out, in) sum of each kernel's taps per output and input channel; grouped rows elsewhere 0.

    `width` is the number of input channels. Directions and gates are summed as well.
    """
    taps = np.moveaxis(weight.astype(np.float64), kernel.out_axis, 0)
    groups = int(node.attrs.get("group", 1))
    if groups == 1:
        in_axis = (kernel.in_axis or 0) + (1 if (kernel.in_axis or 0) < kernel.out_axis else 0)
        taps = np.moveaxis(taps, in_axis, 1)
        rows = taps.reshape(*taps.shape[:2], -1)
        summed = rows.sum(2) if rows.shape[2] > 1 else rows[..., 0]
        if kernel.blocks == 1:
            return summed
        by_channel: Floats = summed.reshape(kernel.blocks, -1, summed.shape[1]).sum(0)
        return by_channel
    form = LAYERS.get(node.op)
    if form is not None and form.kind == "transposed":
        return np.full((weight.shape[1] * groups, width), np.nan)
    flat = weight.astype(np.float64).reshape(*weight.shape[:2], -1).sum(2)
    n_out, per_group = flat.shape
    if n_out % groups or per_group * groups != width:  # it can never run
        return np.full((n_out, width), np.nan)
    full = np.zeros((n_out, width))
    columns = np.arange(n_out)[:, None] // (n_out // groups) * per_group + np.arange(per_group)
    np.put_along_axis(full, columns, flat, 1)
    return full


def used_weights(node: Node, kernel: Kernel, stored: Array, width: int) -> Floats:
    """(out, in) how much each output reads of each input; rows of packed blocks are cut to it."""
    facts = QUANTIZED[node.op](node) if node.op in QUANTIZED else ()
    packed = any(q.bits and q.input == kernel.index for q in facts)
    return summed_taps(node, kernel, np.abs(stored[:, :width] if packed else stored), width)


def linear(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Multiply constants with the weights and add the bias."""
    for kernel, values in _arriving(node, numbers):
        yield from _result(node, kernel, _products(node, kernel, values, numbers.read))


def rounded(node: Node, numbers: Numbers) -> Iterator[tuple[Axis, Floats]]:
    """Know zeros only, where nothing but zeros is added up."""
    for kernel, values in _arriving(node, numbers):
        yield from _result(node, kernel, _zeros(node, kernel, values, numbers.read))


def _arriving(node: Node, numbers: Numbers) -> Iterator[tuple[Kernel, Floats]]:
    """The stored weight, and the number that each channel of what it is multiplied with carries.

    Nothing where an operand is transposed first: its channels lie on another axis.
    """
    turned = any(node.attrs.get(name, 0) for name in ("transA", "transBatchA", "transBatchB"))
    for kernel in () if turned else kernels_of(node):
        data = kernel.operand(node)
        if data is not None and data.size(kernel.channel) and node.outputs[0].rank > 0:
            yield kernel, numbers.of(data, kernel.channel)


def _result(node: Node, kernel: Kernel, found: Floats | None) -> Iterator[tuple[Axis, Floats]]:
    y = node.outputs[0]
    if found is not None and len(found) == y.size(kernel.channel):
        yield y.at(kernel.channel), found


def _products(node: Node, kernel: Kernel, values: Floats, read: Read) -> Floats | None:
    """(n_out,) constants behind the product; None where nothing is known."""
    weight = node.inputs[kernel.index]
    stored = read(weight.name) if weight is not None else None
    if stored is None or (LAYERS[node.op].kind == "dense" and stored.ndim != 2):
        return None
    bias = _bias(node, kernel.bias, read, stored.shape[kernel.out_axis])
    if bias is None:
        return None
    used = used_weights(node, kernel, stored, len(values)) != 0
    if used.shape[1] != len(values):
        return None
    spoilt = np.isnan(values) | ((values != 0) & padded(node))
    total = np.zeros(len(used))
    if not spoilt.all():
        total = summed_taps(node, kernel, stored, len(values)) @ np.where(spoilt, 0, values)
    result: Floats = float(node.attrs.get("alpha", 1.0)) * total + bias
    found: Floats = np.where((used & spoilt).any(1), np.nan, result)
    return found


def _zeros(node: Node, kernel: Kernel, values: Floats, read: Read) -> Floats | None:
    """(n_out,) 0 where only zeros are added up, NaN elsewhere; None where nothing is known."""
    weight = node.inputs[kernel.index]
    stored = read(weight.name) if weight is not None else None
    activation = str(node.attrs.get("activation", ""))
    odd = not activation or (activation in FUNCTIONS and FUNCTIONS[activation].zero)
    if stored is None or stored.ndim < 2 or not odd:
        return None
    used = used_weights(node, kernel, stored, len(values)) != 0
    bias = node.input(kernel.bias) if kernel.bias is not None else None
    added = np.zeros(1) if bias is None else read(bias.name)
    if used.shape[1] != len(values) or added is None or added.size not in (1, len(used)):
        return None
    moved: NDArray[np.bool_] = (used & (values != 0)).any(1) | (added.ravel() != 0)
    return np.where(moved, np.nan, 0.0)


def _bias(node: Node, index: int | None, read: Read, n_out: int) -> Floats | None:
    tensor: Tensor | None = node.input(index) if index is not None else None
    if tensor is None:
        return np.zeros(1) if node.input(3) is None else None
    stored = read(tensor.name)
    if stored is None or stored.size not in (1, n_out) or node.input(3) is not None:
        return None
    return float(node.attrs.get("beta", 1.0)) * stored.astype(np.float64).ravel()
