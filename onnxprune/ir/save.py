"""Write a model: one file, or one and a data file beside it, whole or not at all.

Layout of a data file, `<model>.data`: tensors of at least `OUTSIDE` bytes in the order of the
graph; those of at least `PAGED` bytes begin at a multiple of 4096, so that a runtime can map them,
others at one of 64.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onnxprune.atomic_files import write_blocks, write_with_data
from onnxprune.errors import InputError
from onnxprune.ir import external_data, graph
from onnxprune.ir import tensors as tensors_module
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.tensors import Extent

__all__ = ["LIMIT", "data_path", "digest", "file_bytes", "pieces", "save"]

#: Models with more bytes get a data file: protobuf writes up to 2 GiB.
LIMIT = 1_800_000_000
#: Bytes from which on a weight goes to the data file, and from which on it starts a page.
OUTSIDE, PAGED = 1024, 2**20
#: Bytes that are copied at once.
BLOCK = 2**23
#: Numbers of fields in the ONNX format: a model's graph, and a graph's stored tensors.
GRAPH, INITIALIZER = 7, 5


def data_path(path: Path) -> Path:
    """The data file that belongs to a model's file."""
    return path.with_name(f"{path.name}.data")


def save(model: ModelProto, path: Path, outside: bool = False) -> list[Path]:
    """Write the model, with a data file if it is to be, came with one, or is above `LIMIT` bytes.

    Old files stay until the new ones are complete; returns what was written.

    Raises:
        InputError: it cannot be written, or would overwrite data that the model refers to.
    """
    data = data_path(path)
    if not (outside or external_data.is_external(model) or file_bytes(model) > LIMIT):
        large = graph.stored_bytes(model) > graph.LARGE
        with _refusing():
            write_blocks(path, _message(model) if large else [graph.model_bytes(model)])
        return [path]
    for file in external_data.data_files(model):
        if data.exists() and os.path.samefile(file, data):
            raise InputError(
                f"{path}: its data would replace {file}, where weights of the original lie. Choose "
                "another output."
            )
    light, moved = _parted(model, data.name)
    try:
        content = graph.model_bytes(light)
    except MemoryError:
        raise
    except Exception as error:  # protobuf's EncodeError
        raise InputError(
            f"{path}: is above 2 GiB even without its weights, which ONNX cannot hold. Export "
            "constants as weights."
        ) from error
    with _refusing():
        if not moved:
            write_blocks(path, [content])
            return [path]
        write_with_data(
            path, data, _blocks(moved), lambda name: graph.model_bytes(_parted(model, name)[0])
        )
    return [path, data]


def _message(model: ModelProto) -> Iterator[bytes]:
    """The model's message, a tensor at a time: its fields may come in any order."""
    bare = _bare(model)
    inner = bare.graph.SerializeToString()
    bare.ClearField("graph")
    tensors = model.graph.initializer
    yield graph.model_bytes(bare)
    yield _head(GRAPH, len(inner) + sum(_field(tensor.ByteSize()) for tensor in tensors))
    yield inner
    for tensor in tensors:
        yield _head(INITIALIZER, tensor.ByteSize())
        yield tensor.SerializeToString()


def _bare(model: ModelProto) -> ModelProto:
    """The model without its stored tensors."""
    bare = ModelProto()
    graph.copy_fields(model, bare, frozenset({"graph"}))
    graph.copy_fields(model.graph, bare.graph, frozenset({"initializer"}))
    return bare


def _head(field: int, size: int) -> bytes:
    """What comes before `size` bytes of a protobuf field: its number and wire type, the length."""
    found = bytearray([field << 3 | 2])
    while size > 127:
        found.append(size & 127 | 128)
        size >>= 7
    return bytes([*found, size])


def _parted(model: ModelProto, location: str) -> tuple[ModelProto, list[tuple[int, Any]]]:
    """The model as it is written beside a data file, and the offsets of the tensors in that."""
    light = ModelProto()
    graph.copy_fields(model, light, frozenset({"graph"}))
    graph.copy_fields(model.graph, light.graph, frozenset({"initializer"}))
    moved: list[tuple[int, Any]] = []
    end = 0
    for tensor in model.graph.initializer:
        length = _length(tensor)
        if length < OUTSIDE:
            light.graph.initializer.add().CopyFrom(tensors_module.inlined(tensor))
            continue
        start = _aligned(end, length)
        place = Extent(location, start, length)
        light.graph.initializer.append(tensors_module.external(tensor, tensor.dims, place))
        moved.append((start, tensor))
        end = start + length
    return light, moved


def _length(tensor: Any) -> int:
    """Bytes of raw content, 0 where there is none."""
    if tensors_module.is_external(tensor):
        return tensors_module.extent(tensor).length or 0
    if tensor.HasField("raw_data") and tensors_module.expected_bytes(tensor) is None:
        return len(tensor.raw_data)
    return tensors_module.tensor_bytes(tensor)


def _aligned(end: int, length: int) -> int:
    step = 4096 if length >= PAGED else 64
    return -(-end // step) * step


def _blocks(moved: Iterable[tuple[int, Any]]) -> Iterator[bytes]:
    """The content of a data file, a piece at a time."""
    end = 0
    for start, tensor in moved:
        yield bytes(start - end)
        end = start + _length(tensor)
        if tensors_module.is_external(tensor):
            yield from _file_blocks(tensors_module.extent(tensor))
        elif tensor.HasField("raw_data"):
            yield tensor.raw_data
        else:
            yield tensors_module.array(tensor).tobytes()


def _file_blocks(place: Extent) -> Iterator[bytes]:
    left = place.length or 0
    with open(place.path, "rb") as file:
        file.seek(place.offset)
        while left:
            block = file.read(min(BLOCK, left))
            if not block:
                raise InputError(
                    f"{place.path}: was truncated while it was being read. Run it again."
                )
            yield block
            left -= len(block)


@contextmanager
def _refusing() -> Iterator[None]:
    """Say which file cannot be written, and why."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{error.filename}: cannot be written: {error.strerror}. Choose another output."
        ) from error


def file_bytes(model: ModelProto) -> int:
    """Bytes of the model's file, without serialising its weights.

    External weights count as they will lie in one data file, but for the length of its name.
    """
    bare, inside, end = _bare(model), 0, 0
    outside = external_data.is_external(model)
    for tensor in model.graph.initializer:
        length = _length(tensor)
        if outside and length >= OUTSIDE:
            place = Extent("model.onnx.data", _aligned(end, length), length)
            end = place.offset + length
            inside += _field(int(tensors_module.external(tensor, tensor.dims, place).ByteSize()))
        else:
            inside += _field(_inline_size(tensor))
    inside += bare.graph.ByteSize()
    bare.ClearField("graph")
    return int(bare.ByteSize()) + _field(inside) + end


def pieces(model: ModelProto) -> Iterator[bytes]:
    """What a model's files hold, a tensor at a time, in about their order."""
    bare = _bare(model)
    for tensor in model.graph.initializer:
        if tensors_module.is_external(tensor):
            yield from _file_blocks(tensors_module.extent(tensor))
        else:
            yield tensor.raw_data or tensor.SerializeToString()
    yield graph.model_bytes(bare)


def _inline_size(tensor: Any) -> int:
    raw = tensor.HasField("raw_data") or tensors_module.is_external(tensor)
    if not raw or tensors_module.expected_bytes(tensor) is None:
        return int(tensors_module.inlined(tensor).ByteSize())
    bare = tensors_module.head(tensor)
    bare.dims.extend(tensor.dims)
    return int(bare.ByteSize()) + _field(_length(tensor))


def _field(size: int) -> int:
    """A length-delimited protobuf field: tag, length, content."""
    return 1 + max(1, -(-size.bit_length() // 7)) + size


def digest(source: Source, model: ModelProto) -> str:
    """SHA-256 of the file and its external files, or of what a model in memory is written as."""
    found = hashlib.sha256()
    if isinstance(source, (str, os.PathLike)):
        for file in (source, *external_data.data_files(model)):
            size = os.path.getsize(file)
            for block in _file_blocks(Extent(os.fspath(file), 0, size)):
                found.update(block)
    elif file_bytes(model) <= LIMIT:
        found.update(graph.model_bytes(model))
    else:
        light, moved = _parted(model, "")
        found.update(graph.model_bytes(light))
        for block in _blocks(moved):
            found.update(block)
    return found.hexdigest()
