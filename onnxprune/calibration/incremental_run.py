"""A model run piece by piece over all calibration batches, so that depth costs no recomputation.

Between two pieces only the tensors that something still needs are kept, beyond a limit in files
(see `store`). The weights of a piece are read when it runs: those that were refitted since count
from there on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.activation_store import ActivationStore, Batch
from onnxprune.ir import graph, runtime, skeleton, subgraphs
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Read

__all__ = ["IncrementalRun", "suffix"]


class IncrementalRun:
    """Activations of a model at one point of its order of operators, for every batch.

    Attributes:
        at: operators that have run, in the order of `order`.
        values: for every batch the tensors that are still needed.
    """

    def __init__(
        self,
        model: ModelProto,
        batches: Sequence[runtime.Feeds],
        needed: Mapping[str, int],
        folder: Path | None = None,
    ) -> None:
        """`needed` keeps a tensor until the operator with that number is reached."""
        self.bare = skeleton.skeleton(model)
        self.order = {
            name: k for k, node in enumerate(self.bare.graph.node) for name in node.output if name
        }
        self.last = _last_use(self.bare)
        for name, until in needed.items():
            self.last[name] = max(self.last.get(name, 0), until)
        self.at = 0
        self.store = ActivationStore(batches, folder)
        self.values = self.store.batches

    def advance(self, to: int, read: Read) -> None:
        """Run the operators before number `to` that have not run yet."""
        if to <= self.at:
            return
        nodes = list(self.bare.graph.node)[self.at : to]
        outputs = {name for node in nodes for name in node.output if name}
        gives = sorted(name for name in outputs if self.last.get(name, -1) >= to)
        if gives:
            session, needs = opened(self.bare, nodes, self.values[0], read, (gives, ()))
            for values in self.values:
                made = runtime.run(session, {name: values[name] for name in needs})
                self.store.add(values, made)
        self.at = to
        self.store.drop([n for n in self.values[0] if self.last.get(n, -1) < to])


def _last_use(bare: ModelProto) -> dict[str, int]:
    """The number of the last operator that reads each tensor; the end for outputs."""
    last: dict[str, int] = {}
    for k, node in enumerate(bare.graph.node):
        last.update(dict.fromkeys((*node.input, *subgraphs.captured(node)), k))
    last.update({output.name: len(bare.graph.node) for output in bare.graph.output})
    return last


def opened(
    bare: ModelProto,
    nodes: Sequence[Any],
    present: Mapping[str, NDArray[Any]],
    read: Read,
    ends: tuple[Iterable[str], Iterable[str]],
) -> tuple[Any, list[str]]:
    """A session for some operators with their weights inside, and the tensors it must be given.

    `ends`: the tensors it gives, and weights that each run brings along.
    """
    gives, fed = ends
    reads = {name for node in nodes for name in (*node.input, *subgraphs.captured(node)) if name}
    made = {name for node in nodes for name in node.output}
    needs = sorted(name for name in reads - made if name in present)
    weights: dict[str, NDArray[Any]] = {}
    for name in sorted(reads - made - present.keys()):
        stored = read(name)
        if stored is not None:
            weights[name] = stored
    kinds = {name: _kind(present, name) for name in needs}
    model = skeleton.part(bare, nodes, kinds, gives)
    skeleton.store(model, weights)
    skeleton.open_inputs(model, fed)
    return runtime.open_session(graph.model_bytes(model), spin=False), needs


def _kind(present: Mapping[str, NDArray[Any]], name: str) -> str:
    dtype = present.dtype(name) if isinstance(present, Batch) else np.asarray(present[name]).dtype
    return f"tensor({skeleton.kind_of(dtype)})"


def suffix(
    incremental: IncrementalRun, at: int, read: Read, fed: Iterable[str]
) -> tuple[Any, list[str]]:
    """A session for the operators from number `at` on, `fed` weights given with each run.

    The carrier must still hold what they need.
    """
    nodes = list(incremental.bare.graph.node)[at:]
    made = {name for node in nodes for name in node.output}
    gives = [output.name for output in incremental.bare.graph.output if output.name in made]
    return opened(incremental.bare, nodes, incremental.values[0], read, (gives, fed))
