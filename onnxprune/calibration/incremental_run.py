"""Run a model segment by segment over all calibration batches, each operator once.

Between two segments only the tensors that a later operator needs are kept, beyond a limit in files
(see `activation_store`). The weights of a segment are read when it runs, so that changed weights
count from the next segment on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from onnxprune.calibration.activation_store import ActivationStore
from onnxprune.calibration.segment import Part, Segment, open_segment
from onnxprune.calibration.workplace import Workplace
from onnxprune.ir import runtime, skeleton, subgraphs
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Read

__all__ = ["IncrementalRun", "open_suffix"]


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
        needed: Mapping[str, int],
        place: Workplace | None = None,
        memory: int | None = None,
    ) -> None:
        """Stand before the first operator.

        Args:
            model: what runs.
            batches: feeds of each batch.
            needed: by name the number of the operator until which a tensor is kept, where it is
                needed longer than by the operators that read it.
            place: where it runs, and where activations lie that memory has no room for.
            memory: bytes of activations that stay in memory, None: `activation_store.MEMORY`.
        """
        self.bare = skeleton.without_constant_nodes(model)
        self.order = {
            name: k for k, node in enumerate(self.bare.graph.node) for name in node.output if name
        }
        self.at = 0
        self._store = ActivationStore(batches, place, memory)
        self.values = self._store.batches
        self._last_use = _last_use(self.bare)
        self.kinds: dict[str, str] = {}
        for name, until in needed.items():
            self._last_use[name] = max(self._last_use.get(name, 0), until)

    def advance(self, to: int, read: Read) -> None:
        """Run the operators before number `to` that have not run yet, on weights from `read`."""
        if to <= self.at:
            return
        nodes = list(self.bare.graph.node)[self.at : to]
        made = {name for node in nodes for name in node.output if name}
        outputs = sorted(name for name in made if self._last_use.get(name, -1) >= to)
        if outputs:
            part = Part(nodes, outputs, kinds=self.kinds)
            segment = open_segment(self.bare, part, self.values[0], read)
            self.kinds |= segment.kinds
            for values in self.values:
                self._store.add(values, segment.run(values))
        self.at = to
        self._store.drop([n for n in self.values[0] if self._last_use.get(n, -1) < to])


def _last_use(bare: ModelProto) -> dict[str, int]:
    """The number of the last operator that reads each tensor; the end for outputs."""
    last: dict[str, int] = {}
    for k, node in enumerate(bare.graph.node):
        last.update(dict.fromkeys(subgraphs.needs(node), k))
    last.update({output.name: len(bare.graph.node) for output in bare.graph.output})
    return last


def open_suffix(run: IncrementalRun, at: int, read: Read, fed: Collection[str]) -> Segment:
    """Open the operators from number `at` on, to the model's outputs.

    Args:
        run: holds the tensors that these operators need.
        at: number of the first operator.
        read: the content of stored weights.
        fed: names of the weights that each run brings along.
    """
    nodes = list(run.bare.graph.node)[at:]
    made = {name for node in nodes for name in node.output}
    outputs = [output.name for output in run.bare.graph.output if output.name in made]
    part = Part(nodes, outputs, fed, run.kinds)
    return open_segment(run.bare, part, run.values[0], read)
