"""The seam to the library that numpy multiplies matrices with: how many threads it has.

Sums over parts that threads share come out in another order with another number of threads, and
differ in the last bit; from there plans and weights may differ. So a command computes on one thread
of numpy's, whatever the machine has. Onnxruntime divides its work so that no sum is, and keeps all.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

__all__ = ["Threads", "libraries", "one_thread"]

_SUFFIXES = ("", "64_", "_64", "_64_")
#: Names of the functions that set and tell the number of threads.
NAMES = (
    *(
        (f"{prefix}openblas_set_num_threads{suffix}", f"{prefix}openblas_get_num_threads{suffix}")
        for prefix in ("scipy_", "")
        for suffix in _SUFFIXES
    ),
    ("MKL_Set_Num_Threads", "MKL_Get_Max_Threads"),
    ("bli_thread_set_num_threads", "bli_thread_get_num_threads"),
)
FILES = ("openblas", "mkl_rt", "libblis")


class Threads(NamedTuple):
    """The two functions of a library."""

    put: Callable[[int], object]
    told: Callable[[], int]


@cache
def libraries() -> tuple[Threads, ...]:
    """Find the libraries that this process has; none where numpy was built with another one."""
    found = (_functions(path) for path in sorted(_files()))
    return tuple(functions for functions in found if functions is not None)


def _files() -> set[str]:
    """Files of such libraries, beside numpy or loaded already."""
    home = Path(np.__file__).parent
    folders = (home.with_name("numpy.libs"), home / ".libs", home / ".dylibs")
    paths = {str(path) for folder in folders if folder.is_dir() for path in folder.iterdir()}
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/maps").read_text().splitlines()
        paths |= {line.split(maxsplit=5)[5] for line in lines if line.count("/")}
    return {path for path in paths if any(word in Path(path).name for word in FILES)}


def _functions(path: str) -> Threads | None:
    try:
        library = ctypes.CDLL(path)
    except OSError:
        return None
    for put, told in NAMES:
        if hasattr(library, put) and hasattr(library, told):
            return Threads(getattr(library, put), getattr(library, told))
    return None


_lock = Lock()
_inside = 0
_before: tuple[int, ...] = ()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy multiply on one thread; the last to leave sets what was there before the first."""
    global _inside, _before
    with _lock:
        if not _inside:
            _before = tuple(library.told() for library in libraries())
            for library in libraries():
                library.put(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                for library, threads in zip(libraries(), _before, strict=True):
                    library.put(threads)
