"""A model in pieces: operators that run as one kernel or nearly so, each a model of its own.

A piece begins with an operator that mixes channels (a dense convolution, a matrix product) and
takes all that follows it up to the next one: activations, biases, residual sums, depthwise
convolutions, what onnxruntime fuses behind a layer. Every operator is in one piece, so that the
times of all pieces add up to that of the model, but for what lies between.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.allocation.latency.timer import TimedModel
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import external_data, graph, skeleton, subgraphs, tensors
from onnxprune.ir import inputs as feeds
from onnxprune.ir.graph import ModelProto
from onnxprune.surgery import rewrite
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.proof import ProofRun
from onnxprune.types import Ints, Node, Plan, Read, Tensor

__all__ = ["Subgraph", "Subgraphs", "signature"]

#: Inputs of a piece up to this many elements are fed with what really reaches it.
REAL = 1024


@dataclass(frozen=True)
class Subgraph:
    """Operators, the groups whose widths they see, and the tensors that flow in and out."""

    protos: tuple[Any, ...]
    nodes: tuple[Node, ...]
    groups: tuple[int, ...]
    needs: tuple[str, ...]
    gives: tuple[str, ...]


class Subgraphs:
    """The pieces of a model, and any of them together as a model of their own at any widths."""

    def __init__(self, analysis: Analysis, inputs: feeds.Feeds) -> None:
        """`inputs` of the whole model say how large everything is."""
        self.analysis = analysis
        self.model = external_data.inlined(analysis.model)
        self.bare = skeleton.skeleton(self.model)
        self.parts = _Parts(analysis, self.bare)
        self.single = [self.parts.subgraph([k]) for k in range(len(self.parts.members))]
        self.tensors = {t.name: t for node in analysis.nodes for t in node.tensors}
        between = {name for subgraph in self.single for name in subgraph.needs} - inputs.keys()
        values = _values(self.model, analysis.read, inputs, sorted(between))
        self.fed = {name: _sample(value) for name, value in {**inputs, **values}.items()}

    def around(self, group: int, times: Sequence[float], least: float) -> Subgraph:
        """All pieces that see a group: what crosses their border has nothing to do with it.

        Where they take less than `least` together, by the `times` of single pieces, all between
        and around them come along: what crosses the border then counts for little.
        """
        chosen = [k for k, subgraph in enumerate(self.single) if group in subgraph.groups]
        if sum(times[k] for k in chosen) < least:
            low, high = chosen[0], chosen[-1] + 1
            while sum(times[low:high]) < least and high - low < len(times):
                low, high = max(low - 1, 0), min(high + 1, len(times))
            chosen = list(range(low, high))
        return self.parts.subgraph(chosen)

    def job(self, subgraph: Subgraph, widths: Mapping[int, int]) -> tuple[str, TimedModel]:
        """A piece with some groups narrower, as a signature and what to run."""
        plan = self._plan(subgraph, widths)
        kept: dict[str, dict[int, Ints]] = {}
        for axis, left in plan.keep.items():
            kept.setdefault(axis.tensor, {})[axis.axis] = left
        given = {name: _fed(self.fed[name], kept.get(name, {})) for name in subgraph.needs}
        model = rewrite.rewrite(self._whole(subgraph), subgraph.nodes, plan, self.analysis.read)
        return signature(model, given), TimedModel(graph.model_bytes(model), given)

    def border(self, subgraph: Subgraph) -> int:
        """Bytes that go in and out of a piece at full widths."""
        crossing = [self.fed[n] for n in (*subgraph.needs, *subgraph.gives) if n in self.fed]
        return sum(math.prod(sample.shape) * sample.dtype.itemsize for sample in crossing)

    def _plan(self, subgraph: Subgraph, widths: Mapping[int, int]) -> Plan:
        """The first so many channels of each group stay, on the axes of the piece."""
        names = {t.name for node in subgraph.nodes for t in node.tensors}
        local, masks = [], []
        for g, width in widths.items():
            group = self.analysis.groups[g]
            sites = tuple(s for s in group.sites if any(axis.tensor in names for axis in s.axes))
            local.append(replace(group, sites=sites))
            masks.append(np.arange(group.channels) < width)
        return plan_of(local, masks)

    def _whole(self, subgraph: Subgraph) -> ModelProto:
        """The piece at full widths, with its weights."""
        kinds = {name: self.fed[name].kind for name in subgraph.needs}
        model = skeleton.part(self.bare, subgraph.protos, kinds, subgraph.gives)
        shapes = {name: _declared(self.tensors.get(name)) for name in subgraph.needs}
        skeleton.declare(model, {name: shape for name, shape in shapes.items() if shape})
        read = {name for proto in subgraph.protos for name in subgraphs.needs(proto)}
        made = {name for proto in subgraph.protos for name in proto.output}
        weights = {}
        for name in read - made - set(subgraph.needs):
            stored = self.analysis.read(name)
            if stored is not None:
                weights[name] = stored
        skeleton.store(model, weights)
        return model


@dataclass(frozen=True)
class _Sample:
    """What is fed for one tensor: the value itself, or seeded numbers of its shape."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    value: NDArray[Any] | None

    @property
    def kind(self) -> str:
        return f"tensor({skeleton.kind_of(self.dtype)})"


def _sample(value: NDArray[Any]) -> _Sample:
    known = value.size <= REAL or value.dtype.kind != "f"
    return _Sample(value.shape, value.dtype, value if known else None)


def _fed(sample: _Sample, kept: Mapping[int, Ints]) -> NDArray[Any]:
    if sample.value is not None:
        value = sample.value
        for axis, left in kept.items():
            value = np.take(value, left, axis)
        return value
    shape = [len(kept[k]) if k in kept else size for k, size in enumerate(sample.shape)]
    return np.random.default_rng(0).standard_normal(shape, np.float32).astype(sample.dtype)


def _values(
    model: ModelProto, read: Read, inputs: feeds.Feeds, names: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """What the model computes for some of its tensors."""

    def with_more(bare: ModelProto) -> ModelProto:
        more: ModelProto = ModelProto.FromString(skeleton.with_outputs(bare, names))
        return more

    outputs = ProofRun(model, read).edited(with_more).run(inputs)
    return {name: outputs[name] for name in names}


def _declared(tensor: Tensor | None) -> tuple[int | str, ...]:
    return () if tensor is None or tensor.shape is None else tensor.shape


class _Parts:
    """Which operators make each piece, in the order they run in."""

    def __init__(self, analysis: Analysis, bare: ModelProto) -> None:
        self.stored = graph.constants(analysis.model).keys()
        self.owner = _owners(analysis, bare)
        self.groups = _groups_of(analysis, self.owner)
        self.members: list[list[Any]] = []
        self.ends = {output.name for output in bare.graph.output}
        number: dict[str, int] = {}  # of the piece that makes a tensor
        self.readers: dict[str, set[int]] = {}
        for proto in bare.graph.node:
            at = self._place(proto, number)
            number.update(dict.fromkeys(proto.output, at))
            for name in subgraphs.needs(proto):
                self.readers.setdefault(name, set()).add(at)

    def _place(self, proto: Any, number: Mapping[str, int]) -> int:
        """The piece that an operator belongs to; -1 for none."""
        before = max((number.get(name, -1) for name in subgraphs.needs(proto)), default=-1)
        mixes = any(map(_mixes, self.owner[_name(proto)]))
        if mixes or (before < 0 and self.groups[_name(proto)]):
            before = len(self.members)
            self.members.append([])
        if before >= 0:
            self.members[before].append(proto)
        return before

    def subgraph(self, numbers: Sequence[int]) -> Subgraph:
        """Some pieces as one."""
        protos = [proto for k in numbers for proto in self.members[k]]
        made = {name for proto in protos for name in proto.output if name}
        read = {name for proto in protos for name in subgraphs.needs(proto)}
        nodes = [node for proto in protos for node in self.owner[_name(proto)]]
        groups = {g for proto in protos for g in self.groups[_name(proto)]}
        gives = {n for n in made if n in self.ends or self.readers.get(n, set()) - set(numbers)}
        needs = read - made - self.stored
        rest = (tuple(sorted(part)) for part in (groups, needs, gives))
        return Subgraph(tuple(protos), tuple(nodes), *rest)


def _name(proto: Any) -> str:
    return next((name for name in proto.output if name), "")


def _owners(analysis: Analysis, bare: ModelProto) -> dict[str, list[Node]]:
    """For each operator of the main graph its node, and before it those of its bodies."""
    outer = {_name(proto) for proto in bare.graph.node}
    owner: dict[str, list[Node]] = {name: [] for name in outer}
    waiting: list[Node] = []
    for node in analysis.nodes:
        waiting.append(node)
        name = node.outputs[0].name if node.outputs else ""
        if name in outer:
            owner[name], waiting = waiting, []
    return owner


def _groups_of(analysis: Analysis, owner: Mapping[str, Sequence[Node]]) -> dict[str, set[int]]:
    """The groups that each operator's time may depend on."""
    by_axis: dict[tuple[str, int], set[int]] = {}
    for g, group in enumerate(analysis.groups):
        for axis, _ in group.axes():
            by_axis.setdefault((axis.tensor, axis.axis), set()).add(g)
    return {
        name: {
            g
            for node in nodes
            for tensor in node.tensors
            for k in range(tensor.rank)
            for g in by_axis.get((tensor.name, k), ())
        }
        for name, nodes in owner.items()
    }


def _mixes(node: Node) -> bool:
    """Whether an operator sums over channels, with a weight that is stored."""
    return any(kernel.in_axis is not None for kernel in ops.kernels_of(node))


def signature(model: ModelProto, given: Mapping[str, NDArray[Any]]) -> str:
    """A digest of all that its time depends on: operators, shapes, small integers; not names."""
    known: dict[str, int] = {}

    def number(name: str) -> int:
        return known.setdefault(name, len(known)) if name else -1

    facts: list[Any] = sorted((o.domain, o.version) for o in model.opset_import)
    for node in model.graph.node:
        names = [number(n) for n in subgraphs.reads(node)], [number(n) for n in node.output]
        attrs = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        facts.append((graph.op_key(node), *names, attrs))
    for name, tensor in graph.constants(model).items():
        whole = tensor.data_type in (6, 7, 9) and np.prod(tensor.dims) <= REAL
        content = tensors.array(tensor).tolist() if whole else None
        facts.append((number(name), tensor.data_type, list(tensor.dims), content))
    for value in model.graph.input:
        dims = [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]
        array = given.get(value.name)
        shape = None if array is None else (array.dtype.str, array.shape)
        facts.append((number(value.name), dims, shape))
    facts.append(sorted(number(output.name) for output in model.graph.output))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]
