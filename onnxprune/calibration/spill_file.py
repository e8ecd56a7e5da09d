"""Keep arrays in a temporary file when memory has no room for them.

The file has no name, so nothing is left behind when the process ends.
"""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import InputError

__all__ = ["SpillFile", "SpilledArray", "raw_bytes"]

Array: TypeAlias = NDArray[Any]
#: Arrays begin at multiples of this many bytes, so that a mapped one is aligned for every type.
ALIGNMENT = 64


class SpilledArray(NamedTuple):
    """An array in a file: its first byte there, its type and shape."""

    file: SpillFile
    begin: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def read(self) -> Array:
        """Copy the array back into memory.

        Raises:
            InputError: the file has been cut short.
        """
        return self.file.read(self)


class SpillFile:
    """A temporary file that arrays are appended to and read back from."""

    def __init__(self, content: str, folder: Path | None = None) -> None:
        """Create the file.

        Args:
            content: what is kept in it, for messages ("activations").
            folder: where it lies, None: the system's temporary folder.

        Raises:
            InputError: it cannot be created.
        """
        self.content = content
        try:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        except OSError as error:
            raise self._unusable(error) from error
        self.close = weakref.finalize(self, self._file.close)

    def append(self, array: Array) -> SpilledArray:
        """Write an array behind all others.

        Raises:
            InputError: it cannot be written.
        """
        try:
            end = self._file.seek(0, os.SEEK_END)
            begin = self._file.seek(-(-end // ALIGNMENT) * ALIGNMENT)
            self._file.write(raw_bytes(array))
            self._file.flush()
        except OSError as error:
            raise self._unusable(error) from error
        return SpilledArray(self, begin, array.dtype, array.shape)

    def read(self, spilled: SpilledArray) -> Array:
        """Copy an array of this file back into memory; see `SpilledArray.read`."""
        array = np.empty(spilled.shape, spilled.dtype)
        self._file.seek(spilled.begin)
        if self._file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
            raise InputError(
                f"the temporary file with {self.content} came to its end too early. Run it again."
            )
        return array

    def mapped(self) -> Callable[[SpilledArray], Array]:
        """Map all that was written so far; the function returned gives each array in the map.

        One map serves all arrays, because each map holds a file descriptor. Arrays stay valid
        when the file is closed.
        """
        whole = np.memmap(self._file, np.uint8, "r")

        def array_of(spilled: SpilledArray) -> Array:
            size = math.prod(spilled.shape) * spilled.dtype.itemsize
            flat = np.asarray(whole[spilled.begin : spilled.begin + size])
            return flat.view(spilled.dtype).reshape(spilled.shape)

        return array_of

    def _unusable(self, error: OSError) -> InputError:
        return InputError(
            f"{self.content} need a temporary file, which cannot be written: {error.strerror}. "
            "Give fewer samples (--calib-samples), or set TMPDIR."
        )


def raw_bytes(array: Array) -> memoryview:
    """The bytes of an array, copied only where it is scattered; also of types that numpy lacks."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
