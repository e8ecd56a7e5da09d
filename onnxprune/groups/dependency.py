"""From rules to groups: which positions live and die together.

The walker knows no operator. It joins axes that rules call identical, settles choices, gives
every position of the joined axes a number, and joins numbers along all other couplings: what
carries one label is one channel. An axis that some operator's rule does not mention, the axes of
an operator without a rule, and those of the model's inputs and outputs are frozen, with a reason.
Idea: one small rule per primitive and an engine that walks them, as in automatic differentiation
(Maclaurin, Duvenaud, Adams: Autograd, 2015) and DepGraph (Fang et al., CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from onnxprune.groups.labels import Dependencies, components
from onnxprune.types import (
    Axis,
    Choice,
    Coupling,
    Fact,
    Free,
    Frozen,
    Ints,
    Node,
    Option,
    Tensor,
)

__all__ = ["Constraints", "Dependencies", "dependencies", "find_dependencies"]

#: Broadcasting had other rules before this opset.
OLDEST = 7
#: Orders in which the options of a choice are tried, as numbers of options given outermost first.
PREFERENCES: Mapping[str, Callable[[Sequence[Option]], Sequence[int]]] = {
    "wide": lambda options: sorted(range(len(options)), key=lambda k: -options[k].width),
    "inner": lambda options: range(len(options))[::-1],
    "outer": lambda options: range(len(options)),
}
Rules = Mapping[str, Callable[[Node], Iterable[Fact]]]


class _Axes:
    """Axes joined by identity: a union-find with the first reason to freeze on each root."""

    def __init__(self) -> None:
        self.ids: dict[Axis, int] = {}
        self.sizes: list[int] = []
        self.parent: list[int] = []
        self.frozen: dict[int, Frozen] = {}

    def copy(self) -> _Axes:
        """The same state, to go on from in another way."""
        other = _Axes()
        other.ids, other.sizes = self.ids, self.sizes
        other.parent, other.frozen = self.parent.copy(), self.frozen.copy()
        return other

    def add(self, tensor: Tensor) -> None:
        """Number the static axes of a tensor."""
        for k in range(tensor.rank):
            size, axis = tensor.size(k), Axis(tensor.name, k)
            if size is not None and axis not in self.ids:
                self.ids[axis] = len(self.parent)
                self.parent.append(len(self.parent))
                self.sizes.append(size)

    def root(self, axis: Axis) -> int:
        """The number that stands for all axes joined with `axis`."""
        k, parent = self.ids[axis], self.parent
        while parent[k] != k:
            parent[k] = k = parent[parent[k]]
        return k

    def join(self, a: Axis, b: Axis) -> None:
        """Make two axes one."""
        first, second = sorted((self.root(a), self.root(b)))
        self.parent[second] = first
        if first != second and second in self.frozen:
            self.frozen.setdefault(first, self.frozen[second])

    def holds(self, axis: Axis, positions: Ints | None) -> bool:
        """Whether an axis has all these positions."""
        size = self.sizes[self.ids[axis]]
        return positions is None or not len(positions) or int(np.max(positions)) < size

    def freeze(self, why: Frozen) -> None:
        """Record the first reason only."""
        if why.axis in self.ids:
            self.frozen.setdefault(self.root(why.axis), why)


@dataclass(frozen=True)
class Constraints:
    """What may not be cut: axes of the `interface` with the reason, what the user `excluded`.

    `barriers` are operators that never have a rule, and why. `inexact` lets couplings count
    whose removal changes what stays.
    """

    interface: Mapping[Axis, str] = field(default_factory=dict)
    excluded: Sequence[Frozen] = ()
    barriers: Mapping[str, str] = field(default_factory=dict)
    inexact: bool = False


class _Facts:
    """Everything the rules say, before choices are settled."""

    def __init__(self, nodes: Sequence[Node], rules: Rules, limits: Constraints) -> None:
        self.axes, self.limits = _Axes(), limits
        self.partial: list[Coupling] = []
        self.choices: list[tuple[Node, Choice]] = []
        self.inexact: list[Coupling] = []
        for node in nodes:
            for tensor in node.tensors:
                self.axes.add(tensor)
        for axis, reason in limits.interface.items():
            self.axes.freeze(Frozen(axis, reason, hint="it is part of the model's interface"))
        for why in limits.excluded:
            self.axes.freeze(why)
        for node in nodes:
            self._collect(node, rules)
        if self.choices:
            self._spread()

    def _spread(self) -> None:
        """Freeze axes none of whose positions is free, as far as that is certain already."""
        certain = _label(self.axes, self.partial)
        for root, members in certain.axes.items():
            reasons = certain.blocked(members[0])
            if root not in self.axes.frozen and sum(reasons.values()) == certain.size[root] > 0:
                cause = next(iter(reasons))
                self.axes.freeze(replace(cause, axis=members[0], at=cause.at or cause.axis))

    def _collect(self, node: Node, rules: Rules) -> None:
        """Take in what the node's rule says, and freeze what it does not mention."""
        rule = rules.get(node.op) if node.opset >= OLDEST else None
        mentioned: set[Axis] = set()
        for fact in rule(node) if rule else ():
            if isinstance(fact, Coupling):
                mentioned |= {fact.a, fact.b}
                self._couple(node, fact)
            elif isinstance(fact, Choice):
                mentioned.update(axis for option in fact.options for axis in option.axes)
                self._offer(node, fact)
            elif isinstance(fact, Free):
                mentioned.add(fact.axis)
            else:
                self.axes.freeze(Frozen(fact.axis, fact.reason, node.name, fact.hint))
        for tensor in node.tensors:
            for k in range(tensor.rank):
                axis = Axis(tensor.name, k)
                if axis not in mentioned and axis in self.axes.ids:
                    self.axes.freeze(_silent(node, axis, rule is not None, self.limits.barriers))

    def _offer(self, node: Node, choice: Choice) -> None:
        """An option that shares no axis with another excludes none: it holds from the start."""
        rivals = []
        for option in choice.options:
            if any(option.axes & other.axes for other in choice.options if other is not option):
                rivals.append(option)
            else:
                for coupling in option.couplings:
                    self._couple(node, coupling)
        if rivals:
            self.choices.append((node, choice._replace(options=tuple(rivals))))

    def _couple(self, node: Node, coupling: Coupling) -> None:
        if coupling.inexact and not self.limits.inexact:
            for axis in (coupling.a, coupling.b):
                reason = f"removal changes {coupling.inexact}"
                self.axes.freeze(Frozen(axis, reason, node.name, "--allow-inexact takes it"))
            return
        if coupling.inexact:
            self.inexact.append(coupling)
        _couple(coupling, self.axes, self.partial)

    def read(self, preference: str) -> tuple[frozenset[tuple[int, int]], Dependencies]:
        """Settle all choices in one order: which options were taken, and what that leads to."""
        axes, partial = self.axes.copy(), list(self.partial)
        taken = {
            (k, number)
            for k, (node, choice) in enumerate(self.choices)
            for number in _settle(node, choice, preference, axes, partial)
        }
        found = _label(axes, partial)
        inexact = {found.root[axis]: c.inexact for c in self.inexact for axis in (c.a, c.b)}
        return frozenset(taken), replace(found, inexact=inexact)


def dependencies(
    nodes: Sequence[Node], rules: Rules, limits: Constraints | None = None, preference: str = "wide"
) -> Dependencies:
    """Walk `nodes` once and join what the rules couple.

    `preference` says which options of a choice come first. Nodes are in topological order.
    """
    return _Facts(nodes, rules, limits or Constraints()).read(preference)[1]


def find_dependencies(
    nodes: Sequence[Node], rules: Rules, limits: Constraints
) -> tuple[Dependencies, ...]:
    """One trace for every reading that settles the choices in another way."""
    facts = _Facts(nodes, rules, limits)
    found: dict[frozenset[tuple[int, int]], Dependencies] = {}
    for preference in PREFERENCES:
        if found and not facts.choices:
            break
        taken, result = facts.read(preference)
        found.setdefault(taken, result)
    return tuple(found.values())


def _silent(node: Node, axis: Axis, has_rule: bool, barriers: Mapping[str, str]) -> Frozen:
    if has_rule:
        reason = f"{node.op} does not treat the positions of axis {axis.axis} one by one"
        return Frozen(axis, reason, node.name, "no rule can free it without changing the result")
    if node.opset < OLDEST:
        reason = f"opset {node.opset} is older than {OLDEST}"
        return Frozen(axis, reason, node.name, "convert it with onnx.version_converter")
    if node.op in barriers:
        return Frozen(axis, f"{node.op}: {barriers[node.op]}", node.name, "nothing can free it")
    reason = f"no rule for operator {node.op}"
    hint = f"register a rule with onnxprune.couples('{node.op}') or state one with --rules"
    return Frozen(axis, reason, node.name, hint)


def _couple(coupling: Coupling, axes: _Axes, partial: list[Coupling]) -> None:
    if coupling.a_at is None:
        axes.join(coupling.a, coupling.b)
    elif axes.holds(coupling.a, coupling.a_at) and axes.holds(coupling.b, coupling.b_at):
        partial.append(coupling)
    else:  # the sizes of a damaged model, which no runtime would take
        for axis in (coupling.a, coupling.b):
            axes.freeze(Frozen(axis, f"sizes of {coupling.a} and {coupling.b} do not fit"))


def _settle(
    node: Node, choice: Choice, preference: str, axes: _Axes, partial: list[Coupling]
) -> list[int]:
    """Take the first options whose axes are not frozen, one per axis; freeze the axes left.

    Returns which options were taken, as numbers.
    """
    chosen = []
    taken: set[Axis] = set()
    for number in PREFERENCES[preference](choice.options):
        option = choice.options[number]
        if option.axes & taken or any(axes.root(axis) in axes.frozen for axis in option.axes):
            continue
        taken |= option.axes
        chosen.append(number)
        for coupling in option.couplings:
            _couple(coupling, axes, partial)
    for coupling in (c for option in choice.options for c in option.couplings):
        for axis, other in ((coupling.a, coupling.b), (coupling.b, coupling.a)):
            if axis not in taken:
                cause = axes.frozen.get(axes.root(other))
                axes.freeze(
                    replace(cause, axis=axis, at=cause.at or cause.axis)
                    if cause
                    else Frozen(axis, choice.reason, node.name, "export without this reshape")
                )
    return chosen


def _label(axes: _Axes, partial: Sequence[Coupling]) -> Dependencies:
    root = {axis: axes.root(axis) for axis in axes.ids}
    roots = sorted(set(root.values()))
    size = {r: axes.sizes[r] for r in roots}
    starts = np.concatenate([[0], np.cumsum([size[r] for r in roots], dtype=np.int64)])
    start = dict(zip(roots, starts[:-1].tolist(), strict=True))
    left = [start[root[c.a]] + c.a_at for c in partial if c.a_at is not None]
    right = [start[root[c.b]] + c.b_at for c in partial if c.b_at is not None]
    label = components(int(starts[-1]), left, right)
    reason: dict[int, Frozen] = {}
    for r, why in axes.frozen.items():
        if r not in start:  # joined to another root since, which has the reason too
            continue
        for lab in sorted(set(label[start[r] : start[r] + size[r]].tolist())):
            reason.setdefault(lab, why)
    return Dependencies(root, start, size, label, reason, {})
