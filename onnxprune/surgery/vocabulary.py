"""Remove rows of token tables that nothing asks for, with the scores that a head gives tokens.

Tokens that stay keep their order and get new numbers, so that comparing two numbers or searching
for the largest one gives what it did. Every table that is looked up by the same numbers loses the
same rows, and an output with a score for each token the same columns. Whatever else reads the
numbers, or the table, refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import edit, graph
from onnxprune.ir import inputs as feeding
from onnxprune.ir.graph import ModelProto
from onnxprune.surgery.proof import Proof, ProofRun, compare
from onnxprune.surgery.rewrite import rewrite
from onnxprune.types import Axis, Ints, Node, Plan, Tensor

__all__ = ["Vocabulary", "find_vocabulary", "mapping", "prove_tokens", "with_tokens"]

#: How the type of flags is numbered: a cast to them tells number 0 from others.
BOOL = 9


@dataclass(frozen=True)
class Vocabulary:
    """Where a model has tokens.

    Attributes:
        size: how many there are.
        inputs: names of the inputs that hold their numbers.
        axes: axes of stored tensors and of activations with one position for each.
        outputs: names of the outputs with a score for each, on their last axis.
        compared: results of operators that compare or join numbers, and the stored ones they read.
    """

    size: int
    inputs: tuple[str, ...]
    axes: tuple[Axis, ...]
    outputs: tuple[str, ...]
    compared: Mapping[str, str]


def find_vocabulary(analysis: Analysis) -> Vocabulary:
    """Find the largest table that is looked up by numbers of an input, and what belongs to it.

    Raises:
        InputError: there is none, or something else reads the numbers or the table.
    """
    reach = {value.name: _reached(analysis, value.name)
             for value in graph.graph_inputs(analysis.model)}  # fmt: skip
    sizes = {name: [_rows(node) for node in seen.lookups] for name, seen in reach.items()}
    size = max((size for found in sizes.values() for size in found), default=0)
    if not size:
        raise InputError(
            "no input holds numbers of tokens: none looks up rows of a stored table. Leave "
            "keep-tokens out."
        )
    inputs = tuple(name for name, found in sizes.items() if size in found)
    lookups = [node for name in inputs for node in reach[name].lookups]
    tables = {node.inputs[0].name for node in lookups}  # type: ignore[union-attr]
    numbers = set[str]().union(*(reach[name].numbers for name in inputs))
    readers = [node for name in inputs for node in reach[name].nodes]
    compared = {node.outputs[0].name: name for node in readers for name in _compared(node, numbers)}
    for node in lookups:
        if _rows(node) != size:
            raise InputError(
                f"'{node.name}' looks up one of {_rows(node)} rows, another table one of {size}: "
                f"tokens are not told apart. Export it with tokens that only look up rows."
            )
    axes, outputs = _tables(analysis, lookups), list[str]()
    for value in analysis.model.graph.output:
        head = _head(analysis, value.name, size)
        if head:
            axes += [axis for axis in head if axis not in axes]
            outputs.append(value.name)
    _check_readers(analysis, axes, tables)
    return Vocabulary(size, inputs, tuple(axes), tuple(outputs), compared)


def _tables(analysis: Analysis, lookups: Sequence[Node]) -> list[Axis]:
    """The axes of tables along which numbers look up rows, and those of what is stored for them."""
    found = dict[Axis, None]()
    for node in lookups:
        if (table := node.inputs[0]) is not None:
            axes = _stored(analysis, table, _along(node))
            if not axes:
                why = f"'{node.name}' looks up rows of '{table.name}', which is computed"
                raise InputError(
                    f"{why}: rows cannot go. Export it with tokens that only look up rows."
                )
            found |= dict.fromkeys(axes)
    return list(found)


def _rows(node: Node) -> int:
    table = node.inputs[0]
    return 0 if table is None else table.size(_along(node)) or 0


def _along(node: Node) -> int:
    """The axis of its table along which a node looks up rows."""
    return int(node.attrs.get("axis", 0))


class _Reached(NamedTuple):
    """The nodes that see numbers of an input as they are, and the names of all these numbers."""

    nodes: list[Node]
    numbers: set[str]

    @property
    def lookups(self) -> list[Node]:
        """Those that look up rows of a table by them."""
        return [
            node
            for node in self.nodes
            if node.op in ops.LOOKUPS
            and (table := node.inputs[0]) is not None
            and table.name not in self.numbers
        ]


def _reached(analysis: Analysis, name: str) -> _Reached:
    """Follow numbers of an input as far as they are moved only."""
    reach, found = {name}, []
    for node in analysis.nodes:
        seen = [k for k, t in enumerate(node.inputs) if t is not None and t.name in reach]
        captured = any(t.name in reach for t in node.captured)
        if not (seen or captured) or node.op in ops.SIZES:
            continue
        found.append(node)
        looked_up = node.op in ops.LOOKUPS and 0 not in seen
        if (node.op in ops.COPIES and not looked_up) or node.op in ops.CASTS:
            reach.update(t.name for t in node.outputs)
    return _Reached(found, reach)


def _compared(node: Node, numbers: Collection[str]) -> Iterator[str]:
    """Stored numbers of single tokens that are compared or joined with others; else InputError."""
    flags = node.op in ops.CASTS and node.attrs.get("to", BOOL) == BOOL
    joins = ops.COPIES.get(node.op) == "joins"
    others = [t for t in node.inputs if t is not None and t.name not in numbers]
    moved = node.op in ops.COPIES and not (joins and others)
    if not flags and (moved or node.op in ops.CASTS or node.op in ops.LARGEST):
        return
    stored = [t for t in node.inputs if t is not None and t.constant]
    known = len(others) == 1 if joins else node.op in ops.ORDERS
    if not known or len(stored) != 1:
        raise InputError(
            f"'{node.name}' ({node.op}) computes with numbers of tokens. "
            "Export it with tokens that only look up rows."
        )
    yield stored[0].name


def _head(analysis: Analysis, output: str, size: int) -> list[Axis]:
    """Axes of what makes a score for each token; none where an output is no such thing."""
    found, name = list[Axis](), output
    while True:
        node = analysis.index.makers.get(name)
        y = None if node is None else next(t for t in node.outputs if t.name == name)
        if node is None or y is None or y.rank < 1 or y.size(-1) != size:
            return []
        found.append(y.at(-1))
        layer = next(iter(ops.kernels_of(node)), None)
        if layer is not None and node.op in ops.QUANTIZED:
            return []
        if layer is not None:
            weight = node.inputs[layer.index]
            bias = node.input(layer.bias) if layer.bias is not None else None
            more = [] if bias is None or bias.size(-1) != size else [bias.at(-1)]
            own = [] if weight is None else _stored(analysis, weight, layer.out_axis % weight.rank)
            return [*found, *more, *own] if own else []
        following = _through(node, size)
        if following is None:
            return []
        added, name = following
        found += added


def _through(node: Node, size: int) -> tuple[list[Axis], str] | None:
    """What is added to scores one by one, and where they come from."""
    if node.op in ops.CASTS or ops.passes(node.op):
        x = node.inputs[0]
        return None if x is None else ([], x.name)
    moving = [t for t in node.inputs if t is not None and not t.constant]
    if node.op not in ops.ARITHMETIC or len(moving) != 1 or moving[0].size(-1) != size:
        return None
    stored = [t for t in node.inputs if t is not None and t.constant and t.rank > 0]
    return [t.at(-1) for t in stored if t.size(-1) == size], moving[0].name


def _stored(analysis: Analysis, weight: Tensor, axis: int) -> list[Axis]:
    """The axis of a weight, and that of the stored tensor that it is made of; none if unknown."""
    found = [weight.at(axis)]
    while analysis.read(weight.name) is None:
        node = analysis.index.makers.get(weight.name)
        x = node.inputs[0] if node is not None else None
        if node is None or x is None:
            return []
        if ops.COPIES.get(node.op) == "permutes":
            order = node.attrs.get("perm") or list(range(x.rank))[::-1]
            axis = int(order[axis])
        elif not (ops.passes(node.op) or node.op in ops.CASTS or _one_scale(node)):
            return []
        weight = x
        found.append(weight.at(axis))
    return found


def _one_scale(node: Node) -> bool:
    """Whether integers become reals by one scale for all of them."""
    return node.op in ops.DECODERS and all(
        t is None or (t.sample is not None and np.prod(t.sample) == 1) for t in node.inputs[1:]
    )


def _check_readers(analysis: Analysis, axes: list[Axis], tables: set[str]) -> None:
    """Refuse where something reads what is cut that neither looks up rows nor makes scores."""
    known = {axis.tensor for axis in axes}
    for name in sorted(known):
        for node in analysis.index.readers.get(name, []):
            looks_up = node.op in ops.LOOKUPS and name in tables
            if not looks_up and not any(y.name in known for y in node.outputs):
                raise InputError(
                    f"'{node.name}' ({node.op}) reads '{name}', which has a place for each token, "
                    "and its result is no output's: tokens cannot go. Export it with tokens that "
                    "only look up rows."
                )


def with_tokens(analysis: Analysis, vocabulary: Vocabulary, kept: Ints) -> ModelProto:
    """The model for kept tokens alone, numbered anew in their order."""
    size = dict.fromkeys(vocabulary.axes, vocabulary.size)
    plan = Plan(dict.fromkeys(vocabulary.axes, kept), size)
    numbers = {
        made: (name, _renumbered(analysis, made, name, kept))
        for made, name in vocabulary.compared.items()
    }
    return rewrite(edit.with_own_inputs(analysis.model, numbers), analysis.nodes, plan)


def _renumbered(analysis: Analysis, made: str, name: str, kept: Ints) -> NDArray[Any]:
    """Stored numbers of tokens in the new order; of those that are gone a place between others.

    Only an operator that asks for equality may meet one of these: none is equal to -1.
    """
    stored = analysis.read(name)
    if stored is None:
        raise InputError(
            f"'{name}' is compared with numbers of tokens, and computed. "
            "Export it with tokens that only look up rows."
        )
    place = np.searchsorted(kept, stored)
    known = np.isin(stored, kept)
    node = analysis.index.makers[made]
    if not (ops.ORDERS.get(node.op, False) or known.all()):
        gone = int(np.ravel(stored)[~np.ravel(known)][0])
        does = "compares numbers of tokens with" if node.op in ops.ORDERS else "puts in token"
        raise InputError(f"'{node.name}' {does} {gone}, which would go: keep it")
    renumbered: NDArray[Any] = np.where(known, place, -1).astype(stored.dtype)
    return renumbered


def prove_tokens(
    analysis: Analysis, vocabulary: Vocabulary, kept: Ints, model: ModelProto, seed: int
) -> Proof:
    """Run both models on kept tokens, each by its own numbers.

    Raises:
        ProofError: they do not give the same.
    """
    feeds = feeding.seeded(analysis.model, ops.index_bounds(analysis.nodes), analysis.sample, seed)
    new = dict(feeds)
    rng = np.random.default_rng(seed)
    for name in vocabulary.inputs:
        drawn = rng.integers(0, len(kept), feeds[name].shape)
        feeds[name] = kept[drawn].astype(feeds[name].dtype)
        new[name] = drawn.astype(feeds[name].dtype)
    before = ProofRun(analysis.model, analysis.read).run(feeds)
    wanted = {
        name: np.take(value, kept, -1) if name in vocabulary.outputs else value
        for name, value in before.items()
    }
    proof = compare(wanted, ProofRun(model).run(new))
    if not proof.passed:
        raise ProofError(
            f"without the tokens that go output '{proof.output}' is off by "
            f"{proof.max_relative_error:.2g}; nothing was written. Report the model."
        )
    return proof


def mapping(vocabulary: Vocabulary, kept: Ints) -> Mapping[str, Any]:
    """The map of numbers, as it is written beside the model."""
    return {"tokens": vocabulary.size, "inputs": list(vocabulary.inputs),
            "outputs": list(vocabulary.outputs), "kept": kept.tolist()}  # fmt: skip
