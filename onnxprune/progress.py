"""Tell how far a run is: on a terminal once two seconds have passed; silent in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from onnxprune.terminal.stages import Stages

__all__ = ["Bar", "between"]

DELAY = 2.0


class Bar:
    """Callable with a stage's name and the share done; `close` wipes what was drawn."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.stream = stream or sys.stderr
        self.silent = quiet or not self.stream.isatty()
        self.start = monotonic()
        self.drawn: Stages | None = None

    def __call__(self, stage: str, share: float) -> None:
        """Draw, if it has taken long enough to matter."""
        if self.silent or monotonic() - self.start < DELAY:
            return
        if self.drawn is None:
            # only a run that takes long, and on a terminal, waits for rich
            from onnxprune.terminal.stages import Stages

            self.drawn = Stages(self.stream, self.start)
        self.drawn(stage, share)

    def close(self) -> None:
        """Leave a clean screen."""
        if self.drawn is not None:
            self.drawn.close()
            self.drawn = None


def between(
    progress: Callable[[str, float], None], stage: str, begin: float, end: float
) -> Callable[[float], None]:
    """Report the share done of one stage as a share of the whole, with the time it may still take.

    That follows from the pace since the stage's first report, as what is read and opened before it
    comes once. It is told from the second report on, as soon as a second has passed between them.

    Args:
        progress: called with the stage's name, then the time, and the share of the whole.
        stage: its name.
        begin: the share of the whole at which it begins.
        end: that at which it ends.
    """
    first: list[tuple[float, float]] = []

    def told(share: float) -> None:
        now = monotonic()
        since, done = first[0] if first else (now, share)
        first[:] = [(since, done)]
        known = now - since >= 1 and share > done
        left = (now - since) * (1 - share) / (share - done) if known else 0.0
        progress(f"{stage}{_left(left)}", begin + (end - begin) * share)

    return told


def _left(seconds: float) -> str:
    """How long something may still take, in words; nothing below a second."""
    if seconds < 1:
        return ""
    if seconds < 100:
        return f", {seconds:.0f} s left"
    minutes = seconds / 60
    return f", {minutes:.0f} min left" if minutes < 100 else f", {minutes / 60:.0f} h left"
