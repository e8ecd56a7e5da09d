"""What onnxruntime's quantizer is handed: names that it does not use itself, weights to quantize.

It names what it adds after the tensor it belongs to and takes any tensor that has such a name for
its own, as a model that is quantized already has them.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection

from onnxprune.errors import InputError
from onnxprune.ir import edit, graph, subgraphs
from onnxprune.ir.graph import ModelProto

__all__ = ["check_has_weights", "with_free_names"]

#: What the quantizer appends to the name of a tensor.
APPENDED = (
    "_quantized", "_scale", "_zero_point", "_QuantizeLinear_Input", "_QuantizeLinear_Output",
    "_DequantizeLinear_Input", "_DequantizeLinear_Output",
)  # fmt: skip


def with_free_names(model: ModelProto) -> ModelProto:
    """Rename tensors of the main graph whose names the quantizer would take for its own.

    Inputs, outputs and what bodies of control flow name stay as they are.

    Args:
        model: it is not changed.
    """
    renamed = ModelProto()
    renamed.CopyFrom(model)
    every = {name for node in graph.walk(renamed) for name in (*node.input, *node.output)}
    every |= {tensor.name for tensor in renamed.graph.initializer}
    kept = {value.name for value in (*renamed.graph.input, *renamed.graph.output)}
    kept |= {name for node in renamed.graph.node for name in subgraphs.bodies_need(node)}
    clashing = sorted(n for n in every - kept if n.endswith(APPENDED))
    free = (name for name in map("n:{}".format, itertools.count()) if name not in every)
    new = dict(zip(clashing, free, strict=False))
    for node in renamed.graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for tensor in renamed.graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    del renamed.graph.value_info[:]  # shapes are inferred anew
    return renamed


def check_has_weights(model: ModelProto, taken: Collection[str]) -> None:
    """Refuse a model all of whose weights are integers already.

    Args:
        model: prepared for the quantizer.
        taken: the operators that it quantizes.

    Raises:
        InputError: no such operator reads a weight of real numbers, and some node reads integers.
    """
    weights = {name: t for name, t in graph.constants(model).items() if len(t.dims) > 1}
    kinds = {name: edit.dtype(tensor) for name, tensor in weights.items()}
    small = {name for name, kind in kinds.items() if kind.kind in "iu" and kind.itemsize == 1}
    whole = set(kinds) - small
    reader = next((node for node in model.graph.node if small & set(node.input)), None)
    if reader is None:
        return
    if not any(whole & set(node.input) for node in model.graph.node if node.op_type in taken):
        raise InputError(
            f"quantise: no weight to quantise, for the model is quantised already, as at "
            f"{graph.label(reader)}. Leave out the stage."
        )
