"""Where calibration samples come from: arrays, files, folders, generators and readers.

Whatever it is becomes parts: arrays by input name of which rows are read when they are wanted.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError, one_line
from onnxprune.ir import graph, tensors
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.inputs import Feeds
from onnxprune.types import Ints
from onnxprune.user_code import function_of, guarded, is_function

__all__ = ["PIECE", "Part", "Parts", "Stored", "part_of", "parts_of"]

#: Rows that are read at once.
PIECE = 128
_FORMS = (
    "Give an .npz keyed by input name, an .npy, a folder of either, a test_data_set_* folder, or "
    "file.py:function"
)


class Stored(NamedTuple):
    """An array somewhere: `rows` reads some of its rows, in pieces; `whole` all of it."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows: Callable[[Ints], Iterator[NDArray[Any]]]
    whole: Callable[[], NDArray[Any]]


class Part(NamedTuple):
    """Arrays that belong together, by input name; `where` begins messages about them."""

    where: str
    arrays: Mapping[str, Stored]

    def pieces(self, rows: Ints) -> Iterator[Feeds]:
        """Rows (n,) of all arrays, ascending, a piece at a time."""
        readers = {name: array.rows(rows) for name, array in self.arrays.items()}
        with ExitStack() as stack:
            for reader in readers.values():
                stack.enter_context(closing(reader))  # type: ignore[type-var]
            for values in zip(*readers.values(), strict=True):
                yield dict(zip(readers, values, strict=True))

    def run(self) -> Feeds:
        """All arrays as they are, for one run of the model."""
        return {name: array.whole() for name, array in self.arrays.items()}


#: A sequence where everything can be looked at before it is read, else a stream.
Parts: TypeAlias = Sequence[Part] | Iterator[Part]


def parts_of(source: Any, model: ModelProto) -> tuple[Parts, str]:
    """The parts of a source, and what reports call it.

    Raises:
        InputError: it is nothing that samples come from, or holds none.
    """
    names = [value.name for value in graph.graph_inputs(model)]
    if isinstance(source, str) and is_function(source):
        return _called(source, names), source
    if isinstance(source, (str, os.PathLike)):
        return _at(Path(source), names), os.fspath(source)
    if isinstance(source, Mapping) or hasattr(source, "__array__"):
        return [part_of(source, names, "calibration data")], "the given arrays"
    return _stream(source, names, "calibration data"), f"a {type(source).__name__}"


def _called(text: str, names: Sequence[str]) -> Iterator[Part]:
    """What a function of the user's yields, its errors under its name."""
    function = function_of(text, "calibration")
    given = function()
    if isinstance(given, Mapping) or hasattr(given, "__array__"):
        yield part_of(given, names, f"{text}:")
        return
    stream = iter(_stream(given, names, f"{text}:"))
    while True:
        with guarded(text):
            part = next(stream, None)
        if part is None:
            return
        yield part


def _stream(source: Any, names: Sequence[str], where: str) -> Iterator[Part]:
    """Items of a CalibrationDataReader or an iterable."""
    if hasattr(source, "get_next"):
        if hasattr(source, "rewind"):
            source.rewind()
        items: Iterable[Any] = iter(source.get_next, None)
    elif isinstance(source, Iterable):
        items = source
    else:
        raise InputError(
            f"{where} is of type {type(source).__name__}, which holds no samples. {_FORMS}"
        )
    return (part_of(item, names, where) for item in items)


def part_of(item: Any, names: Sequence[str], where: str) -> Part:
    """Arrays in memory: a mapping by input name, or the array of the only input."""
    if not isinstance(item, Mapping):
        if not hasattr(item, "__array__"):
            kind = type(item).__name__
            raise InputError(
                f"{where} yields values of type {kind}: give a dict of arrays by input name"
            )
        if len(names) != 1:
            raise InputError(
                f"{where} yields single arrays, but the model has the inputs {', '.join(names)}: "
                "give dicts keyed by input name"
            )
        item = {names[0]: item}
    held = {name: np.asarray(values) for name, values in item.items()}
    return Part(where, {k: _array(v) for k, v in held.items() if k != "labels" or k in names})


def _array(array: NDArray[Any]) -> Stored:
    def rows(wanted: Ints) -> Iterator[NDArray[Any]]:
        for start in range(0, len(wanted), PIECE):
            yield array[wanted[start : start + PIECE]]

    return Stored(array.dtype, array.shape, rows, lambda: array)


def _at(path: Path, names: Sequence[str]) -> Parts:
    """The parts of a file or folder."""
    if path.is_dir():
        return _folder(path, names)
    if not path.exists():
        raise InputError(f"calibration {path}: no such file. {_FORMS}.")
    if path.suffix == ".npy":
        return [_npy(path, names)]
    return [_npz(path, names)]


def _folder(path: Path, names: Sequence[str]) -> Parts:
    """Test data sets, or files sorted by name."""
    files = sorted(path.iterdir(), key=_natural)
    if any(file.match("input_*.pb") for file in files):
        return iter([_test_set(path, names)])
    if sets := [file for file in files if file.is_dir() and file.match("test_data_set_*")]:
        return (_test_set(folder, names) for folder in sets)
    npz, npy = ([f for f in files if f.suffix == kind] for kind in (".npz", ".npy"))
    if npz and npy:
        raise InputError(f"calibration {path}: holds both .npz and .npy files: keep one kind")
    if npz:
        return [_npz(file, names) for file in npz]
    stems = {file.stem for file in npy} - ({"labels"} - set(names))
    if npy and (len(names) > 1 or stems == set(names)):
        arrays = {f.stem: _file(f, None) for f in npy if f.stem in stems}
        return [Part(f"calibration {path}:", arrays)]
    if npy:
        return [_npy(file, names) for file in npy]
    raise InputError(
        f"calibration {path}: this folder holds no .npz, .npy or input_*.pb file and no "
        "test_data_set_* folder"
    )


def _natural(path: Path) -> list[tuple[int, str]]:
    """A key that sorts numbers in names by their value."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", path.name)]


def _test_set(folder: Path, names: Sequence[str]) -> Part:
    """`input_0.pb`, `input_1.pb`, … in the order of the model's inputs."""
    files = [folder / f"input_{k}.pb" for k in range(len(names))]
    for file, name in zip(files, names, strict=True):
        if not file.exists():
            raise InputError(f"calibration {folder}: {file.name} is missing, for input '{name}'")
    if (more := folder / f"input_{len(names)}.pb").exists():
        raise InputError(f"calibration {more}: the model has {len(names)} inputs only")
    arrays = [_array(tensors.stored_tensor(file)) for file in files]
    return Part(f"calibration {folder}:", dict(zip(names, arrays, strict=True)))


def _npy(path: Path, names: Sequence[str]) -> Part:
    if len(names) != 1:
        raise InputError(
            f"calibration {path}: is a single array, but the model has the inputs "
            f"{', '.join(names)}: give an .npz keyed by input name"
        )
    return Part(f"calibration {path}:", {names[0]: _file(path, None)})


def _npz(path: Path, names: Sequence[str]) -> Part:
    with _readable(path), zipfile.ZipFile(path) as archive:
        members = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
    wanted = [name for name in members if name != "labels" or name in names]
    return Part(f"calibration {path}:", {name: _file(path, name) for name in wanted})


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        text = one_line(error)
        raise InputError(f"calibration {path}: not a readable {_kind(path)} ({text})") from error


def _kind(path: Path) -> str:
    return ".npy file" if path.suffix == ".npy" else ".npz file"


@contextmanager
def _opened(path: Path, member: str | None) -> Iterator[IO[bytes]]:
    """An .npy file, or one inside an .npz."""
    with ExitStack() as stack:
        if member is None:
            yield stack.enter_context(open(path, "rb"))
        else:
            archive = stack.enter_context(zipfile.ZipFile(path))
            yield stack.enter_context(archive.open(f"{member}.npy"))


def _file(path: Path, member: str | None) -> Stored:
    """An array in a file, of which only the header is read now."""
    with _readable(path), _opened(path, member) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            header = np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = header(file)
        begin = file.tell()
    what = f"calibration {path}: '{member or path.stem}'"
    if dtype.hasobject:
        raise InputError(f"{what} holds Python objects: save it with a type of the model's inputs")

    def whole() -> NDArray[Any]:
        with _readable(path), _opened(path, member) as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))

    def rows(wanted: Ints) -> Iterator[NDArray[Any]]:
        if in_columns and len(shape) > 1:  # a row lies all over the file
            yield from _array(whole()).rows(wanted)
            return
        with _readable(path), _opened(path, member) as file:
            for start in range(0, len(wanted), PIECE):
                piece = wanted[start : start + PIECE]
                yield _rows(file, begin, piece, np.empty((len(piece), *shape[1:]), dtype))

    return Stored(dtype, tuple(shape), rows, whole)


def _rows(file: IO[bytes], begin: int, wanted: Ints, result: NDArray[Any]) -> NDArray[Any]:
    """Fill `result` with rows of a file whose rows begin at a byte."""
    size = result[:1].nbytes
    for row, into in zip(wanted.tolist(), result, strict=True):
        file.seek(begin + row * size)
        content = file.read(size)
        if len(content) != size:
            raise EOFError(f"it ends in row {row}")
        into[...] = np.frombuffer(content, result.dtype).reshape(into.shape)
    return result
