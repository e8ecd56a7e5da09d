"""Einsum: every letter of the equation is one axis, wherever it stands.

A letter that the result has is passed through; one that it lacks is summed over. The axes behind
an ellipsis are aligned at the end and get letters of their own: "-1" is the last one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from onnxprune.ops import einsum_gradient
from onnxprune.ops.constants import constant
from onnxprune.ops.gradients import gradient
from onnxprune.ops.registry import couples, kernel, macs, sums
from onnxprune.ops.zero_channels import summed_zeros
from onnxprune.types import Coupling, Free, Kernel, Node, Tensor, Work

Letters: TypeAlias = tuple[str, ...]


class _Use(NamedTuple):
    """A letter is axis `axis` of `tensor`, which is input `number`, or the result at -1."""

    number: int
    tensor: Tensor
    axis: int


def _spelt(term: str, rank: int) -> Letters | None:
    """One letter per axis of an operand, None where the term does not fit its rank."""
    before, ellipsis, after = term.partition("...")
    hidden = rank - len(before) - len(after)
    if hidden < 0 or (hidden and not ellipsis):
        return None
    return (*before, *(str(k) for k in range(-hidden, 0)), *after)


def _terms(equation: str, ranks: Sequence[int]) -> tuple[tuple[Letters, ...], Letters] | None:
    """The letters of every operand and of the result."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    spelt = [_spelt(t, r) for t, r in zip(left.split(","), ranks, strict=True)]
    operands = tuple(letters for letters in spelt if letters is not None)
    if len(operands) < len(ranks):
        return None
    count = Counter(letter for letters in operands for letter in letters)
    hidden = max((sum(not v.isalpha() for v in letters) for letters in operands), default=0)
    if not arrow:  # the letters that occur once, in alphabetical order
        right = "..." + "".join(sorted(v for v, n in count.items() if n == 1 and v.isalpha()))
    shown = len(right.replace("...", ""))
    result = _spelt(right, shown + (hidden if "..." in right else 0))
    return None if result is None else (operands, result)


def _uses(node: Node) -> dict[str, list[_Use]]:
    """Where each letter stands at full size; letters whose size may vary are left out."""
    y, inputs = node.outputs[0], node.inputs
    if any(x is None or x.rank < 0 for x in inputs):
        return {}
    terms = _terms(node.attrs["equation"], [x.rank for x in inputs if x is not None])
    if terms is None or len(terms[1]) != y.rank or len(set(terms[1])) != y.rank:
        return {}
    found: dict[str, list[_Use]] = {}
    for number, letters in enumerate((*terms[0], terms[1])):
        tensor = inputs[number] if number < len(inputs) else y
        for axis, letter in enumerate(letters):
            assert tensor is not None
            use = _Use(number if number < len(inputs) else -1, tensor, axis)
            found.setdefault(letter, []).append(use)
    return {letter: full for letter, uses in found.items() if (full := _full(uses))}


def _full(uses: Sequence[_Use]) -> list[_Use]:
    """The uses at full size: a size of 1 is broadcast; none where a size may vary."""
    sizes = [use.tensor.size(use.axis) for use in uses]
    if None in sizes:
        return []
    widest = max(size for size in sizes if size is not None)
    full = [use for use, size in zip(uses, sizes, strict=True) if size == widest]
    return full if all(size in (1, widest) for size in sizes) else []


def _summed(uses: Sequence[_Use]) -> bool:
    return all(use.number >= 0 for use in uses)


@couples("Einsum")
def einsum(node: Node) -> Iterator[Coupling | Free]:
    """All axes of one letter are one axis."""
    for first, *others in _uses(node).values():
        yield Free(first.tensor.at(first.axis))
        for use in others:
            yield Coupling(first.tensor.at(first.axis), use.tensor.at(use.axis))


@sums("Einsum")
def summed(node: Node) -> Iterator[tuple[int, int]]:
    """Letters that the result lacks and no constant operand has."""
    for uses in _uses(node).values():
        if _summed(uses) and not any(use.tensor.constant for use in uses):
            yield from ((use.number, use.axis) for use in uses)


@kernel("Einsum")
def kernel_einsum(node: Node) -> tuple[Kernel, ...]:
    """The constant one of two operands: letters of its own make channels, summed ones read them."""
    constant = [k for k, x in enumerate(node.inputs) if x is not None and x.constant]
    if len(node.inputs) != 2 or len(constant) != 1:
        return ()
    makes: list[tuple[int, int]] = []
    reads: list[tuple[int, int]] = []
    for uses in _uses(node).values():
        axis = {use.number: use.axis for use in uses}
        mine, data, result = (axis.get(k) for k in (constant[0], 1 - constant[0], -1))
        if mine is not None and data is not None and result is None:
            reads.append((mine, data))
        elif mine is not None and data is None and result is not None:
            makes.append((mine, result))
    if not makes:
        return ()
    *others, (out, channel) = makes
    more = tuple(axis for axis, _ in others)
    made = Kernel(constant[0], out, None, channel=channel, more_out=more)
    return tuple(replace(made, in_axis=into, source=source) for into, source in reads) or (made,)


@macs("Einsum")
def macs_einsum(node: Node) -> Work | None:
    """Two operands: one multiply-accumulate for every combination of the letters' positions."""
    axes = tuple(first.tensor.at(first.axis) for first, *_ in _uses(node).values())
    whole = [x.sample for x in node.inputs if x is not None]
    if len(node.inputs) != 2 or any(sample is None for sample in whole):
        return None
    terms = _terms(node.attrs["equation"], [len(sample or ()) for sample in whole])
    if terms is None:
        return None
    sizes: dict[str, int] = {}
    for letters, sample in zip(terms[0], whole, strict=True):
        for letter, size in zip(letters, sample or (), strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return Work(float(math.prod(sizes.values())), axes)


constant("Einsum")(summed_zeros)
gradient("Einsum")(einsum_gradient.einsum)
