"""The seam to the library that numpy multiplies matrices with: how many threads it has.

Sums over parts that threads share come out in another order with another number of threads, and
differ in the last bit; from there plans and weights may differ. So a command computes on one thread
of numpy's, whatever the machine has. Onnxruntime divides its work so that no sum is, and keeps all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_thread", "threads"]


@cache
def _libraries() -> Any:
    """The libraries of this process that multiply matrices."""
    return ThreadpoolController().select(user_api="blas")


def threads() -> list[int]:
    """How many threads each library that multiplies matrices has now."""
    return [library.num_threads for library in _libraries().lib_controllers]


_lock = Lock()
_inside = 0
_limit: Any = None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy multiply on one thread; the last to leave sets what was there before the first."""
    global _inside, _limit
    with _lock:
        if not _inside:
            _limit = _libraries().limit(limits=1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _limit.restore_original_limits()
