"""Layers as least squares sees them: rows of inputs and outputs, and the weight as a matrix.

A convolution is a matrix product on patches: its input row holds, for every tap of the kernel's
window, all channels, zero padding included, so that the fit averages the border in. A transposed
convolution is one on its input with zeros between. Input columns are ordered tap by tap, so that
what is copied to make a row lies together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.groups.graph_index import GraphIndex
from onnxprune.types import Floats, Ints, Kernel, Node, Read, Tensor

__all__ = ["POSITIONS", "Layer", "Places", "bias_of", "find_layers", "layer_of", "other_operand"]


Array = NDArray[Any]
Places: TypeAlias = "list[Ints] | None"
#: Output positions sampled of each sample: neighbours say nearly the same.
POSITIONS = 64
#: Windows are picked one by one where all together are below this part of the positions there are.
FEW = 4


@dataclass(frozen=True)
class Layer:
    """A node that multiplies its data with a stored weight.

    `depthwise`: every output channel reads one input channel.
    """

    node: Node
    kernel: Kernel
    data: Tensor
    weight: Tensor
    depthwise: bool

    @property
    def dense(self) -> bool:
        """A plain matrix product."""
        return ops.LAYERS[self.node.op].kind == "dense"

    @property
    def transposed(self) -> bool:
        """A transposed convolution, whose weight has inputs before outputs."""
        return _transposed(self.node)

    @property
    def bias(self) -> Tensor | None:
        """The stored bias, if there is one."""
        index = self.kernel.bias
        return self.node.input(index) if index is not None else None

    def matrix(self, stored: Array) -> Floats:
        """(d, o) the weight as a matrix; (taps, channels) where it is depthwise."""
        if self.dense:
            return np.asarray(stored if self.kernel.in_axis == 0 else stored.T, np.float64)
        if self.depthwise:
            return np.asarray(stored.reshape(len(stored), -1).T, np.float64)
        if self.transposed:
            stored = np.swapaxes(np.flip(stored, tuple(range(2, stored.ndim))), 0, 1)
        outputs, channels = stored.shape[:2]
        wide = stored.reshape(outputs, channels, -1).transpose(2, 1, 0)
        return np.asarray(wide.reshape(-1, outputs), np.float64)

    def stored(self, matrix: Floats, like: Array) -> Array:
        """The inverse of `matrix`, in the shape and type of the stored weight."""
        if self.dense:
            turned = matrix if self.kernel.in_axis == 0 else matrix.T
            return np.ascontiguousarray(turned, like.dtype)
        if self.depthwise:
            return np.ascontiguousarray(matrix.T.reshape(like.shape), like.dtype)
        turned = self.transposed
        inputs, outputs = like.shape[:2] if turned else like.shape[1::-1]
        wide = matrix.reshape(-1, inputs, outputs).transpose(2, 1, 0)
        back = wide.reshape(outputs, inputs, *like.shape[2:])
        if turned:
            back = np.flip(np.swapaxes(back, 0, 1), tuple(range(2, like.ndim)))
        return np.ascontiguousarray(back, like.dtype)

    def taps(self, shape: tuple[int, ...]) -> int:
        """Columns that each input channel takes, for a weight of `shape`."""
        return 1 if self.dense else math.prod(shape[2:])

    def columns(self, positions: Ints, shape: tuple[int, ...]) -> Ints:
        """(n, k · taps) columns of channels at `positions` (n, k) of the data's channel axis."""
        channels = 0 if self.dense else shape[not self.transposed]
        starts = channels * np.arange(self.taps(shape))
        return (positions[:, :, None] + starts).reshape(len(positions), -1)

    def places(
        self, shape: tuple[int, ...], rng: np.random.Generator, most: int = POSITIONS
    ) -> Places:
        """Up to `most` positions of each sample of a result of `shape`; None for all there are."""
        if not self.dense:
            return _positions(shape, rng, most)
        count = math.prod(shape[:-1])
        limit = most * shape[0] if len(shape) > 2 else count
        return [np.sort(rng.choice(count, limit, replace=False))] if count > limit else None

    def inputs(
        self, x: Array, out: tuple[int, ...], places: Places, shape: tuple[int, ...]
    ) -> Array:
        """Rows (m, d) that make a result of shape `out` at places; depthwise (m, taps, c)."""
        if self.dense:
            flat = x.reshape(-1, x.shape[-1])
            return flat if places is None else flat[places[0]]
        assert places is not None
        patches = _patches(self.node, x, shape, out[2:], places)
        return patches if self.depthwise else patches.reshape(len(patches), -1)

    def outputs(self, y: Array, places: Places) -> Array:
        """Rows (m, o) of a tensor with the shape of the result, at places."""
        if self.dense:
            flat = y.reshape(-1, y.shape[-1])
            return flat if places is None else flat[places[0]]
        assert places is not None
        return np.moveaxis(y, 1, -1)[tuple(places)]


def _transposed(node: Node) -> bool:
    return ops.LAYERS[node.op].kind == "transposed"


def _positions(shape: tuple[int, ...], rng: np.random.Generator, most: int) -> list[Ints]:
    """Sample number and place of output positions, as many of every sample."""
    count = math.prod(shape[2:])
    taken = min(count, most)
    if taken == count:
        flat = np.tile(np.arange(count), (shape[0], 1))
    else:
        flat = np.argpartition(rng.random((shape[0], count)), taken, 1)[:, :taken]
    sample = np.repeat(np.arange(shape[0]), taken)
    return [sample, *np.unravel_index(flat.ravel(), shape[2:])]


def _patches(
    node: Node, x: Array, shape: tuple[int, ...], out: tuple[int, ...], places: list[Ints]
) -> Array:
    """(m, taps, channels) windows of `x` that make outputs at `places`, sample number first."""
    space, kernel = x.shape[2:], shape[2:]
    strides = node.attrs.get("strides") or [1] * len(space)
    dilations = node.attrs.get("dilations") or [1] * len(space)
    begin = _pads(node, space, kernel, out)
    if _transposed(node):
        x = _spread(x, strides)
        space, strides = x.shape[2:], [1] * len(space)
        reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        begin = [r - b for r, b in zip(reach, begin, strict=True)]
    sample, *where = places
    sides = zip(where, strides, begin, kernel, dilations, strict=True)
    at = [
        np.add.outer(place * stride - first, np.arange(taps) * dilation)
        for place, stride, first, taps, dilation in sides
    ]
    few = math.prod(kernel) * len(sample) * FEW < len(x) * math.prod(space)
    return _picked(x, sample, at) if few else _taken(x, sample, at)


def _picked(x: Array, sample: Ints, at: Sequence[Ints]) -> Array:
    """(m, taps, channels) of the positions alone; `at` (m, k) are those on each axis of space."""
    count, rank = len(sample), len(at)
    numbers, inside = [sample.reshape(-1, *[1] * rank)], np.ones((count, *[1] * rank), bool)
    for axis, (positions, size) in enumerate(zip(at, x.shape[2:], strict=True)):
        wide = positions.reshape(count, *(-1 if k == axis else 1 for k in range(rank)))
        numbers.append(wide.clip(0, size - 1))
        inside = inside & (wide >= 0) & (wide < size)
    rows = np.moveaxis(x, 1, -1)[tuple(numbers)]
    if not inside.all():
        rows[~inside] = 0
    return rows.reshape(count, -1, x.shape[1])


def _taken(x: Array, sample: Ints, at: Sequence[Ints]) -> Array:
    """The same where most of `x` is wanted: it is laid out channels last, with its padding."""
    pairs = zip(at, x.shape[2:], strict=True)
    pads = [(-int(p.min(initial=0)), int(p.max(initial=size - 1)) + 1 - size) for p, size in pairs]
    padded = np.pad(np.moveaxis(x, 1, -1), [(0, 0), *pads, (0, 0)])
    flat, rank = sample.reshape(-1, *[1] * len(at)), len(at)
    for axis, (positions, size) in enumerate(zip(at, padded.shape[1:-1], strict=True)):
        wide = positions.reshape(len(sample), *(-1 if k == axis else 1 for k in range(rank)))
        flat = flat * size + wide + pads[axis][0]
    return padded.reshape(-1, x.shape[1]).take(flat.reshape(len(sample), -1), 0)


def _spread(x: Array, strides: list[int]) -> Array:
    """`x` with `stride - 1` zeros between neighbours."""
    space = [(n - 1) * s + 1 for n, s in zip(x.shape[2:], strides, strict=True)]
    wide = np.zeros((*x.shape[:2], *space), x.dtype)
    every = (slice(None), slice(None), *(slice(None, None, s) for s in strides))
    wide[every] = x
    return wide


def _pads(
    node: Node, space: tuple[int, ...], kernel: tuple[int, ...], out: tuple[int, ...]
) -> list[int]:
    """Zeros before each axis, also where they are left to the operator."""
    rank = len(space)
    auto = node.attrs.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        pads = node.attrs.get("pads") if auto == "NOTSET" else None
        return list(pads[:rank]) if pads else [0] * rank
    strides = node.attrs.get("strides") or [1] * rank
    dilations = node.attrs.get("dilations") or [1] * rank
    begin = []
    for n, k, o, s, d in zip(space, kernel, out, strides, dilations, strict=True):
        reach = (k - 1) * d + 1
        total = (n - 1) * s + reach - o if _transposed(node) else (o - 1) * s + reach - n
        total = max(total, 0)
        begin.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
    return begin


def layer_of(node: Node, read: Callable[[str], Array | None]) -> Layer | None:
    """The node as a layer; None where its weight is not stored, shared or of another form."""
    if node.op not in ops.LAYERS or not ops.kernels_of(node):
        return None
    (kernel,) = ops.kernels_of(node)
    data, weight = kernel.operand(node), node.inputs[kernel.index]
    stored = read(weight.name) if weight is not None else None
    if data is None or weight is None or stored is None or data.constant:
        return None
    if not np.issubdtype(stored.dtype, np.floating) or stored.dtype == np.float16:
        return None
    form = ops.LAYERS[node.op].kind
    if form == "dense":
        scaled = node.attrs.get("alpha", 1.0) != 1 or node.attrs.get("beta", 1.0) != 1
        fits = stored.ndim == 2 and kernel.index == 1 and not node.attrs.get("transA", 0)
        return Layer(node, kernel, data, weight, False) if fits and not scaled else None
    groups = int(node.attrs.get("group", 1))
    depthwise = kernel.in_axis is None
    if groups > 1 and not (depthwise and stored.shape[0] == groups and stored.shape[1] == 1):
        return None
    if depthwise and form == "transposed":
        return None
    return Layer(node, kernel, data, weight, depthwise)


def find_layers(index: GraphIndex, read: Read) -> tuple[Layer, ...]:
    """Every node that multiplies with a weight of its own, in the order of the graph."""
    made = (layer_of(node, read) for node in index.nodes)
    return tuple(la for la in made if la is not None and len(index.readers[la.weight.name]) == 1)


def bias_of(layer: Layer, readers: Mapping[str, list[Node]], read: Read) -> tuple[str, Tensor]:
    """The stored bias of a layer, and its result with the bias added.

    The name is "" where there is none that can be changed for this layer alone: none at all, one
    that other operators read too, that is computed, or that repeats a number.
    """
    y = layer.node.outputs[0]
    if layer.bias is not None:
        own = len(readers[layer.bias.name]) == 1 and _fits(layer, read(layer.bias.name))
        return layer.bias.name if own else "", y
    following = readers.get(y.name, [])
    if layer.dense and len(following) == 1 and ops.adds(following[0].op):
        other = other_operand(following[0], y)
        stored = read(other.name) if other is not None else None
        if stored is not None and stored.shape == (y.size(-1),) and len(readers[other.name]) == 1:  # type: ignore[union-attr]
            return other.name, following[0].outputs[0]  # type: ignore[union-attr]
    return "", y


def _fits(layer: Layer, bias: Array | None) -> bool:
    """Whether a stored bias has a number for each result of the layer."""
    return bias is not None and bias.size == layer.weight.size(layer.kernel.out_axis)


def other_operand(node: Node, one: Tensor) -> Tensor | None:
    """The other one of two operands; None where there are more, or both are the same."""
    rest = [t for t in node.inputs if t is not None and t.name != one.name]
    return rest[0] if len(node.inputs) == 2 and len(rest) == 1 else None
