"""Run a model with changed weights again and again, and of it only what lies behind the change.

The operators are split into stretches, each a session that is opened once and kept. The original
runs through them once: what it gives at their borders is kept, beyond a limit in files. A run with
changed weights opens those stretches anew that read one of them, with the new content inside, so
that onnxruntime packs and blocks it as any other weight. Stretches behind run as they are; those
that nothing changed reaches do not run at all. A run depends on nothing but the weights it is
given: runs may come in any order, and each be made by another process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.activation_store import ActivationStore, Batch
from onnxprune.calibration.incremental_run import last_uses
from onnxprune.calibration.segment import Part, Segment, open_segment
from onnxprune.calibration.workplace import Workplace
from onnxprune.errors import InputError
from onnxprune.ir import runtime, subgraphs
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Floats, Ints, Read

__all__ = ["KeptRun", "borders", "open_kept_run"]

Array: TypeAlias = NDArray[Any]
#: Bytes that stay in memory: of the original's activations, and of those of a changed model.
MEMORY, CHANGED_MEMORY = 2**28, 2**27


@dataclass(frozen=True)
class Stretch:
    """Consecutive operators as a session.

    Attributes:
        part: the operators, and what later ones read of what they give.
        reads: names of all that they read and do not make themselves.
        done: tensors made so far that nothing behind reads.
        segment: the session, with the original's weights.
    """

    part: Part
    reads: frozenset[str]
    done: tuple[str, ...]
    segment: Segment


@dataclass(frozen=True)
class KeptRun:
    """A model in stretches, with the original's activations at their borders.

    Attributes:
        bare: the model without large weights.
        read: the content of its weights.
        stretches: in their order.
        store: the original's activations, for every batch.
        outputs: names of the outputs that operators make.
        place: where it runs, and where files lie that hold what memory has no room for.
    """

    bare: ModelProto
    read: Read
    stretches: tuple[Stretch, ...]
    store: ActivationStore
    outputs: tuple[str, ...]
    place: Workplace | None

    def changed(self, weights: Mapping[str, Array]) -> Iterator[tuple[Batch, Batch]]:
        """Run with new content of stored tensors.

        Args:
            weights: new content by name.

        Returns:
            For every batch what the original gives, and what is given now; where an output is
            missing nothing changed it.
        """
        now = ActivationStore([{} for _ in self.store.batches], self.place, CHANGED_MEMORY)
        reached = set(weights)
        for stretch in self.stretches:
            if not stretch.reads.isdisjoint(reached):
                self._advance(stretch, now, weights)
                reached.update(stretch.part.outputs)
            now.drop([name for name in stretch.done if name in reached])
        return zip(self.store.batches, now.batches, strict=True)

    def _advance(
        self, stretch: Stretch, now: ActivationStore, weights: Mapping[str, Array]
    ) -> None:
        """Run a stretch on what has changed so far, and on the original's activations."""
        segment = stretch.segment
        if not stretch.reads.isdisjoint(weights):
            segment = open_segment(
                self.bare, stretch.part, self.store.batches[0], _overlaid(weights, self.read)
            )
        for base, values in zip(self.store.batches, now.batches, strict=True):
            both = {n: values[n] if n in values else base[n] for n in segment.inputs}
            now.add(values, segment.run(both))


def _overlaid(weights: Mapping[str, Array], read: Read) -> Read:
    return lambda name: weights[name] if name in weights else read(name)


def borders(sizes: Floats, places: Sequence[int]) -> list[int]:
    """Choose the operators with which stretches begin.

    Args:
        sizes: (n_operators,) of each operator, in shares of what a stretch is to have.
        places: where changes begin, at which a stretch had best begin too.

    Returns:
        Numbers of operators, ascending, the first one 0.
    """
    before = np.concatenate([[0.0], np.cumsum(sizes)])
    chosen = [0]
    for place in sorted(set(places)):
        if before[place] - before[chosen[-1]] >= 1 - 1e-9:
            chosen.append(place)
    return chosen


def open_kept_run(
    bare: ModelProto,
    read: Read,
    batches: Sequence[runtime.Feeds],
    begins: Sequence[int] | Ints,
    place: Workplace | None = None,
) -> KeptRun:
    """Run the original once, in stretches that are kept; in one where they cannot be opened.

    Args:
        bare: the model without large weights (`skeleton.without_constant_nodes`).
        read: the content of its weights.
        batches: feeds of each batch.
        begins: numbers of the operators with which stretches begin, the first one 0.
        place: where it runs, and where files lie that hold what memory has no room for.
    """
    try:
        return _opened(bare, read, batches, begins, place)
    except InputError:
        if len(begins) == 1:
            raise
        return _opened(bare, read, batches, [0], place)


def _opened(
    bare: ModelProto,
    read: Read,
    batches: Sequence[runtime.Feeds],
    begins: Sequence[int] | Ints,
    place: Workplace | None,
) -> KeptRun:
    nodes = list(bare.graph.node)
    ends = [output.name for output in bare.graph.output]
    store = ActivationStore(batches, place, MEMORY)
    stretches, kinds, made = list[Stretch](), dict[str, str](), set[str]()
    last = last_uses(bare)
    for begin, end in pairwise([*begins, len(nodes)]):
        part_nodes = nodes[begin:end]
        own = {name for node in part_nodes for name in node.output if name}
        reads = frozenset(n for node in part_nodes for n in subgraphs.needs(node)) - own
        given = sorted(name for name in own if last.get(name, -1) >= end)
        made |= own
        if not given:
            continue
        part = Part(part_nodes, given, kinds=dict(kinds))
        segment = open_segment(bare, part, store.batches[0], read)
        kinds |= segment.kinds
        for values in store.batches:
            store.add(values, segment.run(values))
        done = tuple(sorted(name for name in made if begin <= last.get(name, -1) < end))
        stretches.append(Stretch(part, reads, done, segment))
    outputs = tuple(name for name in ends if name in made)
    return KeptRun(bare, read, tuple(stretches), store, outputs, place)
