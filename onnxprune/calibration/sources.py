"""Turn what users give as calibration data into shards: arrays by input name.

A source is arrays, a file, a folder, a function of the user's, an iterable or a
CalibrationDataReader. Rows of a shard are read when they are wanted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from onnxprune.calibration.lazy_array import (
    LazyArray,
    array_in_file,
    array_in_memory,
    members,
)
from onnxprune.errors import InputError
from onnxprune.ir import graph, tensors
from onnxprune.ir.graph import ModelProto
from onnxprune.ir.inputs import Feeds
from onnxprune.types import Ints
from onnxprune.user_code import function_of, guarded, is_function

__all__ = ["LABELS", "Shard", "Shards", "is_label", "shard_of", "shards_of"]

#: The name of the array that holds labels.
LABELS = "labels"

_FORMS = (
    "Give an .npz keyed by input name, an .npy, a folder of either, a test_data_set_* folder, or "
    "file.py:function"
)


class Shard(NamedTuple):
    """Arrays that belong together.

    Attributes:
        where: begins messages about them.
        arrays: by input name.
        labels: opens `labels`, and `labels/OUTPUT` where there are several outputs, by these names.
    """

    where: str
    arrays: Mapping[str, LazyArray]
    labels: Callable[[], Mapping[str, LazyArray]] = dict

    def labelled(self, count: int | None) -> Shard:
        """The same with labels among the arrays.

        Args:
            count: how many samples there are, None where the arrays are those of one run.

        Raises:
            InputError: labels cannot be read, or there are more or fewer of them.
        """
        labels = self.labels()
        for name, array in labels.items():
            if count is not None and array.shape[:1] != (count,):
                raise InputError(
                    f"{self.where} '{name}' has shape {list(array.shape)}, but there are {count} "
                    "samples: give one label for each"
                )
        return Shard(self.where, {**self.arrays, **labels})

    def rows(self, numbers: Ints) -> Iterator[Feeds]:
        """Read rows (n,) of all arrays, ascending, `lazy_array.ROWS_AT_ONCE` at a time.

        What has no axes comes with each of them.
        """
        common = {name: array.whole() for name, array in self.arrays.items() if not array.shape}
        readers = {name: array.rows(numbers) for name, array in self.arrays.items() if array.shape}
        with ExitStack() as stack:
            for reader in readers.values():
                stack.enter_context(closing(reader))  # type: ignore[type-var]
            for values in zip(*readers.values(), strict=True):
                yield {**dict(zip(readers, values, strict=True)), **common}

    def whole(self) -> Feeds:
        """Read all arrays as they are."""
        return {name: array.whole() for name, array in self.arrays.items()}


#: A sequence where all shards are known before any is read, else a stream.
Shards: TypeAlias = Sequence[Shard] | Iterator[Shard]


def shards_of(source: Any, model: ModelProto) -> tuple[Shards, str]:
    """The shards of a source, and what reports call it.

    Raises:
        InputError: samples cannot come from such a source, or it holds none.
    """
    names = [value.name for value in graph.graph_inputs(model)]
    if isinstance(source, str) and is_function(source):
        return _yielded(source, names), source
    if isinstance(source, (str, os.PathLike)):
        return _stored(Path(source), names), os.fspath(source)
    if isinstance(source, Mapping) or hasattr(source, "__array__"):
        return [shard_of(source, names, "calibration data")], "the given arrays"
    return _stream(source, names, "calibration data"), f"a {type(source).__name__}"


def shard_of(item: Any, names: Sequence[str], where: str) -> Shard:
    """A shard of arrays in memory: a mapping by input name, or the array of the only input."""
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
    values = {name: np.asarray(value) for name, value in item.items()}
    return _shard(where, values, names, lambda name: array_in_memory(values[name]))


def is_label(name: str) -> bool:
    """Whether an array is called `labels`, or `labels/OUTPUT`."""
    return name == LABELS or name.startswith(f"{LABELS}/")


def _shard(
    where: str, arrays: Iterable[str], names: Sequence[str], opened: Callable[[str], LazyArray]
) -> Shard:
    """Arrays divided into inputs, which may be called anything, and labels, opened when asked for.

    Args:
        where: begins messages about them.
        arrays: their names.
        names: those of the model's inputs.
        opened: opens an array.
    """
    labels = [name for name in arrays if is_label(name) and name not in names]
    inputs = {name: opened(name) for name in arrays if name not in labels}
    return Shard(where, inputs, lambda: {name: opened(name) for name in labels})


def _yielded(text: str, names: Sequence[str]) -> Iterator[Shard]:
    """What a function of the user's yields; its errors are raised under its name."""
    function = function_of(text, "calibration")
    result = function()
    if isinstance(result, Mapping) or hasattr(result, "__array__"):
        yield shard_of(result, names, f"{text}:")
        return
    stream = iter(_stream(result, names, f"{text}:"))
    while True:
        with guarded(text):
            shard = next(stream, None)
        if shard is None:
            return
        yield shard


def _stream(source: Any, names: Sequence[str], where: str) -> Iterator[Shard]:
    """The items of a CalibrationDataReader or an iterable."""
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
    return (shard_of(item, names, where) for item in items)


def _stored(path: Path, names: Sequence[str]) -> Shards:
    """The shards of a file or folder."""
    if path.is_dir():
        return _folder(path, names)
    if not path.exists():
        raise InputError(f"calibration {path}: no such file. {_FORMS}.")
    return [_npy(path, names) if path.suffix == ".npy" else _npz(path, names)]


def _folder(path: Path, names: Sequence[str]) -> Shards:
    """The shards of test data sets, or of files sorted by name."""
    files = sorted(path.iterdir(), key=_natural_order)
    if any(file.match("input_*.pb") for file in files):
        return iter([_test_set(path, names)])
    if sets := [file for file in files if file.is_dir() and file.match("test_data_set_*")]:
        return (_test_set(folder, names) for folder in sets)
    npz, npy = ([f for f in files if f.suffix == kind] for kind in (".npz", ".npy"))
    if npz and npy:
        raise InputError(f"calibration {path}: holds both .npz and .npy files: keep one kind")
    if npz:
        return [_npz(file, names) for file in npz]
    stems = {file.stem for file in npy} - ({LABELS} - set(names))
    if npy and (len(names) > 1 or stems == set(names)):
        found = {f.stem: f for f in npy}
        return [_shard(f"calibration {path}:", found, names, lambda n: array_in_file(found[n]))]
    if npy:
        return [_npy(file, names) for file in npy]
    raise InputError(
        f"calibration {path}: this folder holds no .npz, .npy or input_*.pb file and no "
        "test_data_set_* folder. Name another one."
    )


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """A key that sorts numbers in names by their value."""
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", path.name)]


def _test_set(folder: Path, names: Sequence[str]) -> Shard:
    """`input_0.pb`, `input_1.pb`, … in the order of the model's inputs."""
    files = [folder / f"input_{k}.pb" for k in range(len(names))]
    for file, name in zip(files, names, strict=True):
        if not file.exists():
            raise InputError(
                f"calibration {folder}: {file.name} is missing, for input '{name}': write it"
            )
    if (more := folder / f"input_{len(names)}.pb").exists():
        raise InputError(f"calibration {more}: the model has {len(names)} inputs only")
    arrays = [array_in_memory(tensors.stored_tensor(file)) for file in files]
    return Shard(f"calibration {folder}:", dict(zip(names, arrays, strict=True)))


def _npy(path: Path, names: Sequence[str]) -> Shard:
    if len(names) != 1:
        raise InputError(
            f"calibration {path}: is a single array, but the model has the inputs "
            f"{', '.join(names)}: give an .npz keyed by input name"
        )
    return Shard(f"calibration {path}:", {names[0]: array_in_file(path)})


def _npz(path: Path, names: Sequence[str]) -> Shard:
    return _shard(
        f"calibration {path}:", members(path), names, lambda name: array_in_file(path, name)
    )
