"""The weights of a model that can lose single numbers, and how each is laid out."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.errors import InputError
from onnxprune.ops.dequantize import makers, source
from onnxprune.types import Node, Tensor

__all__ = ["Chosen", "Weight", "excluded", "select_weights", "weights_of"]

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Weight:
    """A stored tensor `name` that `node` multiplies with, as (rows, taps, channels).

    Attributes:
        rows_of: axes that make results, among them all that repeat the whole weight.
        in_axis: the axis of input channels, None where each result reads one channel.
        lookup: an embedding, of which a row is taken.
        packed: several numbers share a byte.
    """

    name: str
    node: Node
    shape: tuple[int, ...]
    rows_of: tuple[int, ...]
    in_axis: int | None
    lookup: bool = False
    packed: bool = False

    @property
    def taps_of(self) -> tuple[int, ...]:
        """The other axes: a kernel's window."""
        used = {*self.rows_of, self.in_axis}
        return tuple(axis for axis in range(len(self.shape)) if axis not in used)

    @property
    def form(self) -> tuple[int, int, int]:
        """(rows, taps, channels)."""
        rows = math.prod(self.shape[axis] for axis in self.rows_of)
        channels = 1 if self.in_axis is None else self.shape[self.in_axis]
        return rows, math.prod(self.shape[axis] for axis in self.taps_of), channels

    @property
    def plain(self) -> Weight:
        """The same tensor number by number, in the order in which it is stored."""
        return replace(self, rows_of=tuple(range(len(self.shape))), in_axis=None)

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def _order(self) -> tuple[int, ...]:
        return (*self.rows_of, *self.taps_of, *(() if self.in_axis is None else (self.in_axis,)))

    def laid(self, stored: Array) -> Array:
        """The stored tensor as (rows, taps, channels)."""
        laid: Array = stored.transpose(self._order).reshape(self.form)
        return laid

    def unlaid(self, laid: Array) -> Array:
        """The inverse of `laid`."""
        wide = laid.reshape([self.shape[axis] for axis in self._order])
        stored: Array = wide.transpose(np.argsort(self._order))
        return stored


def weights_of(nodes: Sequence[Node], shapes: Mapping[str, tuple[int, ...]]) -> list[Weight]:
    """Every stored tensor that operators multiply with or look rows up in, once each.

    `shapes` are those of stored tensors.
    """
    made_by, found = makers(nodes), dict[str, Weight]()
    for node in nodes:
        for tensor, rows, channels, lookup in _uses(node):
            origin, axes = source(tensor, made_by)
            shape = shapes.get(origin.name)
            if shape is None or len(shape) != len(axes) or origin.name in found:
                continue
            found[origin.name] = Weight(
                origin.name,
                node,
                shape,
                tuple(axes[axis] for axis in rows),
                None if channels is None else axes[channels],
                lookup,
                _packed(node, tensor),
            )
    return list(found.values())


def _uses(node: Node) -> list[tuple[Tensor, tuple[int, ...], int | None, bool]]:
    """Constant inputs with axes that make results, the axis of channels, and if it is a lookup."""
    uses: list[tuple[Tensor, tuple[int, ...], int | None, bool]] = []
    for kernel in ops.kernels_of(node):
        weight = node.inputs[kernel.index]
        if weight is None or not weight.constant or weight.rank < 2:
            continue
        if node.op in ops.LOOKUPS:
            uses.append((weight, tuple(range(weight.rank)[1:]), 0, True))
            continue
        made = {axis % weight.rank for axis in (kernel.out_axis, *kernel.more_out)}
        channels = None if kernel.in_axis is None else kernel.in_axis % weight.rank
        # what stands before the results and is not read along repeats the whole weight
        repeats = {axis for axis in range(min(made)) if axis != channels}
        uses.append((weight, tuple(sorted(made | repeats)), channels, False))
    return uses


def _packed(node: Node, tensor: Tensor) -> bool:
    facts = ops.QUANTIZED[node.op](node) if node.op in ops.QUANTIZED else ()
    return any(q.bits and node.input(q.input) is tensor for q in facts)


@dataclass(frozen=True)
class Chosen:
    """Weights to make sparse, and why others are left as they are."""

    weights: list[Weight]
    skipped: dict[str, str]


def select_weights(
    weights: Sequence[Weight],
    kinds: Mapping[str, Any],
    only: Sequence[str] = (),
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Chosen:
    """Select by operator type and by regular expressions for the names of nodes and weights.

    `kinds` are the types of stored tensors.

    Raises:
        InputError: an operator type or an expression matches nothing.
    """
    _known(only, {weight.node.op for weight in weights})
    inside, outside = _compiled("include", include), _compiled("exclude", exclude)
    _match("include", inside, weights)
    _match("exclude", outside, weights)
    taken, skipped = list[Weight](), dict[str, str]()
    for weight in weights:
        reason = ""
        if only and weight.node.op not in only:
            reason = f"operator {weight.node.op} was not asked for"
        elif inside and not any(_hits(pattern, weight) for pattern in inside):
            reason = "not included by the user"
        elif any(_hits(pattern, weight) for pattern in outside):
            reason = "excluded by the user"
        elif weight.packed:
            reason = "several numbers share a byte"
        elif not _numbers(kinds[weight.name]):
            reason = f"its type {np.dtype(kinds[weight.name])} holds no weights"
        if reason:
            skipped[weight.name] = reason
        else:
            taken.append(weight)
    return Chosen(taken, skipped)


def excluded(weights: Sequence[Weight], patterns: Sequence[str]) -> set[str]:
    """Names of the weights that the user leaves alone."""
    outside = _compiled("exclude", patterns)
    return {weight.name for weight in weights if any(_hits(p, weight) for p in outside)}


def _numbers(kind: Any) -> bool:
    """Whether a type holds weights: indices and shapes are int64, int32 or bool."""
    dtype = np.dtype(kind)
    return dtype.kind in "fV" or (dtype.itemsize == 1 and dtype.kind in "iu")


def _known(only: Sequence[str], there: Collection[str]) -> None:
    for op in only:
        if op not in there:
            raise InputError(
                f"op {op!r}: no weight of the model belongs to one. There are: "
                f"{', '.join(sorted(there)) or 'none'}"
            )


def _compiled(what: str, patterns: Sequence[str]) -> list[re.Pattern[str]]:
    try:
        return [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise InputError(
            f"{what} {error.pattern!r}: not a regular expression: {error}. Correct it."
        ) from error


def _match(what: str, patterns: Sequence[re.Pattern[str]], weights: Sequence[Weight]) -> None:
    for pattern in patterns:
        if not any(_hits(pattern, weight) for weight in weights):
            raise InputError(
                f"{what} '{pattern.pattern}': matches no node and no weight. Give names as inspect "
                "has them."
            )


def _hits(pattern: re.Pattern[str], weight: Weight) -> bool:
    return bool(pattern.search(weight.name) or pattern.search(weight.node.name))
