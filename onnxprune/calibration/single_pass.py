"""Run a model once over all batches and hand out some of its tensors, batch by batch.

Usually the whole model is one session, which onnxruntime optimises as a whole. Where its weights
or the tensors asked for take more than a limit, it runs in parts one after the other; between two
lie the activations that the next ones need.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from onnxprune.calibration.activation_store import ActivationStore
from onnxprune.calibration.segment import Part, open_segment
from onnxprune.calibration.workplace import Workplace
from onnxprune.ir import graph, runtime, skeleton, subgraphs
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Read

__all__ = ["LIMIT", "Asked", "single_pass"]

Array = NDArray[Any]
#: Bytes of the tensors that one batch gives at once.
LIMIT = 2**28


class Asked(NamedTuple):
    """Tensors that a pass is to give.

    Attributes:
        names: of the tensors.
        growth: elements of each in shares of those of all inputs, where it is known.
    """

    names: Collection[str]
    growth: Mapping[str, float]


def single_pass(
    model: ModelProto,
    batches: Sequence[runtime.Feeds],
    asked: Asked,
    read: Read,
    place: Workplace | None = None,
) -> Iterator[tuple[int, dict[str, Array]]]:
    """Give the tensors of every batch, in several parts where they are too large for one.

    Args:
        model: what runs.
        batches: feeds of each batch.
        asked: which tensors.
        read: the content of stored weights.
        place: where it runs, and where activations between parts lie that memory has no room for.

    Yields:
        The number of a batch, and tensors by name: all that its part of the model makes.
    """
    bare, names = skeleton.without_constant_nodes(model), set(asked.names)
    nodes = list(bare.graph.node)
    last = max((k for k, node in enumerate(nodes) if not names.isdisjoint(node.output)), default=-1)
    nodes = nodes[: last + 1]
    store, kinds = ActivationStore(batches, place), dict[str, str]()
    for begin, end in _ranges(nodes, graph.sizes(model), _given(nodes, batches, asked)):
        made = {name for node in nodes[begin:end] for name in node.output if name}
        later = set[str]().union(*(subgraphs.needs(node) for node in nodes[end:]))
        part = Part(nodes[begin:end], sorted(made & (names | later)), kinds=kinds)
        segment = open_segment(bare, part, store.batches[0], read)
        kinds |= segment.kinds
        for number, values in enumerate(store.batches):
            found = segment.run(values)
            store.add(values, {name: found[name] for name in made & later})
            yield number, {name: found[name] for name in made & names}
        store.drop([name for name in store.batches[0] if name not in later])


def _given(nodes: Sequence[Any], batches: Sequence[runtime.Feeds], asked: Asked) -> list[float]:
    """Bytes of what each operator gives that was asked for, on the largest batch."""
    elements = max(sum(array.size for array in feeds.values()) for feeds in batches)
    return [
        sum(4 * elements * asked.growth.get(n, 0) for n in node.output if n in asked.names)
        for node in nodes
    ]


def _ranges(
    nodes: Sequence[Any], sizes: Mapping[str, int], given: Sequence[float]
) -> Iterator[tuple[int, int]]:
    """Begin and end of consecutive operators that stay within the limits of one part."""
    begin, weights, held, gives = 0, set[str](), 0, 0.0
    for k, node in enumerate(nodes):
        own = subgraphs.needs(node) & sizes.keys()
        added = sum(sizes[name] for name in own - weights)
        if k > begin and (held + added > graph.LARGE or gives + given[k] > LIMIT):
            yield begin, k
            begin, weights, held, gives = k, set(), 0, 0.0
            added = sum(sizes[name] for name in own)
        weights |= own
        held, gives = held + added, gives + given[k]
    if nodes:
        yield begin, len(nodes)
