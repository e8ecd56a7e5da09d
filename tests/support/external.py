"""Models whose weights lie in other files, and how they compare with others."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from paths import MODELS

from onnxprune.ir import graph, tensors


def external(model: onnx.ModelProto, path: Path, location: str = "weights.bin") -> Path:
    """The model at `path`, every tensor of it in a file beside it; `model` stays as it is."""
    same = onnx.ModelProto()
    same.CopyFrom(model)
    (path.parent / location).unlink(missing_ok=True)
    onnx.save(same, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def external_digits(folder: Path) -> Path:
    """The shipped model, `in.onnx`, with its weights in `weights.bin`."""
    return external(onnx.load(MODELS / "digits.onnx"), folder / "in.onnx")


def bare(path: Path) -> onnx.ModelProto:
    """The model without its external data."""
    return onnx.load(path, load_external_data=False)


def plain(model: onnx.ModelProto) -> bytes:
    """The model's bytes, however its weights are stored."""
    same = onnx.ModelProto()
    same.CopyFrom(model)
    for tensor in same.graph.initializer:
        values = tensors.array(tensor)
        head = tensors.head(tensor)
        head.dims.extend(values.shape)
        head.raw_data = values.tobytes()
        tensor.CopyFrom(head)
    return graph.model_bytes(same)


def hidden(folder: Path) -> list[str]:
    """Files and folders that are not meant to be seen, such as those of unfinished work."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@contextmanager
def small_files(limit: int) -> Iterator[None]:
    """No file can grow beyond the limit, as on a disk that is full."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
