"""Tensors of many batches: in memory up to a limit, beyond it in temporary files.

A file holds one tensor of all batches and goes with it, so that space is taken only by what is
still needed; nothing is left behind when the process ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError

__all__ = ["MEMORY", "ActivationStore", "Batch", "content"]

Array: TypeAlias = NDArray[Any]
#: Bytes of tensors that stay in memory.
MEMORY = 2**29


class _Away(NamedTuple):
    """Where an array lies in a file."""

    file: FileIO
    begin: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def read(self) -> Array:
        self.file.seek(self.begin)
        array = np.empty(self.shape, self.dtype)
        view = array.reshape(-1).view(np.uint8).data
        while len(view):
            count = self.file.readinto(view)
            if not count:
                raise InputError("a temporary file with activations came to its end too early")
            view = view[count:]
        return array


class Batch(Mapping[str, Array]):
    """The tensors of one batch; what lies in a file is read whenever it is asked for."""

    def __init__(self, given: Mapping[str, Array]) -> None:
        self._held: dict[str, Array | _Away] = dict(given)

    def __getitem__(self, name: str) -> Array:
        held = self._held[name]
        return held.read() if isinstance(held, _Away) else held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""
        return self._held[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """The type of a tensor, without reading it."""
        return self._held[name].dtype


class ActivationStore:
    """Batches of tensors, more of which come and go."""

    def __init__(self, batches: Sequence[Mapping[str, Array]], folder: Path | None = None) -> None:
        """What `batches` hold to begin with stays where it is."""
        self.batches = [Batch(given) for given in batches]
        self.folder = folder
        self.used = 0
        self.files: dict[str, FileIO] = {}
        self.counted: dict[str, int] = {}

    def add(self, batch: Batch, made: Mapping[str, Array]) -> None:
        """Give a batch further tensors."""
        for name, array in made.items():
            fits = self.used + array.nbytes <= MEMORY or array.dtype.hasobject or not array.nbytes
            if fits:
                self.used += array.nbytes
                self.counted[name] = self.counted.get(name, 0) + array.nbytes
            batch._held[name] = array if fits else self._written(name, array)

    def drop(self, names: Sequence[str]) -> None:
        """Let go of tensors of all batches."""
        for name in names:
            for batch in self.batches:
                batch._held.pop(name, None)
            self.used -= self.counted.pop(name, 0)
            if name in self.files:
                self.files.pop(name).close()

    def __del__(self) -> None:
        with suppress(AttributeError):
            self.drop(list(self.files))

    def _written(self, name: str, array: Array) -> _Away:
        try:
            if name not in self.files:
                self.files[name] = tempfile.TemporaryFile(buffering=0, dir=self.folder)  # noqa: SIM115
            file = self.files[name]
            begin = file.seek(0, os.SEEK_END)
            rest = content(array)
            while len(rest):
                rest = rest[file.write(rest) :]
        except OSError as error:
            raise InputError(
                f"activations need a temporary file, which cannot be written: {error.strerror}. "
                "Give fewer samples (--calib-samples), or set TMPDIR."
            ) from error
        return _Away(file, begin, array.dtype, array.shape)


def content(array: Array) -> memoryview:
    """The bytes of an array, copied only where it is scattered; also of types that numpy lacks."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
