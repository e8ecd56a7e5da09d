"""Running a model whose weights are too many to be in memory at once.

The operators, which lie in the order they run in, are split where the weights read so far exceed
a budget. Each segment runs as a model of its own, on the weights that it needs and on what earlier
ones computed; then its weights go. A model within the budget is one segment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from onnxprune.errors import InputError
from onnxprune.ir import graph, runtime, skeleton, subgraphs
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Read

__all__ = ["Runner", "Segment", "split"]


@dataclass(frozen=True)
class Segment:
    """Consecutive operators: the weights they read, other tensors they read, what they hand on.

    `done` are tensors that nothing reads after it.
    """

    nodes: tuple[Any, ...]
    weights: tuple[str, ...]
    needs: tuple[str, ...]
    gives: tuple[str, ...]
    done: tuple[str, ...]


class Runner:
    """A skeleton, and sessions for its segments that are opened when they first run."""

    def __init__(self, bare: ModelProto, fed: Sequence[str], sizes: Mapping[str, int]) -> None:
        self.bare, self.fed = bare, fed
        whole = sum(sizes[name] for name in fed) <= graph.LARGE
        self.segments = [] if whole else split(bare, {name: sizes[name] for name in fed})
        self.sessions: list[Any] = []
        if whole:
            self.sessions.append(_opened(bare))

    def run(
        self, feeds: runtime.Feeds, read: Read, more: runtime.Feeds | None = None
    ) -> dict[str, NDArray[Any]]:
        """All outputs of the model by name; `more` are inputs of which no message speaks."""
        more = more or {}
        if not self.segments:
            weights = {name: stored for name in self.fed if (stored := read(name)) is not None}
            return runtime.run(self.sessions[0], {**feeds, **more, **weights}, told=feeds)
        told = {name: list(array.shape) for name, array in feeds.items()}
        values = {name: runtime.value_of(array) for name, array in {**feeds, **more}.items()}
        for k, segment in enumerate(self.segments):
            needs = {name: values[name] for name in segment.needs}
            if k == len(self.sessions):
                kinds = {name: value.data_type() for name, value in needs.items()}
                kinds |= dict.fromkeys(segment.weights, "")
                model = skeleton.part(self.bare, segment.nodes, kinds, segment.gives)
                self.sessions.append(_opened(model))
            fed = {**needs, **_stored(segment, read)}
            values |= runtime.run_values(self.sessions[k], fed, told)
            for name in segment.done:
                del values[name]
        return {name: self._output(name, values, read) for name in _outputs(self.bare)}

    def _output(self, name: str, values: Mapping[str, runtime.Value], read: Read) -> NDArray[Any]:
        """An output, which may also be a stored tensor."""
        stored = None if name in values else read(name)
        return runtime.array_of(values[name]) if stored is None else stored


def _opened(model: ModelProto) -> Any:
    return runtime.open_session(graph.model_bytes(model), optimize=False)


def _outputs(bare: ModelProto) -> list[str]:
    return [output.name for output in bare.graph.output]


def _stored(segment: Segment, read: Read) -> dict[str, runtime.Value]:
    found = {}
    for name in segment.weights:
        stored = read(name)
        if stored is None:
            raise InputError(f"tensor '{name}' has no content. Export the model again.")
        found[name] = runtime.value_of(stored)
    return found


def split(bare: ModelProto, sizes: Mapping[str, int]) -> list[Segment]:
    """Consecutive operators whose weights together stay within `graph.LARGE` bytes.

    `sizes` are those of the weights that are fed. An operator with more is a segment of its own.
    """
    groups: list[list[Any]] = []
    held: set[str] = set()
    for node in bare.graph.node:
        needs = _reads(node) & sizes.keys()
        together = sum(sizes[name] for name in held | needs)
        if not groups or (needs and together > graph.LARGE):
            groups.append([])
            held = set()
        groups[-1].append(node)
        held |= needs
    ends = set(_outputs(bare))
    held_inside = {tensor.name for tensor in bare.graph.initializer}
    inputs = {value.name for value in bare.graph.input} - sizes.keys() - held_inside
    reads = [set[str]().union(*map(_reads, nodes)) for nodes in groups]
    makes = [{name for node in nodes for name in node.output if name} for nodes in groups]
    segments = []
    for k, nodes in enumerate(groups):
        before = inputs.union(*makes[:k])
        later = ends.union(*reads[k + 1 :])
        needs, gives = (reads[k] & before) - makes[k], makes[k] & later
        parts = reads[k] & sizes.keys(), needs, gives, needs - later
        if gives:
            segments.append(Segment(tuple(nodes), *(tuple(sorted(names)) for names in parts)))
    return segments


def _reads(node: Any) -> set[str]:
    """Every tensor that a node reads, in its bodies too."""
    return set(subgraphs.reads(node))
