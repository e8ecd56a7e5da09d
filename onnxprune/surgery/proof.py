"""Proof that the surgery was right: both models run, and their outputs compared.

The proof: the original with every removed position zeroed computes what the pruned model does.
Both run in onnxruntime on the same inputs; weights are fed to their skeletons as they lie in
memory, so that no second copy is serialised or parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.ir import exact_products, graph, instrument, runtime, segmented_run, skeleton
from onnxprune.ir.graph import ModelProto
from onnxprune.ops.registry import Rule
from onnxprune.surgery.rewrite import masked
from onnxprune.types import (
    Axis,
    Choice,
    Coupling,
    Detour,
    Edit,
    Fact,
    Ints,
    Mask,
    Node,
    Plan,
    Read,
    Tensor,
)

__all__ = [
    "SEEDED",
    "Proof",
    "ProofRun",
    "Sides",
    "alive",
    "compare",
    "detours_of",
    "masks_of",
    "prove",
]

Outputs: TypeAlias = Mapping[str, NDArray[Any]]
#: What is fed where nothing speaks against it.
SEEDED = "seeded inputs"
#: Largest relative error by type: float32 sums of zeros in another order differ in the last bits.
TOLERANCE = {"float64": 1e-6, "float32": 1e-4, "float16": 1e-2}


@dataclass(frozen=True)
class Proof:
    """Largest |difference| over largest |value| of any output, and whether it is small enough.

    `inputs` says what both were fed.
    """

    max_relative_error: float
    passed: bool
    output: str = ""
    reference: str = "masked original"
    inputs: str = SEEDED


class ProofRun:
    """A model opened without its weights, which each run brings along.

    A `graph.LARGE` model runs in segments, each with the weights that it needs.
    """

    def __init__(
        self,
        model: ModelProto,
        read: Read | None = None,
        fed: Iterable[str] = (),
        masks: Sequence[Mask] = (),
        detours: Sequence[Detour] = (),
    ) -> None:
        self.fed, self.masks = frozenset(fed), masks
        bare = skeleton.skeleton(model, fed=self.fed)
        self.read = read or graph.reader(model)
        names = skeleton.fed_names(model, bare)
        bare = instrument.detoured(instrument.masked(bare, masks), detours)
        bare = exact_products.exact(bare, ops.PAIRS)  # a right cut must not fail by saturation
        self.sizes = graph.sizes(model)
        self.runner = segmented_run.Runner(bare, names, self.sizes)

    def edited(self, change: Callable[[ModelProto], ModelProto]) -> ProofRun:
        """The same model, on a changed skeleton."""
        other = copy(self)
        other.runner = segmented_run.Runner(change(self.runner.bare), self.runner.fed, self.sizes)
        return other

    def reading(self, read: Read) -> ProofRun:
        """The same model, opened once, on other weights: those that are fed."""
        other = copy(self)
        other.read = read
        return other

    def run(
        self,
        feeds: runtime.Feeds,
        read: Read | None = None,
        plan: Plan | None = None,
    ) -> Outputs:
        """All outputs; `read` gives other weights than the stored, `plan` says what is masked."""
        living = {mask.feed: alive(mask, plan) for mask in self.masks}
        return self.runner.run(feeds, read or self.read, living)


def masks_of(nodes: Iterable[Node], axes: Collection[Axis]) -> list[Mask]:
    """Where sums of activations run over the prunable `axes`: dead positions must be zero.

    Where the mean is subtracted first, they must be at the mean of those that stay.
    """
    found = []
    for node in nodes:
        for table, centred in ((ops.SUMS, False), (ops.CENTRES, True)):
            for index, axis in table[node.op](node) if node.op in table else ():
                x = node.inputs[index]
                if x is not None and x.at(axis) in axes:
                    name, size = node.outputs[0].name, x.size(axis) or 0
                    found.append(Mask(name, index, x.at(axis), x.rank, size, centred))
    return found


def detours_of(nodes: Iterable[Node], plan: Plan, rules: Mapping[str, Rule]) -> list[Detour]:
    """Nodes that must see the kept positions only, since dead ones would change the others."""

    def kept(tensor: Tensor, axis: int) -> Ints:
        return plan.keep.get(tensor.at(axis), np.arange(tensor.size(axis) or 0))

    found = []
    for node in nodes:
        facts = rules[node.op](node) if node.op in rules else ()
        hit = {axis for c in _couplings(facts) if c.inexact for axis in (c.a, c.b)}
        if not any(axis in plan.keep for axis in hit):
            continue
        cut = [
            (k, axis, plan.keep[tensor.at(axis)])
            for k, tensor in enumerate(node.inputs)
            if tensor is not None
            for axis in range(tensor.rank)
            if tensor.at(axis) in hit and tensor.at(axis) in plan.keep
        ]
        back = [
            (k, axis, _place(plan.keep[tensor.at(axis)], tensor.size(axis) or 0))
            for k, tensor in enumerate(node.outputs)
            for axis in range(tensor.rank)
            if tensor.at(axis) in hit and tensor.at(axis) in plan.keep
        ]
        edit = ops.SHRINKS[node.op](node, kept) if node.op in ops.SHRINKS else Edit()
        found.append(Detour(node.outputs[0].name, tuple(cut), tuple(back), edit.attrs))
    return found


def _couplings(facts: Iterable[Fact]) -> Iterable[Coupling]:
    for fact in facts:
        if isinstance(fact, Coupling):
            yield fact
        elif isinstance(fact, Choice):
            yield from (c for option in fact.options for c in option.couplings)


def _place(kept: Ints, size: int) -> Ints:
    """(size,) where each position lies among the kept ones; dead positions borrow the first."""
    place = np.zeros(size, np.int64)
    place[kept] = np.arange(len(kept))
    return place


def alive(mask: Mask, plan: Plan | None) -> NDArray[np.bool_]:
    """Which positions of the mask's axis live, shaped to be broadcast over its tensor."""
    shape = [1] * mask.rank
    shape[mask.axis.axis] = mask.size
    living = np.ones(mask.size, bool)
    if plan is None:
        return living.reshape(shape)
    if mask.axis in plan.chosen:
        heads, rows = plan.chosen[mask.axis]
        shape[heads] = len(rows)
        return (rows if heads < mask.axis.axis else rows.T).reshape(shape)
    if mask.axis in plan.keep and mask.axis not in plan.nominal:
        living[plan.dead(mask.axis)] = False
    if mask.centred and not living.any():  # of none there is no mean, and what reads it is zero
        living[:] = True
    return living.reshape(shape)


def compare(reference: Outputs, other: Outputs) -> Proof:
    """Equal within the tolerance of each output's type, and finite."""
    worst = Proof(0.0, True)
    for name, a in reference.items():
        b = other.get(name)
        if b is None or np.shape(a) != np.shape(b):
            return Proof(float("inf"), False, name)
        error = _relative_error(np.asarray(a), np.asarray(b))
        allowed = TOLERANCE.get(str(np.asarray(a).dtype), 0.0)
        if not error <= allowed:
            return Proof(error, False, name)
        if error >= worst.max_relative_error:
            worst = Proof(error, True, name)
    return worst


def _relative_error(a: NDArray[Any], b: NDArray[Any]) -> float:
    if not np.issubdtype(a.dtype, np.number):
        return 0.0 if np.array_equal(a, b) else float("inf")
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(wide_a)
    if not (finite.all() and np.isfinite(wide_b).all()):
        # an infinite constant may pass through both, beside numbers: what a mask leaves out
        same = np.array_equal(wide_a[~finite], wide_b[~finite])
        if not same or not np.isfinite(wide_b[finite]).all():
            return float("nan")
        wide_a, wide_b = wide_a[finite], wide_b[finite]
    gap = float(np.abs(wide_a - wide_b).max(initial=0.0))
    return gap / max(float(np.abs(wide_a).max(initial=0.0)), 1e-12)


@dataclass(frozen=True)
class Sides:
    """Both models of a proof, the inputs of both, and what the pruned one gives on them."""

    reference: ProofRun
    pruned: ProofRun
    inputs: runtime.Feeds
    outputs: Outputs


def prove(sides: Sides, plan: Plan, nodes: Sequence[Node], reads: Collection[Axis]) -> Proof:
    """Compare the masked original with the pruned model.

    A graph that divides by activations can turn the zeros of a dead channel into NaN. Then only
    the weights that read channels, on the axes `reads`, are zeroed: the dead channel carries on as
    before and nobody listens.
    """
    reference, inputs = sides.reference, sides.inputs
    zeroed = masked(reference.read, nodes, plan)
    proof = compare(reference.run(inputs, zeroed, plan), sides.outputs)
    if np.isnan(proof.max_relative_error):
        readers_only = masked(reference.read, nodes, plan, reads)
        proof = compare(reference.run(inputs, readers_only, plan), sides.outputs)
    return proof
