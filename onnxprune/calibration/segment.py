"""Open some operators of a model as a session of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune import ops
from onnxprune.calibration.activation_store import Batch
from onnxprune.ir import exact_products, graph, runtime, skeleton, subgraphs
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.runtime import Device
from onnxprune.types import Read

__all__ = ["Part", "Segment", "open_model", "open_segment"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """What to open of a model.

    Attributes:
        nodes: operators, in their order.
        outputs: names of the tensors to give.
        fed: names of the weights that each run brings along.
        kinds: types of what it reads that is no tensor but a sequence, as onnxruntime writes them.
        device: what runs it, None: what runs the batch that it is opened for, else the processor.
    """

    nodes: Sequence[Any]
    outputs: Collection[str]
    fed: Collection[str] = ()
    kinds: Mapping[str, str] = field(default_factory=dict)
    device: Device | None = None


@dataclass(frozen=True)
class Segment:
    """Operators opened as a session, with their weights inside but for those that are fed.

    Attributes:
        session: onnxruntime's session.
        inputs: names of the activations that it takes.
    """

    session: Any
    inputs: tuple[str, ...]

    @property
    def kinds(self) -> dict[str, str]:
        """Types of the outputs that are no tensors."""
        given = {output.name: output.type for output in self.session.get_outputs()}
        return {name: kind for name, kind in given.items() if not kind.startswith("tensor")}

    def run(
        self, values: Mapping[str, Array], weights: Mapping[str, Array] | None = None
    ) -> dict[str, Array]:
        """Compute the outputs by name.

        Args:
            values: tensors by name, among them all `inputs`.
            weights: content of the weights that are fed.
        """
        feeds = {name: values[name] for name in self.inputs}
        return runtime.run(self.session, {**feeds, **(weights or {})})


def open_segment(bare: ModelProto, part: Part, present: Mapping[str, Array], read: Read) -> Segment:
    """Open a part of a model.

    Args:
        bare: the model without large weights (`skeleton.without_constant_nodes`).
        part: which operators, and what they give.
        present: activations of one batch; those that the operators read become inputs.
        read: the content of stored weights.
    """
    reads = {name for node in part.nodes for name in subgraphs.needs(node)}
    reads -= {name for node in part.nodes for name in node.output}
    inputs = sorted(name for name in reads if name in present)
    stored = {name: read(name) for name in sorted(reads - present.keys())}
    kinds = {
        name: part.kinds.get(name) or f"tensor({skeleton.kind_of(_dtype(present, name))})"
        for name in inputs
    }
    model = skeleton.part(bare, part.nodes, kinds, part.outputs)
    skeleton.store(model, {name: array for name, array in stored.items() if array is not None})
    skeleton.open_inputs(model, part.fed)
    model = exact_products.exact_where_needed(model, ops.byte_products(), ops.DECODERS)
    device = part.device or (present.device if isinstance(present, Batch) else None)
    session = runtime.open_session(graph.model_bytes(model), device, spin=False)
    return Segment(session, tuple(inputs))


def open_model(
    bare: ModelProto,
    outputs: Collection[str],
    feeds: Mapping[str, Array],
    read: Read,
    device: Device | None = None,
) -> Segment:
    """Open all operators of a model, so that it gives `outputs`; see `open_segment`."""
    part = Part(list(bare.graph.node), outputs, device=device)
    return open_segment(bare, part, feeds, read)


def _dtype(present: Mapping[str, Array], name: str) -> np.dtype[Any]:
    """The type of a tensor, which is not read from a file for that."""
    return present.dtype(name) if isinstance(present, Batch) else np.asarray(present[name]).dtype
