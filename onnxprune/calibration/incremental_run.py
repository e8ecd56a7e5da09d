"""Run a model segment by segment over all calibration batches, each operator once.

Between two segments only the tensors that a later operator needs are kept, beyond a limit in files
(see `activation_store`). The weights of a segment are read when it runs, so that changed weights
count from the next segment on.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from onnxprune.calibration.activation_store import ActivationStore
from onnxprune.calibration.segment import Part, open_segment
from onnxprune.calibration.workplace import Workplace
from onnxprune.ir import runtime, skeleton, subgraphs
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Read

__all__ = ["IncrementalRun", "last_uses", "operator_numbers"]


class IncrementalRun:
    """Activations of a model at one point of its order of operators, for every batch.

    Attributes:
        bare: the model without large weights.
        order: the number of the operator that makes each tensor.
        at: how many operators have run.
        values: for every batch the tensors that are still needed.
        kinds: types of what operators have made that is no tensor but a sequence.
    """

    def __init__(
        self,
        model: ModelProto,
        batches: Sequence[runtime.Feeds],
        place: Workplace | None = None,
        memory: int | None = None,
    ) -> None:
        """Stand before the first operator.

        Args:
            model: what runs.
            batches: feeds of each batch.
            place: where it runs, and where activations lie that memory has no room for.
            memory: bytes of activations that stay in memory, None: `activation_store.MEMORY`.
        """
        self.bare = skeleton.without_constant_nodes(model)
        self.order = operator_numbers(self.bare)
        self.at = 0
        self._store = ActivationStore(batches, place, memory)
        self.values = self._store.batches
        self._last_use = last_uses(self.bare)
        self.kinds: dict[str, str] = {}

    def advance(self, to: int, read: Read) -> None:
        """Run the operators before number `to` that have not run yet, on weights from `read`."""
        for _ in self.shown(to, read, ()):
            pass

    def shown(
        self, to: int, read: Read, names: Collection[str]
    ) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Advance, and look at tensors on the way that need not be kept.

        Args:
            to: the operators before this number run that have not run yet.
            read: the content of weights.
            names: of tensors to look at, which these operators make, or that are there.

        Returns:
            For every batch in turn a mapping that holds these tensors; the run has advanced when
            all have been looked at.
        """
        nodes = list(self.bare.graph.node)[self.at : max(to, self.at)]
        made = {name for node in nodes for name in node.output if name}
        kept = sorted(name for name in made if self._last_use.get(name, -1) >= to)
        outputs = sorted({*kept, *made.intersection(names)})
        segment = None
        if outputs:
            part = Part(nodes, outputs, kinds=self.kinds)
            segment = open_segment(self.bare, part, self.values[0], read)
            self.kinds |= segment.kinds
        for values in self.values:
            found = segment.run(values) if segment is not None else {}
            self._store.add(values, {name: found[name] for name in kept})
            yield ChainMap(found, values)  # type: ignore[arg-type]
        self.at = max(to, self.at)
        self._store.drop([n for n in self.values[0] if self._last_use.get(n, -1) < self.at])


def operator_numbers(bare: ModelProto) -> dict[str, int]:
    """The number of the operator that makes each tensor, in the order of the graph."""
    return {name: k for k, node in enumerate(bare.graph.node) for name in node.output if name}


def last_uses(bare: ModelProto) -> dict[str, int]:
    """The number of the last operator that reads each tensor; the end for outputs."""
    last: dict[str, int] = {}
    for k, node in enumerate(bare.graph.node):
        last.update(dict.fromkeys(subgraphs.needs(node), k))
    last.update({output.name: len(bare.graph.node) for output in bare.graph.output})
    return last
