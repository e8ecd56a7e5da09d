"""Gradients of normalisations.

With x̂ = (x - mean) / σ over some axes and y = x̂ · scale + bias, and g = dy · scale, the gradient of
x is (g - mean(g) - x̂ · mean(g · x̂)) / σ; without a mean to subtract, the mean of g stays away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, sizes_of, tensor_of, to_first
from onnxprune.types import Node, Tensor

__all__ = [
    "batch_normalization",
    "group_normalization",
    "instance_normalization",
    "layer_normalization",
    "local_response",
    "lp_normalization",
    "mean_variance",
    "root_mean_square",
    "skipped",
]


class _Unit(NamedTuple):
    """x̂ and σ by name, over `axes`; `centred` where the mean is subtracted."""

    name: str
    spread: str
    axes: Sequence[int]
    centred: bool = True

    def back(self, t: Builder, g: str) -> str:
        """The gradient of x from that of x̂."""
        rest = t.mul(self.name, t.along("ReduceMean", t.mul(g, self.name), self.axes))
        if self.centred:
            g = t.minus(g, t.along("ReduceMean", g, self.axes))
        return t.over(t.minus(g, rest), self.spread)


def _unit(t: Builder, x: str, axes: Sequence[int], epsilon: float, centred: bool = True) -> _Unit:
    """Normalise again, as the operator did."""
    if centred:
        x = t.minus(x, t.along("ReduceMean", x, axes))
    variance = t.along("ReduceMean", t.mul(x, x), axes)
    spread = t.emit("Sqrt", t.plus(variance, epsilon))
    return _Unit(t.over(x, spread), spread, axes, centred)


def _epsilon(node: Node, usual: float = 1e-5) -> float:
    return float(node.attrs.get("epsilon", usual))


def _from_axis(node: Node, x: Tensor) -> list[int]:
    """Axes from the one that the node names to the last."""
    return list(range(int(node.attrs.get("axis", -1)) % x.rank, x.rank))


def layer_normalization(t: Builder, node: Node, dy: str) -> Gradients:
    """Over the last axes; scale and bias are broadcast to them."""
    x, scale = tensor_of(node), tensor_of(node, 1)
    unit = _unit(t, x.name, _from_axis(node, x), _epsilon(node))
    found: Gradients = [
        unit.back(t, t.mul(dy, scale.name)),
        t.summed(t.mul(dy, unit.name), scale, x),
    ]
    if node.input(2) is not None:
        found.append(t.summed(dy, tensor_of(node, 2), x))
    return found


def root_mean_square(t: Builder, node: Node, dy: str) -> Gradients:
    """Over the last axes, without a mean that is subtracted: σ² = mean(x²)."""
    x, scale = tensor_of(node), tensor_of(node, 1)
    unit = _unit(t, x.name, _from_axis(node, x), _epsilon(node), centred=False)
    return [
        unit.back(t, t.mul(dy, scale.name)),
        t.summed(t.mul(dy, unit.name), scale, x),
    ]


def skipped(t: Builder, node: Node, grads: Sequence[str | None]) -> Gradients:
    """Of data, skip and bias added, which the fourth result holds too."""
    centred = not node.op.endswith("SkipSimplifiedLayerNormalization")
    dy, others, added = grads[0], grads[1:3], grads[3] if len(grads) > 3 else None
    need(not any(others))
    x, skip, scale = tensor_of(node), tensor_of(node, 1), tensor_of(node, 2)
    at = 4 if centred else 3
    terms = [x.name, skip.name, *([tensor_of(node, at).name] if node.input(at) else [])]
    found: Gradients = [None] * len(node.inputs)
    parts = [added] if added else []
    if dy is not None:
        unit = _unit(t, t.total(terms), [x.rank - 1], _epsilon(node, 1e-12), centred)
        parts.append(unit.back(t, t.mul(dy, scale.name)))
        found[2] = t.summed(t.mul(dy, unit.name), scale, x)
        if centred and node.input(3) is not None:
            found[3] = t.summed(dy, tensor_of(node, 3), x)
    whole = t.total(parts)
    for k in (0, 1, at):
        if node.input(k) is not None:
            found[k] = t.summed(whole, tensor_of(node, k), x)
    return found


def _columns(t: Builder, scale: Tensor, rank: int) -> str:
    """One number per channel, with an axis of size one for each behind the channels."""
    return t.along("Unsqueeze", scale.name, list(range(1, rank - 1))) if rank > 2 else scale.name


def _over_channels(x: Tensor) -> list[int]:
    """All axes but that of channels."""
    return [0, *range(2, x.rank)]


def instance_normalization(t: Builder, node: Node, dy: str) -> Gradients:
    """Over the positions of each channel of each sample."""
    x = tensor_of(node)
    unit = _unit(t, x.name, list(range(2, x.rank)), _epsilon(node))
    g = t.mul(dy, _columns(t, tensor_of(node, 1), x.rank))
    to_scale = t.along("ReduceSum", t.mul(dy, unit.name), _over_channels(x), keep=False)
    return [unit.back(t, g), to_scale, t.along("ReduceSum", dy, _over_channels(x), keep=False)]


def group_normalization(t: Builder, node: Node, dy: str) -> Gradients:
    """Over the channels of a group; before version 21 a group has one scale and one bias."""
    x, scale = tensor_of(node), tensor_of(node, 1)
    shape = t.constant([0, int(node.attrs["num_groups"]), -1], np.int64)
    unit = _unit(t, t.emit("Reshape", x.name, shape), [2], _epsilon(node))
    if node.opset >= 21:
        g, hat = t.mul(dy, _columns(t, scale, x.rank)), t.like(unit.name, x)
        g, axes = t.emit("Reshape", g, shape), _over_channels(x)
    else:
        dy, hat, axes = t.emit("Reshape", dy, shape), unit.name, [0, 2]
        g = t.mul(dy, t.along("Unsqueeze", scale.name, [1]))
    sums = [t.along("ReduceSum", each, axes, keep=False) for each in (t.mul(dy, hat), dy)]
    return [t.like(unit.back(t, g), x), *sums]


def batch_normalization(t: Builder, node: Node, dy: str) -> Gradients:
    """Dy times the scale of its channel; statistics are numbers like all others."""
    need(len(node.outputs) == 1 and not node.attrs.get("training_mode", 0))
    x, scale, _, mean, variance = (tensor_of(node, k) for k in range(5))
    root = t.emit("Sqrt", t.plus(variance.name, _epsilon(node)))
    slope, axes = t.over(scale.name, root), _over_channels(x)
    slopes = t.along("Unsqueeze", slope, list(range(1, x.rank - 1))) if x.rank > 2 else slope
    total = t.along("ReduceSum", dy, axes, keep=False)
    centred = t.minus(x.name, _columns(t, mean, x.rank))
    share = t.over(t.along("ReduceSum", t.mul(dy, centred), axes, keep=False), root)
    to_variance = t.over(t.scaled(t.mul(share, slope), -0.5), root)
    return [t.mul(dy, slopes), share, total, t.emit("Neg", t.mul(total, slope)), to_variance]


def mean_variance(t: Builder, node: Node, dy: str) -> Gradients:
    """Without scale and bias, over all axes but that of channels."""
    x = tensor_of(node)
    axes = [int(a) % x.rank for a in node.attrs.get("axes") or (0, 2, 3)]
    return [_unit(t, x.name, axes, 0.0).back(t, dy)]


def lp_normalization(t: Builder, node: Node, dy: str) -> Gradients:
    """(dy - s · Σ dy · y) / ‖x‖ with s the slope of the norm: y for the second, sign(x) for 1."""
    x, y = tensor_of(node), node.outputs[0].name
    axis, second = int(node.attrs.get("axis", -1)) % x.rank, int(node.attrs.get("p", 2)) == 2
    size = t.mul(x.name, x.name) if second else t.emit("Abs", x.name)
    norm = t.along("ReduceSum", size, [axis])
    norm = t.emit("Max", t.emit("Sqrt", norm) if second else norm, t.constant(1e-7))
    slope = y if second else t.emit("Sign", x.name)
    share = t.along("ReduceSum", t.mul(dy, y), [axis])
    return to_first(node, t.over(t.minus(dy, t.mul(slope, share)), norm))


def local_response(t: Builder, node: Node, dy: str) -> Gradients:
    """Y = x · d^-β with d = k + α/n · Σ x² over n neighbouring channels."""
    x, y = tensor_of(node), node.outputs[0]
    channels, n = sizes_of(Tensor("", (x.size(1) or "",)))[0], int(node.attrs["size"])
    alpha, beta = (float(node.attrs.get(k, v)) for k, v in (("alpha", 1e-4), ("beta", 0.75)))
    apart = np.arange(channels)[None] - np.arange(channels)[:, None]
    near = (apart >= -((n - 1) // 2)) & (apart <= n // 2)
    flat = t.constant([0, channels, -1], np.int64)

    def summed(values: str, window: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> str:
        return t.emit("MatMul", t.constant(window), t.emit("Reshape", values, flat))

    share = t.scaled(summed(t.mul(x.name, x.name), near), alpha / n)
    base = t.like(t.plus(share, float(node.attrs.get("bias", 1.0))), x)
    back = t.like(summed(t.over(t.mul(dy, y.name), base), near.T), x)
    own = t.mul(dy, t.emit("Pow", base, t.constant(-beta)))
    return [t.minus(own, t.scaled(t.mul(x.name, back), 2 * alpha * beta / n))]
