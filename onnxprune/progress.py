"""A progress bar on a terminal, shown once two seconds have passed; silent in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import TextIO

__all__ = ["Bar", "between", "estimated"]

WIDTH, DELAY = 30, 2.0


class Bar:
    """Callable with a stage's name and the share done; `close` wipes the line."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.stream = stream or sys.stderr
        self.silent = quiet or not self.stream.isatty()
        self.start = monotonic()
        self.drawn = 0

    def __call__(self, stage: str, share: float) -> None:
        """Draw, if it has taken long enough to matter."""
        if self.silent or monotonic() - self.start < DELAY:
            return
        filled = round(WIDTH * min(max(share, 0.0), 1.0))
        line = f"{stage:10} [{'#' * filled}{' ' * (WIDTH - filled)}] {share:4.0%}"
        self.stream.write("\r" + line.ljust(self.drawn))
        self.stream.flush()
        self.drawn = len(line)

    def close(self) -> None:
        """Leave a clean line."""
        if self.drawn:
            self.stream.write("\r" + " " * self.drawn + "\r")
            self.stream.flush()
            self.drawn = 0


def between(
    progress: Callable[[str, float], None], stage: str, begin: float, end: float
) -> Callable[[float], None]:
    """Report the share done of one stage as a share of the whole, from `begin` to `end`."""
    return lambda share: progress(stage, begin + (end - begin) * share)


def estimated(
    progress: Callable[[str, float], None], stage: str, begin: float, end: float
) -> Callable[[float], None]:
    """Progress of one stage between two shares of the whole, with the time that it may still take.

    The time is told once a tenth of the stage is done.
    """
    start = monotonic()

    def told(share: float) -> None:
        left = (monotonic() - start) * (1 - share) / share if share > 0.1 else 0.0
        more = f", {left:.0f} s left" if left >= 1 else ""
        progress(f"{stage}{more}", begin + (end - begin) * share)

    return told
