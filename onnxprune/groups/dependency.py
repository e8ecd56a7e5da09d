"""From rules to groups: which positions live and die together.

The walker knows no operator. It joins axes that rules call identical, settles choices, gives
every position of the joined axes a number, and joins numbers along all other couplings: what
carries one label is one channel. An axis that some operator's rule does not mention, the axes of
an operator without a rule, and those of the model's inputs and outputs are frozen, with a reason.
Idea: one small rule per primitive and an engine that walks them, as in automatic differentiation
(Maclaurin, Duvenaud, Adams: Autograd, 2015) and DepGraph (Fang et al., CVPR 2023).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from onnxprune.types import (
    Axis,
    Choice,
    Coupling,
    Fact,
    Free,
    Frozen,
    Group,
    Ints,
    Node,
    Option,
    Site,
    Tensor,
)

__all__ = ["Constraints", "Dependencies", "all_dependencies", "dependencies"]

#: Broadcasting had other rules before this opset.
OLDEST = 7
#: Orders in which the options of a choice are tried, given outermost first.
READINGS: Mapping[str, Callable[[Sequence[Option]], Sequence[Option]]] = {
    "wide": lambda options: sorted(options, key=lambda option: -option.width),
    "inner": lambda options: options[::-1],
    "outer": lambda options: options,
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

    def freeze(self, why: Frozen) -> None:
        """Record the first reason only."""
        if why.axis in self.ids:
            self.frozen.setdefault(self.root(why.axis), why)


@dataclass(frozen=True)
class Dependencies:
    """Labels of all positions, and why some are frozen.

    `label` (n_positions,): equal labels are one channel. `start` and `size` find an axis in it
    through `root`. `reason` maps a frozen label to the reason, `inexact` a root to what removal
    changes there.
    """

    root: Mapping[Axis, int]
    start: Mapping[int, int]
    size: Mapping[int, int]
    label: Ints
    reason: Mapping[int, Frozen]
    inexact: Mapping[int, str]

    def labels(self, axis: Axis) -> Ints:
        """(size,) label of every position of `axis`."""
        root = self.root[axis]
        return self.label[self.start[root] : self.start[root] + self.size[root]]

    @cached_property
    def axes(self) -> Mapping[int, tuple[Axis, ...]]:
        """The axes that each root stands for."""
        members: dict[int, list[Axis]] = defaultdict(list)
        for axis, root in self.root.items():
            members[root].append(axis)
        return {root: tuple(found) for root, found in members.items()}

    @cached_property
    def _frozen(self) -> NDArray[np.bool_]:
        mask = np.zeros(len(self.label), bool)
        mask[list(self.reason)] = True
        return mask[self.label]

    def blocked(self, axis: Axis) -> dict[Frozen, int]:
        """Reasons that freeze positions of `axis`, with how many positions each."""
        counts: dict[Frozen, int] = defaultdict(int)
        for label in self.labels(axis).tolist():
            if label in self.reason:
                counts[self.reason[label]] += 1
        return counts

    def groups(self, name: Callable[[tuple[Axis, ...]], str | None]) -> tuple[Group, ...]:
        """Free channels by the sites they run through; `name` returns None for no group."""
        roots = np.repeat(list(self.start), [self.size[r] for r in self.start])
        at = np.arange(len(self.label)) - np.repeat(
            list(self.start.values()), [self.size[r] for r in self.start]
        )
        free = np.flatnonzero(~self._frozen)
        order = free[np.lexsort((at[free], roots[free], self.label[free]))]
        label, root, position = self.label[order], roots[order], at[order]
        channel = np.cumsum(np.diff(label, prepend=-1) != 0) - 1
        keys = np.random.default_rng(0).integers(0, 2**63, max(self.start, default=0) + 1)
        signature = np.zeros(channel[-1] + 1 if len(channel) else 0, np.int64)
        np.add.at(signature, channel, keys[root])
        found = []
        _, first, kind = np.unique(signature, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))
        kinds = rank[kind][channel]
        by_kind = np.argsort(kinds, kind="stable")
        bounds = np.searchsorted(kinds[by_kind], np.arange(len(first) + 1))
        for begin, end in pairwise(bounds):
            rows = by_kind[begin:end]
            found.append(self._group(channel[rows], root[rows], position[rows], name))
        return _distinct([group for group in found if group is not None])

    def _group(
        self,
        channel: Ints,
        root: Ints,
        position: Ints,
        name: Callable[[tuple[Axis, ...]], str | None],
    ) -> Group | None:
        roots = np.unique(root)
        axes = tuple(axis for r in roots.tolist() for axis in self.axes[r])
        called = name(axes)
        n = len(np.unique(channel))
        if called is None:
            return None
        sites = tuple(
            Site(self.axes[r], position[root == r].reshape(n, -1), self.size[r])
            for r in roots.tolist()
        )
        changes = next((self.inexact[r] for r in roots.tolist() if r in self.inexact), "")
        return Group(called, n, sites, inexact=changes)


def _distinct(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Number groups that are made by the same weight: `name`, then `name#2`."""
    seen: dict[str, int] = defaultdict(int)
    named = []
    for group in groups:
        seen[group.name] += 1
        again = f"#{seen[group.name]}" if seen[group.name] > 1 else ""
        named.append(replace(group, name=group.name + again))
    return tuple(named)


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

    def read(self, reading: str) -> tuple[frozenset[int], Dependencies]:
        """Settle all choices in one order: which options were taken, and what that leads to."""
        axes, partial = self.axes.copy(), list(self.partial)
        taken = [_settle(n, c, reading, axes, partial) for n, c in self.choices]
        found = _label(axes, partial)
        inexact = {found.root[axis]: c.inexact for c in self.inexact for axis in (c.a, c.b)}
        return frozenset(k for options in taken for k in options), replace(found, inexact=inexact)


def dependencies(
    nodes: Sequence[Node], rules: Rules, limits: Constraints | None = None, reading: str = "wide"
) -> Dependencies:
    """Walk `nodes` once and join what the rules couple.

    `reading` says which options of a choice come first. Nodes are in topological order.
    """
    return _Facts(nodes, rules, limits or Constraints()).read(reading)[1]


def all_dependencies(
    nodes: Sequence[Node], rules: Rules, limits: Constraints
) -> tuple[Dependencies, ...]:
    """One trace for every reading that settles the choices in another way."""
    facts = _Facts(nodes, rules, limits)
    found: dict[frozenset[int], Dependencies] = {}
    for reading in READINGS:
        if found and not facts.choices:
            break
        taken, result = facts.read(reading)
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
    else:
        partial.append(coupling)


def _settle(
    node: Node, choice: Choice, reading: str, axes: _Axes, partial: list[Coupling]
) -> list[int]:
    """Take the first options whose axes are not frozen, one per axis; freeze the axes left.

    Returns which options were taken, as numbers.
    """
    chosen = []
    taken: set[Axis] = set()
    for option in READINGS[reading](choice.options):
        if option.axes & taken or any(axes.root(axis) in axes.frozen for axis in option.axes):
            continue
        taken |= option.axes
        chosen.append(id(option))
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
    label = _components(int(starts[-1]), left, right)
    reason: dict[int, Frozen] = {}
    for r, why in axes.frozen.items():
        if r not in start:  # joined to another root since, which has the reason too
            continue
        for lab in np.unique(label[start[r] : start[r] + size[r]]).tolist():
            reason.setdefault(lab, why)
    return Dependencies(root, start, size, label, reason, {})


def _components(n: int, left: list[Ints], right: list[Ints]) -> Ints:
    """Smallest number reachable from each of n positions along the pairs (left, right)."""
    label = np.arange(n)
    if not left:
        return label
    a, b = np.concatenate(left), np.concatenate(right)
    while True:
        low = np.minimum(label[a], label[b])
        if np.array_equal(label[a], label[b]):
            return label
        for end in (a, b):
            np.minimum.at(label, label[end], low)
            np.minimum.at(label, end, low)
        while not np.array_equal(label, label[label]):
            label = label[label]
