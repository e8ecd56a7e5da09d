"""Find residual streams that can be turned: every writer and reader linear, norms that do not mind.

A stream x becomes Q·x if all that writes it is multiplied with Q and all that reads it with Q's
inverse; between them stand sums, moves and normalisations, which see no difference
(`onnxprune.ops.turning`). γ and β of a normalisation go into the layers behind it first: with z the
normalised stream they read γ·z + β. So each tensor of the stream is known by γ and β, and where
anything but a layer reads one with γ, as the sum behind a normalisation (post-norm), the stream
stays as it is. SliceGPT (Ashkboos and others, ICLR 2024), for graphs as they are exported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.layers import bias_of
from onnxprune.groups.turning import Fold, Kind, Stream, Use, Value, same_numbers, scaled
from onnxprune.types import Axis, Floats, Group, Kernel, Node, Tensor

__all__ = ["find_stream"]


class _RefusedError(Exception):
    """Why a group cannot be turned."""


def find_stream(analysis: Analysis, group: Group) -> Stream | str | None:
    """Work out what turning a group takes; None where it is no stream, else why it cannot.

    A stream is what something normalises along all of its channels, and to which results of layers
    are added.
    """
    if not (_normalised(analysis, group) and _added_to(analysis, group)):
        return None
    try:
        return _Finder(analysis, group).stream()
    except _RefusedError as why:
        return str(why)


def _normalised(analysis: Analysis, group: Group) -> bool:
    """Whether a normalisation or a mean runs along the group's axes."""
    axes = {axis for axis, _ in group.axes()}
    for node in analysis.nodes:
        if node.op in ops.AVERAGES:
            tables = (table[node.op](node) for table in (ops.SUMS, ops.CENTRES) if node.op in table)
            pairs = [pair for found in tables for pair in found]
            if any(node.inputs[k].at(axis) in axes for k, axis in pairs):  # type: ignore[union-attr]
                return True
    return False


def _added_to(analysis: Analysis, group: Group) -> bool:
    """Whether activations with the group's channels are added up."""
    axes = {axis for axis, _ in group.axes()}
    for node in analysis.nodes:
        form = ops.NORMS.get(node.op)
        if ops.adds(node.op) or form is not None:
            picked = node.inputs if form is None else map(node.input, form.added)
            terms = [t for t in picked if t is not None and not t.constant]
            if sum(any(t.at(axis) in axes for axis in range(t.rank)) for t in terms) > 1:
                return True
    return False


class _Finder:
    """Goes through the graph once, from writers to readers."""

    def __init__(self, analysis: Analysis, group: Group) -> None:
        self._analysis, self._group = analysis, group
        self._axes = self._checked_axes()
        self._values: dict[str, Value] = {}
        self._uses: dict[tuple[str, int], Use] = {}
        self._folds: dict[str, Fold] = {}
        self._read: dict[Axis, None] = {}
        self._centred = False
        self._seen = False  # whether anything sees the mean along the stream
        self._layers = {layer.node.name: layer for layer in analysis.layers}

    def _checked_axes(self) -> Mapping[str, list[int]]:
        """The axes of each tensor, all of which must hold the channels in one order."""
        found: dict[str, list[int]] = {}
        count = self._group.channels
        for site in self._group.sites:
            whole = site.positions.shape == (count, 1) and site.size == count and not site.nominal
            if not whole or (site.positions[:, 0] != np.arange(count)).any():
                raise _RefusedError(f"'{site.axes[0].tensor}' holds it in parts or several times")
            for axis in site.axes:
                found.setdefault(axis.tensor, []).append(axis.axis)
        if self._group.inexact:
            raise _RefusedError(f"removal changes {self._group.inexact}")
        return found

    def stream(self) -> Stream:
        for node in self._analysis.nodes:
            if any(tensor.name in self._axes for tensor in node.tensors):
                self._visit(node)
        missing = self._axes.keys() - self._values.keys() - {name for name, _ in self._uses}
        if missing:
            raise _RefusedError(f"'{min(missing)}' is not understood")
        return Stream(
            self._group,
            tuple(self._uses.values()),
            tuple(self._folds.values()),
            tuple(self._read),
            self._centred,
            self._centred and not self._seen,
        )

    def _visit(self, node: Node) -> None:
        if node.bodies or any(tensor.name in self._axes for tensor in node.captured):
            raise _RefusedError(f"'{node.name}' has graphs of its own")
        kernels = [k for k in ops.kernels_of(node) if self._is_layer(node, k)]
        if kernels:
            for kernel in kernels:
                self._layer(node, kernel)
            return
        for handle in (self._norm, self._arithmetic, self._reduction, self._move):
            result = handle(node)
            if result is not None:
                self._give(node, result)
                return
        if node.op in ops.SIZES:
            return
        raise _RefusedError(f"'{node.name}' ({node.op}) is not linear in it")

    def _give(self, node: Node, value: Value) -> None:
        for tensor in node.outputs:
            if tensor.name in self._axes:
                once = len(self._analysis.index.readers.get(tensor.name, [])) == 1
                known = value if once else replace(value, written=())
                self._values.setdefault(tensor.name, known)

    # layers ---------------------------------------------------------------------------------

    def _is_layer(self, node: Node, kernel: Kernel) -> bool:
        """Whether a weight multiplies, so that it is no table whose rows are looked up."""
        return node.op not in ops.LOOKUPS and node.inputs[kernel.index] is not None

    def _layer(self, node: Node, kernel: Kernel) -> None:
        weight, data = node.inputs[kernel.index], kernel.operand(node)
        assert weight is not None
        axes = self._axes.get(weight.name, [])
        reads = kernel.in_axis is not None and kernel.in_axis % weight.rank in axes
        makes = kernel.out_axis % weight.rank in axes
        known = kernel.blocks == 1 and not kernel.recurrent and kernel.in_axis is not None
        if not known or not (reads or makes) or len(axes) != reads + makes:
            raise _RefusedError(f"'{node.name}' ({node.op}) is no plain layer of it")
        if reads:
            if data is None or data.name not in self._axes:
                raise _RefusedError(f"'{node.name}' reads it with a weight that is computed")
            self._reads(node, kernel, weight, data)
        elif data is not None and data.name in self._axes:
            raise _RefusedError(f"'{node.name}' ({node.op}) does not read all of it")
        if makes:
            self._use(weight, "turned", axis=kernel.out_axis % weight.rank)
            bias = node.input(kernel.bias) if kernel.bias is not None else None
            if bias is not None:
                self._use(bias, "turned")
            self._give(node, Value(written=self._own(weight, bias)))
        elif any(y.name in self._axes for y in node.outputs):
            raise _RefusedError(f"'{node.name}' ({node.op}) is no plain layer of it")

    def _reads(self, node: Node, kernel: Kernel, weight: Tensor, data: Tensor) -> None:
        value = self._value(data)
        self._seen |= not value.meanless
        if value.squared:
            raise _RefusedError(f"'{node.name}' reads its squares")
        assert kernel.in_axis is not None
        self._use(weight, "turned", value.gamma, axis=kernel.in_axis % weight.rank)
        if value.gamma is not None or value.beta is not None:
            self._read[data.at(kernel.reads)] = None
        if value.beta is not None:
            layer = self._layers.get(node.name)
            name = (
                ""
                if layer is None
                else bias_of(layer, self._analysis.index.readers, self._analysis.read)[0]
            )
            auto = node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
            if not name or auto or any(node.attrs.get("pads") or ()):
                raise _RefusedError(f"'{node.name}' has no bias of its own that takes β")
            self._folds[name] = Fold(name, weight.name, kernel.in_axis % weight.rank, value.beta)

    # everything between ---------------------------------------------------------------------

    def _norm(self, node: Node) -> Value | None:
        form = ops.NORMS.get(node.op)
        if form is None:
            return None
        for index in form.added:
            tensor = node.input(index)
            if tensor is not None:
                self._plain(node, tensor)
        others = [y for k, y in enumerate(node.outputs) if k not in (0, form.total) and y.name]
        if others or node.attrs.get("axis", -1) not in (-1, node.outputs[0].rank - 1):
            raise _RefusedError(f"'{node.name}' gives statistics, or normalises more than it")
        self._centred |= form.centred
        self._seen |= not form.centred
        gamma = self._folded(node, form.gamma, "ones")
        beta = None if form.beta is None else self._folded(node, form.beta, "zeros")
        self._values[node.outputs[0].name] = Value(gamma, beta, meanless=form.centred)
        return Value()  # the sum before, where that is another result

    def _folded(self, node: Node, index: int, kind: Kind) -> Floats | None:
        """What a stored vector holds that is folded into layers."""
        tensor = node.input(index)
        return None if tensor is None else self._vector(node, tensor, kind)

    def _vector(self, node: Node, tensor: Tensor, kind: Kind) -> Floats:
        roots = self._value(tensor).roots
        stored = self._analysis.read(next(iter(roots))) if len(roots) == 1 else None
        if stored is None or stored.size != self._group.channels:
            raise _RefusedError(f"'{node.name}' multiplies it with what is not one stored vector")
        self._use(tensor, kind)
        return np.asarray(stored, np.float64).ravel()

    def _arithmetic(self, node: Node) -> Value | None:
        sign = ops.ARITHMETIC.get(node.op)
        if sign is None:
            return None
        inside = [t for t in node.inputs if t is not None and t.name in self._axes]
        if ops.squares(node):
            return self._square(node, inside[0])
        if sign in "+-":
            return self._sum(node, inside)
        if len(inside) == 1:  # with one number for all positions
            value = self._determined(inside[0])
            if value.beta is not None or (sign == "/" and inside[0] is not node.inputs[0]):
                raise _RefusedError(f"'{node.name}' ({node.op}) is not linear in it")
            return value
        stored = next((t for t in reversed(inside) if self._value(t).roots), None)
        if len(inside) != 2 or stored is None or (sign == "/" and stored is inside[0]):
            raise _RefusedError(f"'{node.name}' multiplies it with itself")
        value = self._determined(next(t for t in inside if t is not stored))
        by = self._vector(node, stored, "ones")
        if value.plain and value.written:  # LayerScale: into what writes it
            for key in value.written:
                self._uses[key] = self._uses[key]._replace(gamma=1 / by if sign == "/" else by)
            return Value()
        return scaled(value, by, sign)

    def _own(self, *tensors: Tensor | None) -> tuple[tuple[str, int], ...]:
        """The stored tensors that these are made of; none where one serves elsewhere, too."""
        found = list[tuple[str, int]]()
        for tensor in (t for t in tensors if t is not None):
            for root in self._value(tensor).roots:
                uses = [(name, axis) for name, axis in self._uses if name == root]
                if len(uses) != 1 or len(self._analysis.index.readers[root]) != 1:
                    return ()
                found += uses
        return tuple(found)

    def _sum(self, node: Node, inside: Sequence[Tensor]) -> Value:
        if len(inside) < sum(t is not None for t in node.inputs):
            self._centred = True  # what has one number for all positions turns with Q·1 = 1 alone
        known = [t for t in inside if not self._value(t).roots]
        if len(known) == 1 and len(inside) == 2 and self._value(known[0]).gamma is not None:
            other = next(t for t in inside if t is not known[0])
            value = self._value(known[0])
            if ops.adds(node.op) and self._is_vector(other):
                beta = self._vector(node, other, "zeros")
                return replace(value, beta=beta if value.beta is None else value.beta + beta)
        for tensor in inside:
            self._plain(node, tensor)
        if len(known) == 1 and ops.adds(node.op):
            written = self._value(known[0]).written
            own = self._own(*(t for t in inside if t is not known[0]))
            return Value(written=written + own if written and own else ())
        return Value(meanless=self._subtracts_mean(node))

    def _subtracts_mean(self, node: Node) -> bool:
        mean = None if len(node.inputs) < 2 else node.inputs[1]
        maker = None if mean is None else self._analysis.index.makers.get(mean.name)
        return maker is not None and maker.centres

    def _square(self, node: Node, x: Tensor) -> Value:
        self._plain(node, x)
        return Value(squared=True, meanless=self._value(x).meanless)

    def _is_vector(self, tensor: Tensor) -> bool:
        return tensor.sample is not None and np.prod(tensor.sample) == self._group.channels

    def _reduction(self, node: Node) -> Value | None:
        """Means and sums, along the stream or along other axes."""
        x = node.input(0)
        if ops.squares(node) and x is not None:
            return self._square(node, x)
        if (node.op not in ops.POWERS and node.op not in ops.LINEAR) or x is None:
            return None
        value = self._determined(x)
        tables = (table[node.op](node) for table in (ops.SUMS, ops.CENTRES) if node.op in table)
        along = {axis % x.rank for found in tables for _, axis in found}
        if not along.isdisjoint(self._axes[x.name]):
            power = ops.POWERS.get(node.op)
            first = power == 1 and value.plain
            if not (first or (power == 1 and value.mere_squares) or (power == 2 and value.plain)):
                raise _RefusedError(f"'{node.name}' ({node.op}) is not linear in it")
            self._centred |= first
            self._seen |= not (value.meanless or node.centres)
            return value
        if node.op not in ops.LINEAR or value.squared:
            raise _RefusedError(f"'{node.name}' ({node.op}) is not linear in it")
        if value.beta is not None and not ops.LINEAR[node.op]:
            raise _RefusedError(f"'{node.name}' ({node.op}) changes what is added to it")
        return value

    def _move(self, node: Node) -> Value | None:
        copies = ops.COPIES.get(node.op)
        if copies is None and node.op not in ops.CASTS:
            return None
        inside = [t for t in node.inputs if t is not None and t.name in self._axes]
        values = [self._value(t) for t in inside]
        if all(y.constant for y in node.outputs):  # a stored tensor that is moved
            return Value(roots=frozenset[str]().union(*(value.roots for value in values)))
        if copies != "joins":
            return self._determined(inside[0])
        for tensor in inside:
            self._plain(node, tensor)
        return Value(meanless=all(value.meanless for value in values))

    # what is known of a tensor --------------------------------------------------------------

    def _value(self, tensor: Tensor) -> Value:
        """What is known of a tensor; one that is stored may be anything yet."""
        if tensor.name not in self._values and tensor.name in self._axes:
            if self._analysis.read(tensor.name) is None:
                raise _RefusedError(f"'{tensor.name}' is not understood")
            return Value(roots=frozenset([tensor.name]))
        return self._values[tensor.name]

    def _determined(self, tensor: Tensor) -> Value:
        """The same for what is to be a part of the stream."""
        value = self._value(tensor)
        if not value.roots:
            return value
        self._use(tensor, "turned")
        return Value()

    def _plain(self, node: Node, tensor: Tensor) -> None:
        if tensor.name not in self._axes or not self._determined(tensor).plain:
            raise _RefusedError(
                f"'{node.name}' ({node.op}) takes '{tensor.name}' as it is scaled channel by "
                "channel, as behind the normalisations of a post-norm network"
            )

    def _use(
        self, tensor: Tensor, kind: Kind, gamma: Floats | None = None, axis: int | None = None
    ) -> None:
        """Note what becomes of the stored tensors that a tensor is made of."""
        if tensor.name in self._values and not self._values[tensor.name].roots:
            raise _RefusedError(f"'{tensor.name}' is computed, and used as a weight")
        stored = self._analysis.read(tensor.name) is not None
        for root in sorted(self._value(tensor).roots):
            axes = self._axes[root]
            if axis is None or not stored:
                if len(axes) != 1:
                    raise _RefusedError(f"'{root}' has two axes of it")
                at = axes[0]
            else:
                at = axis
            self._note(Use(root, at, kind, gamma))

    def _note(self, use: Use) -> None:
        before = self._uses.setdefault((use.tensor, use.axis), use)
        if before.kind != use.kind or not same_numbers(before.gamma, use.gamma):
            raise _RefusedError(f"'{use.tensor}' is read in two ways (tied weights)")
