"""Keep arrays in files that other processes read, mapped where they hold plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["array_at", "arrays_at", "keep_array", "keep_arrays"]


def keep_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array; text as its characters, since no file holds Python objects."""
    np.save(path, array.astype(np.str_) if array.dtype.hasobject else array, allow_pickle=False)


def array_at(path: Path, text: bool = False) -> NDArray[Any]:
    """Read an array again, without copying it into memory; `text` as Python's strings."""
    found: NDArray[Any] = np.load(path, mmap_mode=None if text else "r", allow_pickle=False)
    return found.astype(object) if text else found


def keep_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> tuple[tuple[str, bool], ...]:
    """Write arrays by name into a folder; their names, and which of them are text."""
    folder.mkdir()
    for number, array in enumerate(arrays.values()):
        keep_array(folder / f"{number}.npy", array)
    return tuple((name, array.dtype.hasobject) for name, array in arrays.items())


def arrays_at(folder: Path, kept: tuple[tuple[str, bool], ...]) -> dict[str, NDArray[Any]]:
    """Read arrays again that `keep_arrays` wrote."""
    return {name: array_at(folder / f"{k}.npy", text) for k, (name, text) in enumerate(kept)}
