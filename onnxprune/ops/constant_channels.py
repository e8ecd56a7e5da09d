"""What operators make of channels that always carry one number.

`x(i)` gives, for an axis of an input, one number per position: the value that every element there
has whatever the model is fed, NaN where it varies. A function returns the same for one axis of
the result. An operator that is not listed makes everything vary, which is always safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops.registry import kernels_of
from onnxprune.types import Floats, Kernel, Node, Tensor

__all__ = [
    "AFFINE",
    "COPIES",
    "ENCODES",
    "KEEPS",
    "KEEPS_ZERO",
    "SAME_EVERYWHERE",
    "kernel_constants",
    "of_stored",
    "padded",
    "reading",
    "same_after",
    "scaled",
    "used_weights",
    "zeros_of",
]


#: Each element of the result is an element of an input: values follow the couplings.
COPIES = frozenset(
    """
    Concat DepthToSpace Dropout Expand Flatten Gather Identity Reshape Slice SpaceToDepth
    Split Squeeze Tile Transpose Unsqueeze
    """.split()
)
#: One value in, the same value out, wherever it is taken along the other axes.
SAME_EVERYWHERE = frozenset(
    """
    GlobalAveragePool GlobalMaxPool MaxPool ReduceMax ReduceMean ReduceMin Upsample
    """.split()
)
#: Computed element by element: the operator itself runs on one number per position.
KEEPS = frozenset(
    """
    Abs Add Celu Clip Div Elu Erf Exp Gelu HardSigmoid HardSwish LeakyRelu Max Mean Min Mish
    Mul Neg PRelu Pow Relu Selu Sigmoid Softplus Softsign Sqrt Sub Sum Swish Tanh
    ThresholdedRelu com.microsoft:BiasGelu com.microsoft:FastGelu com.microsoft:Gelu
    com.microsoft:QuickGelu
    """.split()
)
_PLAIN = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
#: Products whose results are rounded or follow an activation: only zeros are known behind them.
_ROUNDED = frozenset(
    """
    ConvInteger MatMulInteger QLinearConv QLinearMatMul com.microsoft:DynamicQuantizeMatMul
    com.microsoft:FusedConv com.microsoft:FusedGemm com.microsoft:MatMulIntegerToFloat
    com.microsoft:MatMulNBits com.microsoft:QGemm com.microsoft:QLinearConv
    """.split()
)
#: Activations of FusedConv and FusedGemm that leave zero at zero.
_ODD = frozenset({"", "LeakyRelu", "Relu", "Tanh"})
#: Reals become integers.
ENCODES = frozenset({"DynamicQuantizeLinear", "QuantizeLinear", "com.microsoft:QuantizeLinear"})
#: Results in other numbers than the input, where zero stays zero: what is known of encoded
#: integers is the real number that they stand for.
KEEPS_ZERO = frozenset(
    """
    Cast DequantizeLinear DynamicQuantizeLinear QuantizeLinear com.microsoft:DequantizeLinear
    com.microsoft:QLinearAveragePool com.microsoft:QLinearConcat
    com.microsoft:QLinearGlobalAveragePool com.microsoft:QLinearLeakyRelu
    com.microsoft:QuantizeLinear
    """.split()
)
#: A scale of zero leaves the bias.
AFFINE = frozenset({"BatchNormalization", "GroupNormalization", "InstanceNormalization"})


def same_after(node: Node, values: Floats) -> Floats:
    """AveragePool, Pad and Resize keep a value where nothing else is mixed in."""
    if node.op in KEEPS_ZERO:
        return zeros_of(values)
    if node.op == "AveragePool":
        mixed = any(node.attrs.get("pads", ())) or node.attrs.get("auto_pad", "NOTSET") != "NOTSET"
        mixed = mixed and bool(node.attrs.get("count_include_pad", 0))
        return np.where(values == 0, values, np.nan) if mixed else values
    if node.op == "Resize":
        return (
            values
            if node.attrs.get("mode", "nearest") in ("nearest", "linear")
            else _unknown(values)
        )
    return _unknown(values)


def zeros_of(values: Floats) -> Floats:
    """The zeros of what is known."""
    return np.where(values == 0, 0.0, np.nan)


def _unknown(values: Floats) -> Floats:
    return np.full_like(values, np.nan)


def scaled(node: Node, values: Floats, read: Callable[[str], NDArray[Any] | None]) -> Floats:
    """Normalisations: γ·(x - mean)/√(var + ε) + β; γ = 0, or no variation, leaves constants."""
    parts = [read(t.name) if t is not None else None for t in node.inputs[1:]]
    if any(part is None for part in parts):
        return _unknown(values)
    gamma, beta, *moments = (np.asarray(part, np.float64) for part in parts)
    if node.op == "BatchNormalization":
        mean, variance = moments
        moved = gamma * (values - mean) / np.sqrt(variance + node.attrs.get("epsilon", 1e-5)) + beta
        constant: Floats = np.where(gamma == 0, beta, moved)
        return constant
    flat = values == 0
    if node.op == "GroupNormalization":
        groups = int(node.attrs["num_groups"])
        width = len(values) // groups
        flat = flat.reshape(groups, width).all(1).repeat(width)
        gamma, beta = (v.repeat(width) if len(v) == groups else v for v in (gamma, beta))
    still: Floats = np.where((gamma == 0) | flat, beta, np.nan)
    return still


def padded(node: Node) -> bool:
    """Whether some outputs see zeros beside the data, so that a constant is none after it."""
    if node.op in ("Gemm", "MatMul"):
        return False
    auto = node.attrs.get("auto_pad", "NOTSET")
    return (
        node.op in ("ConvTranspose", "DeformConv")
        or any(node.attrs.get("pads", ()))
        or auto not in ("NOTSET", "VALID")
    )


def reading(node: Node, kernel: Kernel, weight: NDArray[Any], width: int) -> Floats:
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
    if node.op == "ConvTranspose":
        return np.full((weight.shape[1] * groups, width), np.nan)
    flat = weight.astype(np.float64).reshape(*weight.shape[:2], -1).sum(2)
    n_out, per_group = flat.shape
    full = np.zeros((n_out, width))
    columns = np.arange(n_out)[:, None] // (n_out // groups) * per_group + np.arange(per_group)
    np.put_along_axis(full, columns, flat, 1)
    return full


def kernel_constants(
    node: Node, values: Floats, read: Callable[[str], NDArray[Any] | None]
) -> Floats | None:
    """(n_out,) constants behind a convolution or matrix product; None where nothing is known."""
    if node.op in _ROUNDED:
        return _zero_results(node, values, read)
    kernel = next(iter(kernels_of(node)), None) if node.op in _PLAIN else None
    weight = node.inputs[kernel.index] if kernel is not None else None
    stored = read(weight.name) if weight is not None else None
    if kernel is None or stored is None or (node.op == "MatMul" and stored.ndim != 2):
        return None
    bias = _bias(node, kernel.bias, read, stored.shape[kernel.out_axis])
    if bias is None or node.attrs.get("transA", 0):
        return None
    used = used_weights(node, kernel, stored, len(values)) != 0
    spoilt = np.isnan(values) | ((values != 0) & padded(node))
    total = np.zeros(len(used))
    if not spoilt.all():
        total = reading(node, kernel, stored, len(values)) @ np.where(spoilt, 0, values)
    result: Floats = float(node.attrs.get("alpha", 1.0)) * total + bias
    found: Floats = np.where((used & spoilt).any(1), np.nan, result)
    return found


def _zero_results(
    node: Node, values: Floats, read: Callable[[str], NDArray[Any] | None]
) -> Floats | None:
    """(n_out,) 0 where only zeros are added up, NaN elsewhere; None where nothing is known."""
    kernel = next(iter(kernels_of(node)), None)
    weight = node.inputs[kernel.index] if kernel is not None else None
    stored = read(weight.name) if weight is not None else None
    odd = str(node.attrs.get("activation", "")) in _ODD
    if kernel is None or stored is None or stored.ndim < 2 or not odd:
        return None
    used = used_weights(node, kernel, stored, len(values)) != 0
    bias = node.input(kernel.bias) if kernel.bias is not None else None
    added = np.zeros(1) if bias is None else read(bias.name)
    if added is None or added.size not in (1, len(used)):
        return None
    moved: NDArray[np.bool_] = (used & (values != 0)).any(1) | (added.ravel() != 0)
    return np.where(moved, np.nan, 0.0)


def used_weights(node: Node, kernel: Kernel, stored: NDArray[Any], width: int) -> Floats:
    """(out, in) how much each output reads of each input; rows of packed blocks are cut to it."""
    packed = node.op == "com.microsoft:MatMulNBits"
    return reading(node, kernel, np.abs(stored[:, :width] if packed else stored), width)


def _bias(
    node: Node, index: int | None, read: Callable[[str], NDArray[Any] | None], n_out: int
) -> Floats | None:
    tensor: Tensor | None = node.input(index) if index is not None else None
    if tensor is None:
        return np.zeros(1) if node.input(3) is None else None
    stored = read(tensor.name)
    if stored is None or stored.size not in (1, n_out) or node.input(3) is not None:
        return None
    return float(node.attrs.get("beta", 1.0)) * stored.astype(np.float64).ravel()


def of_stored(values: NDArray[Any]) -> Mapping[int, Floats]:
    """For every axis of a stored tensor the positions that hold one value throughout."""
    found = {}
    for axis in range(values.ndim):
        rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        if rows.size and np.issubdtype(values.dtype, np.floating):
            low, high = rows.min(1).astype(np.float64), rows.max(1).astype(np.float64)
            found[axis] = np.where(low == high, low, np.nan)
    return found
