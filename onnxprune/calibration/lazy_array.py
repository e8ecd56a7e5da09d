"""Read rows of arrays in memory, in .npy files and in .npz archives, when they are wanted.

Rows are read with `seek` and `read`, not through a map, so that files inside an archive are treated
as those outside, and pages that were read do not count as memory of the process.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError, one_line
from onnxprune.ir.inputs import UNREADABLE
from onnxprune.types import Ints

__all__ = ["ROWS_AT_ONCE", "LazyArray", "array_in_file", "array_in_memory", "members"]

#: Rows that are read at once.
ROWS_AT_ONCE = 128


class LazyArray(NamedTuple):
    """An array of which only type and shape are known so far.

    Attributes:
        rows: reads the rows of the given numbers (n,), ascending, `ROWS_AT_ONCE` at a time.
        whole: reads all of it.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: Callable[[Ints], Iterator[NDArray[Any]]]
    whole: Callable[[], NDArray[Any]]


def array_in_memory(array: NDArray[Any]) -> LazyArray:
    """Wrap an array that needs no reading."""

    def rows(numbers: Ints) -> Iterator[NDArray[Any]]:
        for some in _chunks(numbers):
            yield array[some]

    return LazyArray(array.dtype, array.shape, rows, lambda: array)


def array_in_file(path: Path, member: str | None = None) -> LazyArray:
    """Read the header of an .npy file, or of a `member` (name without .npy) of an .npz archive.

    Raises:
        InputError: the file cannot be read, or holds Python objects. Reading rows raises it too.
    """
    with _readable(path), _opened(path, member) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            header = np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = header(file)
        begin = file.tell()
        if not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"an array has the shape {list(shape)}")
    if dtype.hasobject:
        raise InputError(
            f"calibration {path}: '{member or path.stem}' holds Python objects: save it with a "
            "type of the model's inputs"
        )

    def whole() -> NDArray[Any]:
        with _readable(path), _opened(path, member) as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))

    def rows(numbers: Ints) -> Iterator[NDArray[Any]]:
        if by_columns and len(shape) > 1:  # a row is scattered over the whole file
            yield from array_in_memory(whole()).rows(numbers)
            return
        with _readable(path), _opened(path, member) as file:
            for some in _chunks(numbers):
                yield _read_rows(file, begin, some, np.empty((len(some), *shape[1:]), dtype))

    return LazyArray(dtype, tuple(shape), rows, whole)


def members(path: Path) -> list[str]:
    """Names of the arrays in an .npz archive.

    Raises:
        InputError: it cannot be read.
    """
    with _readable(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def _chunks(numbers: Ints) -> Iterator[Ints]:
    for start in range(0, len(numbers), ROWS_AT_ONCE):
        yield numbers[start : start + ROWS_AT_ONCE]


def _read_rows(file: IO[bytes], begin: int, numbers: Ints, result: NDArray[Any]) -> NDArray[Any]:
    """Fill `result` (n, …) with the rows of these numbers (n,); row 0 lies at byte `begin`."""
    size = result[:1].nbytes
    for k, row in enumerate(numbers.tolist()):
        into = result[k, ...]  # an array even where a row is one number
        file.seek(begin + row * size)
        content = file.read(size)
        if len(content) != size:
            raise EOFError(f"it ends in row {row}")
        into[...] = np.frombuffer(content, result.dtype).reshape(into.shape)
    return result


@contextmanager
def _opened(path: Path, member: str | None) -> Iterator[IO[bytes]]:
    """Open an .npy file, or one inside an .npz archive."""
    with ExitStack() as stack:
        if member is None:
            yield stack.enter_context(open(path, "rb"))
        else:
            archive = stack.enter_context(zipfile.ZipFile(path))
            yield stack.enter_context(archive.open(f"{member}.npy"))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of reading into InputError."""
    try:
        yield
    except UNREADABLE as error:
        kind = ".npy file" if path.suffix == ".npy" else ".npz file"
        raise InputError(
            f"calibration {path}: not a readable {kind} ({one_line(error)}). Write it again."
        ) from error
