"""Weights in external files: where they lie, and whether they may be read.

In memory an external tensor names its file by absolute path, checked once when the model is read,
and its content stays there until somebody asks for it. Cutting leaves content where it was: what
came in the model's file stays in the message, what came from external files goes to a scratch
file.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any, TypeAlias

from numpy.typing import NDArray

from onnxprune.errors import InputError
from onnxprune.ir import graph, tensors
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.load import Source
from onnxprune.ir.tensors import Extent
from onnxprune.temporary_files import TemporaryFolder

__all__ = ["Put", "Scratch", "attempt", "data_files", "inlined", "is_external", "resolve", "spill"]

Put: TypeAlias = Callable[[Any, NDArray[Any]], Any]


def is_external(model: ModelProto) -> bool:
    """Whether any weight lies in another file."""
    return any(tensors.is_external(tensor) for tensor in model.graph.initializer)


def resolve(model: ModelProto, source: Source) -> None:
    """Check where external tensors lie and name their files by absolute path, in place.

    Content that is not an initializer of the main graph is read at once.

    Raises:
        InputError: a file is missing, too short or outside the model's folder; or the model did
            not come from a path.
    """
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    files: dict[str, tuple[str, int]] = {}

    def found(tensor: Any) -> Any:
        place = tensors.extent(tensor)
        if place.path not in files:
            files[place.path] = _located(path, place.path, tensor.name)
        return tensors.external(tensor, tensor.dims, _checked(tensor, place, *files[place.path]))

    for tensor in model.graph.initializer:
        if tensors.is_external(tensor):
            tensor.CopyFrom(found(tensor))
    for tensor in _inner(model.graph, model.functions):
        if tensors.is_external(tensor):
            tensor.CopyFrom(tensors.inlined(found(tensor)))


def _inner(g: Any, functions: Iterable[Any] = ()) -> Iterator[Any]:
    """Tensors in attributes and of graphs inside, at any depth, and those of sparse ones."""
    for sparse in getattr(g, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in g.node:
        for attr in node.attribute:
            if attr.type == attr.TENSOR:
                yield attr.t
            yield from attr.tensors
            for inner in (*attr.graphs, *([attr.g] if attr.type == attr.GRAPH else [])):
                yield from inner.initializer
                yield from _inner(inner)
    for function in functions:
        yield from _inner(function)


def _located(path: Path | None, location: str, name: str) -> tuple[str, int]:
    """The real file of a location and its size."""
    if path is None:
        raise InputError(
            f"tensor '{name}' lies in the file '{location}', and a model in memory does not say in "
            "which folder. Give the path of the model instead, or load it with its data."
        )
    what = f"tensor '{name}' lies in the external file '{location}'"
    windows = PureWindowsPath(location)  # understands both slashes
    if not location or windows.is_absolute() or windows.drive or windows.root:
        raise InputError(
            f"{what}: only files in the model's folder, {path.parent}, are read. Move the file "
            "there and export or save the model again."
        )
    if "\0" in location or len(location) > 4096:
        raise InputError(f"{what}, which no file can be called. Export the model again.")
    file = (path.parent / location).resolve()
    # a model that is itself a link, as in a download cache, has its data beside the real file
    homes = path.parent.resolve(), path.resolve().parent
    if ".." in windows.parts or not any(file.is_relative_to(home) for home in homes):
        raise InputError(
            f"{what}, which leaves the model's folder, {path.parent}. Only files inside are read: "
            "move the file there and export or save the model again."
        )
    try:
        kind = file.stat()
    except OSError as error:  # missing, or a name that the system does not allow
        raise InputError(
            f"{what}, which is missing from {path.parent}: {error.strerror}. Put it beside the "
            "model."
        ) from error
    if not stat.S_ISREG(kind.st_mode):
        raise InputError(f"{what}, which is no regular file. Export the model again.")
    return str(file), kind.st_size


def _checked(tensor: Any, place: Extent, file: str, size: int) -> Extent:
    """Where the content lies, if it fits the tensor and the file."""
    expected = tensors.expected_bytes(tensor)
    length = place.length
    if length is None or tensor.data_type == 8:  # a packed type without a length, strings
        raise InputError(
            f"tensor '{tensor.name}': its external data state no length, which its type needs. "
            "Export the model again."
        )
    if expected not in (None, length):
        raise InputError(
            f"tensor '{tensor.name}' of shape {list(tensor.dims)} needs {expected} bytes, but its "
            f"external data are {length} bytes long. Export the model again."
        )
    if place.offset < 0 or length < 0 or place.offset + length > size:
        raise InputError(
            f"tensor '{tensor.name}' takes {length} bytes at {place.offset} of {file}, which has "
            f"{size}. The file is truncated or belongs to another model: put the right one there."
        )
    return Extent(file, place.offset, length)


def data_files(model: ModelProto) -> list[str]:
    """The external files of a model that has been resolved, in order of their names."""
    external = filter(tensors.is_external, model.graph.initializer)
    return sorted({tensors.extent(tensor).path for tensor in external})


def inlined(model: ModelProto) -> ModelProto:
    """The model with all weights in the message; the same one if they are."""
    if not is_external(model):
        return model
    new = ModelProto()
    graph.copy_fields(model, new, frozenset({"graph"}))
    graph.copy_fields(model.graph, new.graph, frozenset({"initializer"}))
    for tensor in model.graph.initializer:
        new.graph.initializer.add().CopyFrom(tensors.inlined(tensor))
    return new


class Scratch:
    """A private folder, removed with the last reference to this."""

    def __init__(self, parent: str | os.PathLike[str] | None = None) -> None:
        try:
            self._folder = TemporaryFolder(parent)
        except OSError as error:
            raise InputError(
                f"scratch folder {error.filename}: {error.strerror}. Choose another one."
            ) from error

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._folder.path


@contextmanager
def attempt(folder: Path | None, keep: bool) -> Iterator[Path | None]:
    """A fresh folder inside, removed again unless all goes well and it is to `keep`."""
    if folder is None:
        yield None
        return
    fresh = Path(tempfile.mkdtemp(dir=folder))
    done = False
    try:
        yield fresh
        done = True
    finally:
        if not (done and keep):
            shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def spill(folder: Path | None) -> Iterator[Put | None]:
    """A function that gives an external tensor new content in a fresh file of `folder`.

    None without a folder: content is then kept in memory.
    """
    if folder is None:
        yield None
        return
    try:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:

            def put(tensor: Any, values: NDArray[Any]) -> Any:
                content = tensors.raw(values)
                place = Extent(file.name, file.tell(), content.nbytes)
                file.write(content.data)
                file.flush()  # it may be read back at once
                return tensors.external(tensor, values.shape, place)

            yield put
    except OSError as error:
        raise InputError(
            f"{folder}: the cut weights cannot be kept here: {error.strerror}. Free space, or name "
            "another folder as scratch."
        ) from error
