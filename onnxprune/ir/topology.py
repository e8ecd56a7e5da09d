"""Which tensor is made where: every one once, before it is read.

onnxruntime sorts nodes itself, so exporters get away with any order; all else that breaks these
rules cannot run and is refused by name.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

from onnx import GraphProto, NodeProto

from onnxprune.errors import InputError
from onnxprune.ir import subgraphs
from onnxprune.ir.graph import label

__all__ = ["check", "sort"]


def check(graph: GraphProto, outside: Iterable[str] = ()) -> bool:
    """Whether each node, in bodies too, comes after those that it reads from.

    `outside` are tensors of the graphs around.

    Raises:
        InputError: a tensor is made twice, or read and never made.
    """
    makers = _makers(graph)
    known = set(outside) | subgraphs.given(graph)
    everything = known | makers.keys()
    is_sorted = True
    for node in graph.node:
        for _, body in subgraphs.bodies(node):
            is_sorted &= check(body, everything)
        missing = subgraphs.needs(node) - known
        is_sorted &= not missing
        if lost := missing - everything:
            raise InputError(
                f"node {_label(node)} reads '{min(lost)}', which is no input, no weight and not "
                "made by any node. Export the model again."
            )
        known.update(node.output)
    for output in graph.output:
        if output.name not in everything:
            raise InputError(
                f"output '{output.name}' of graph '{graph.name}' is not made by any node. Export "
                "the model again."
            )
    return is_sorted


def _makers(graph: GraphProto) -> dict[str, NodeProto]:
    makers: dict[str, NodeProto] = {}
    inputs = {value.name for value in graph.input}
    for node in graph.node:
        for name in node.output:
            if name in makers or name in inputs:
                first = f"node {_label(makers[name])}" if name in makers else "an input"
                raise InputError(
                    f"'{name}' is made twice: by {first} and by node {_label(node)}. Every tensor "
                    "needs its own name."
                )
            if name:
                makers[name] = node
    return makers


def _label(node: NodeProto) -> str:
    return f"'{label(node)}' ({node.op_type})"


def sort(graph: GraphProto) -> None:
    """Put nodes, in bodies too, behind those that they read from; as far as that is so they stay.

    Raises:
        InputError: a tensor is made from itself.
    """
    for node in graph.node:
        for _, body in subgraphs.bodies(node):
            sort(body)
    makers = {name: k for k, node in enumerate(graph.node) for name in node.output if name}
    waits: list[set[int]] = []
    readers: dict[int, list[int]] = {}
    for k, node in enumerate(graph.node):
        waits.append({makers[name] for name in subgraphs.needs(node) if name in makers})
        for maker in waits[k]:
            readers.setdefault(maker, []).append(k)
    ready = [k for k, sources in enumerate(waits) if not sources]
    done: list[int] = []
    while ready:
        k = heapq.heappop(ready)
        done.append(k)
        for reader in readers.get(k, ()):
            waits[reader].discard(k)
            if not waits[reader]:
                heapq.heappush(ready, reader)
    if len(done) < len(waits):
        raise InputError(_cycle(graph, {k: w for k, w in enumerate(waits) if w}))
    if done != sorted(done):
        copies = [NodeProto.FromString(graph.node[k].SerializeToString()) for k in done]
        del graph.node[:]
        graph.node.extend(copies)


def _cycle(graph: GraphProto, waits: Mapping[int, set[int]]) -> str:
    """Follow what each node waits for until one comes again."""
    path, place, k = list[int](), dict[int, int](), min(waits)
    while k not in place:
        place[k] = len(path)
        path.append(k)
        k = min(waits[k])
    ring = [*path[place[k] :], k]
    shown = " ← ".join(_label(graph.node[k]) for k in (ring if len(ring) < 6 else ring[:5]))
    more = "" if len(ring) < 6 else f" ← … ({len(ring) - 1} nodes)"
    return f"the graph has a cycle: {shown}{more}. No order of its nodes can run it."
