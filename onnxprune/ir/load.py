"""Read a model from a file, a ModelProto or an onnx-graphsurgeon graph."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from onnx import ModelProto

from onnxprune.errors import InputError, one_line
from onnxprune.ir import well_formed

__all__ = ["Source", "load"]


Source = str | os.PathLike[str] | ModelProto


def load(source: Source) -> ModelProto:
    """The model at a path, or a ModelProto as it is; InputError if it makes no sense."""
    if isinstance(source, ModelProto):
        model = source
    elif hasattr(source, "nodes") and hasattr(source, "tensors"):  # an onnx-graphsurgeon Graph
        import onnx_graphsurgeon

        model = onnx_graphsurgeon.export_onnx(source)
    elif isinstance(source, str | os.PathLike):
        model = _read(Path(source))
    else:
        raise InputError(f"model {source!r}: give the path of an .onnx model, or a ModelProto")
    well_formed.check(model)
    return model


def _read(path: Path) -> ModelProto:
    if not path.exists():
        raise InputError(f"{path}: no such file. Give the path of an .onnx model.")
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Give the path of an .onnx model.")
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {one_line(error)}. Export it again.") from error
    except MemoryError:
        raise
    except Exception as error:  # protobuf's DecodeError, whose text names its own classes
        raise InputError(f"{path}: not an ONNX model, or truncated. Export it again.") from error
    if not model.graph.node:
        raise InputError(
            f"{path}: not an ONNX model, or one without any operator. Export it again."
        )
    return model
