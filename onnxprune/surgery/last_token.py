"""Give scores of the last place alone: a generating model's head reads nothing else then.

The head, a matrix with a column for each token, is a large part of the work where many places are
read at once. Which places a user reads is known to no graph, so this is done when asked for.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from onnxprune import ops
from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import first_node
from onnxprune.ir.graph import ModelProto
from onnxprune.ops.extents import crop
from onnxprune.surgery.proof import Proof, ProofRun, compare
from onnxprune.surgery.prove_cut import Original
from onnxprune.types import Node, Tensor

__all__ = ["heads", "last_place", "prove_last"]

#: Axes of scores: samples, places, tokens.
SCORES = 3


def heads(analysis: Analysis) -> dict[str, list[Node]]:
    """By name of an output with scores the nodes that make it, the layer that is its head last.

    Raises:
        InputError: no output is made by a layer, place by place.
    """
    found = {}
    for value in analysis.model.graph.output:
        path = _path(analysis, value.name)
        if path:
            found[value.name] = path
    if not found:
        raise InputError(
            "no output holds scores (samples, places, tokens) that one layer gives each place by "
            "itself. Leave last-token out."
        )
    return found


def _path(analysis: Analysis, output: str) -> list[Node]:
    """The nodes from an output back to its head; none where it has no head."""
    path, name, ends = list[Node](), output, {o.name for o in analysis.model.graph.output}
    while True:
        node = analysis.index.makers.get(name)
        y = None if node is None else node.outputs[0]
        readers = analysis.index.readers.get(name, [])
        read = len(readers) > (name != output) or (name in ends and name != output)
        if node is None or y is None or y.rank != SCORES or node.bodies or read:
            return []
        path.append(node)
        data = _head_data(node)
        if data is not None:
            return path if data.rank == SCORES else []
        moving = [t for t in node.inputs if t is not None and not t.constant]
        stored = [t for t in node.inputs if t is not None and t.constant]
        alike = node.op in ops.ARITHMETIC or ops.is_activation(node.op) or node.op in ops.CASTS
        if len(moving) != 1 or not alike or not all(map(_of_one_place, stored)):
            return []
        name = moving[0].name


def _of_one_place(stored: Tensor) -> bool:
    """Whether a stored tensor holds the same for all places."""
    return stored.rank == 0 or (
        stored.sample is not None and int(np.prod(stored.sample)) == stored.sample[-1]
    )


def _head_data(node: Node) -> Tensor | None:
    """What a product with a stored matrix reads; None for other nodes."""
    form = ops.LAYERS.get(node.op)
    kernel = next(iter(ops.kernels_of(node)), None)
    if form is None or form.kind != "dense" or kernel is None or kernel.index != 1:
        return None
    weight = node.inputs[kernel.index]
    return kernel.operand(node) if weight is not None and weight.constant else None


def last_place(analysis: Analysis, found: dict[str, list[Node]]) -> ModelProto:
    """The model whose heads read the last place.

    Raises:
        InputError: its version of operators has nothing that picks it.
    """
    node = crop([SCORES - 2], [-1], [0])
    if any(path[-1].opset < node.least for path in found.values()):
        raise InputError(
            f"{node.op} needs operators of version {node.least}: export the model with that one"
        )
    model = analysis.model
    change = first_node.Change(node.op, node.stored, node.attrs)
    for path in found.values():
        head, data = path[-1], _head_data(path[-1])
        assert data is not None
        sizes = {y.name: 1 for one in path for y in one.outputs}
        model = first_node.with_operator_before(
            model, head.outputs[0].name, data.name, change, sizes
        )
    return model


def prove_last(outputs: Collection[str], model: ModelProto, original: Original) -> Proof:
    """Compare with the last place of what the original gives.

    Raises:
        ProofError: the model gives something else.
    """
    made = ProofRun(model).run(original.inputs)
    wanted = {
        name: value[:, -1:] if name in outputs else value
        for name, value in original.outputs.items()
    }
    proof = replace(compare(wanted, made), inputs=original.fed, reference="original's last place")
    if not proof.passed:
        raise ProofError(
            f"with scores of the last place output '{proof.output}' is off by "
            f"{proof.max_relative_error:.2g}; nothing was written. Report the model."
        )
    return proof
