"""Weights stored as sparse initializers, where that takes fewer bytes and onnxruntime loads it."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import ModelProto, SparseTensorProto, TensorProto

from onnxprune.errors import InputError
from onnxprune.ir import graph, runtime, tensors

__all__ = ["stored_sparse"]

#: The first IR version with sparse initializers.
VERSION = 5


def stored_sparse(model: ModelProto, names: Collection[str]) -> tuple[ModelProto, str]:
    """The model with sparse initializers in place of weights `names`, and what a report says.

    Positions take 8 bytes each, so that it pays from a density of about a third of single
    precision on downwards. External weights stay where they are.
    """
    made = {
        tensor.name: sparse
        for tensor in model.graph.initializer
        if tensor.name in names and (sparse := _sparse(tensor)) is not None
    }
    if not made:
        return model, "no weight takes fewer bytes as a sparse initializer: all are stored dense"
    new = ModelProto()
    graph.copy_fields(model, new, frozenset({"graph"}))
    graph.copy_fields(model.graph, new.graph, frozenset({"initializer"}))
    new.ir_version = max(new.ir_version, VERSION)
    new.graph.initializer.extend(t for t in model.graph.initializer if t.name not in made)
    new.graph.sparse_initializer.extend(made.values())
    for info in [i for i in new.graph.input if i.name in made]:
        new.graph.input.remove(info)
    try:
        runtime.open_session(graph.model_bytes(new), optimize=False)
    except InputError as error:
        return model, f"onnxruntime does not load sparse initializers here ({error}): stored dense"
    saved = sum(t.ByteSize() for t in model.graph.initializer if t.name in made) - sum(
        s.ByteSize() for s in made.values()
    )
    return new, (
        f"{len(made)} weights are stored as sparse initializers, {saved} bytes less; onnxruntime "
        "makes them dense when it loads the model"
    )


def _sparse(tensor: TensorProto) -> SparseTensorProto | None:
    """The numbers that are not zero with their positions; None where that is no smaller."""
    if tensors.is_external(tensor) or tensor.data_type in tensors.PACKED:
        return None
    values = tensors.array(tensor).ravel()
    at = np.flatnonzero(values != 0)
    if values.dtype.kind != "f" or len(at) * (values.itemsize + 8) >= values.nbytes:
        return None
    held = onnx.numpy_helper.from_array(values[at], tensor.name)
    return onnx.helper.make_sparse_tensor(
        held, onnx.numpy_helper.from_array(at.astype(np.int64)), list(tensor.dims)
    )
