"""Open parts of a model as models of their own, at any widths, so that they can be timed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.allocation.latency.partition import Partition, Subgraph, partition
from onnxprune.allocation.latency.signature import WHOLE, signature
from onnxprune.allocation.latency.timer import SignedModel, TimedModel
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import external_data, graph, skeleton, subgraphs
from onnxprune.ir.graph import ModelProto
from onnxprune.surgery import rewrite
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.proof import ProofRun
from onnxprune.types import Ints, Plan, Read

__all__ = ["Subgraphs", "divide"]


@dataclass(frozen=True)
class Sample:
    """What is fed for one tensor: the value itself, or seeded numbers of its shape."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    value: NDArray[Any] | None

    @property
    def kind(self) -> str:
        """The type as onnxruntime calls it."""
        return f"tensor({skeleton.kind_of(self.dtype)})"

    def kept(self, left: Mapping[int, Ints]) -> NDArray[Any]:
        """The tensor with only the positions `left` of some axes."""
        if self.value is not None:
            value = self.value
            for axis, at in left.items():
                value = np.take(value, at, axis)
            return value
        shape = [len(left[k]) if k in left else size for k, size in enumerate(self.shape)]
        return np.random.default_rng(0).standard_normal(shape, np.float32).astype(self.dtype)


@dataclass(frozen=True)
class Subgraphs:
    """A model divided into subgraphs, any of which can be opened as a model of its own.

    Attributes:
        analysis: the model.
        bare: its graph without large weights.
        partition: which operators belong together.
        single: the subgraphs, in the order that they run in.
        fed: by name what flows between them.
    """

    analysis: Analysis
    bare: ModelProto
    partition: Partition
    single: tuple[Subgraph, ...]
    fed: Mapping[str, Sample]

    @cached_property
    def shapes(self) -> dict[str, tuple[int | str, ...] | None]:
        """The shape of every tensor as the model declares it."""
        return {t.name: t.shape for node in self.analysis.nodes for t in node.tensors}

    def around(self, group: int, times: Sequence[float], least: float) -> Subgraph:
        """Join all subgraphs that see a group: what crosses their border is independent of it.

        Where they take less than `least` together, those between and around them come along, so
        that what crosses the border counts for little.

        Args:
            group: its number.
            times: of every single subgraph.
            least: the least time that is worth measuring, in their unit.
        """
        chosen = [k for k, subgraph in enumerate(self.single) if group in subgraph.groups]
        if sum(times[k] for k in chosen) < least:
            low, high = chosen[0], chosen[-1] + 1
            while sum(times[low:high]) < least and high - low < len(times):
                low, high = max(low - 1, 0), min(high + 1, len(times))
            chosen = list(range(low, high))
        return self.partition.joined(chosen)

    def job(self, subgraph: Subgraph, widths: Mapping[int, int]) -> SignedModel:
        """Open a subgraph with some groups narrower.

        Args:
            subgraph: what to open.
            widths: channels that stay, by group.
        """
        plan = self._plan(subgraph, widths)
        left: dict[str, dict[int, Ints]] = {}
        for axis, at in plan.keep.items():
            left.setdefault(axis.tensor, {})[axis.axis] = at
        given = {name: self.fed[name].kept(left.get(name, {})) for name in subgraph.needs}
        model = rewrite.rewrite(self._whole(subgraph), subgraph.nodes, plan, self.analysis.read)
        timed = TimedModel(graph.model_bytes(model), given)
        return SignedModel(signature(model, given), timed)

    def border(self, subgraph: Subgraph) -> int:
        """Bytes that go in and out of a subgraph at full widths."""
        crossing = [self.fed[n] for n in (*subgraph.needs, *subgraph.gives) if n in self.fed]
        return sum(math.prod(sample.shape) * sample.dtype.itemsize for sample in crossing)

    def _plan(self, subgraph: Subgraph, widths: Mapping[int, int]) -> Plan:
        """The first so many channels of each group stay, on the axes of the subgraph."""
        names = {t.name for node in subgraph.nodes for t in node.tensors}
        local, masks = [], []
        for g, width in widths.items():
            group = self.analysis.groups[g]
            sites = tuple(s for s in group.sites if any(axis.tensor in names for axis in s.axes))
            local.append(replace(group, sites=sites))
            masks.append(np.arange(group.channels) < width)
        return plan_of(local, masks)

    def _whole(self, subgraph: Subgraph) -> ModelProto:
        """The subgraph at full widths, with its weights."""
        needs = set(subgraph.needs)
        kinds = {name: self.fed[name].kind for name in subgraph.needs}
        model = skeleton.part(self.bare, subgraph.protos, kinds, subgraph.gives)
        shapes = {name: self.shapes.get(name) for name in subgraph.needs}
        skeleton.declare(model, {name: shape for name, shape in shapes.items() if shape})
        read = {name for proto in subgraph.protos for name in subgraphs.needs(proto)}
        made = {name for proto in subgraph.protos for name in proto.output}
        stored = {name: self.analysis.read(name) for name in read - made - needs}
        skeleton.store(model, {name: v for name, v in stored.items() if v is not None})
        return model


def divide(analysis: Analysis, inputs: Mapping[str, NDArray[Any]]) -> Subgraphs:
    """Divide a model into subgraphs, with samples of what flows between them.

    Args:
        analysis: the model.
        inputs: of the whole model; they say how large everything is.
    """
    model = external_data.inlined(analysis.model)
    bare = skeleton.skeleton(model)
    parts = partition(analysis, bare)
    single = tuple(parts.joined([k]) for k in range(len(parts.members)))
    between = {name for subgraph in single for name in subgraph.needs} - inputs.keys()
    values = _values(model, analysis.read, inputs, sorted(between))
    fed = {name: _sample(value) for name, value in {**inputs, **values}.items()}
    return Subgraphs(analysis, bare, parts, single, fed)


def _sample(value: NDArray[Any]) -> Sample:
    known = value.size <= WHOLE or value.dtype.kind != "f"
    return Sample(value.shape, value.dtype, value if known else None)


def _values(
    model: ModelProto, read: Read, inputs: Mapping[str, NDArray[Any]], names: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """What the model computes for some of its tensors."""

    def with_more(bare: ModelProto) -> ModelProto:
        more: ModelProto = ModelProto.FromString(skeleton.with_outputs(bare, names))
        return more

    outputs = ProofRun(model, read).edited(with_more).run(dict(inputs))
    return {name: outputs[name] for name in names}
