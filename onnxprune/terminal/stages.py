"""Draw the stages of a run on a terminal: those that are done, the one that runs, its time left."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["Stages"]

WIDTH = 30
#: Stages that took less are not listed.
LISTED = 1.0
#: Seconds between two drawings of a stage.
PAUSE = 0.1


class Stages:
    """A list of stages that is drawn again with each report, and wiped at the end."""

    def __init__(self, stream: TextIO, since: float) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=stream, highlight=False, emoji=False)
        self.live = Live(console=console, auto_refresh=False, transient=True)
        self.name = ""
        self.since = since
        self.shown = since
        self.done: list[tuple[str, float]] = []
        self.live.start()

    def __call__(self, stage: str, share: float) -> None:
        """Draw the stage that runs; its name may go on with the time left after a comma."""
        name, _, left = stage.partition(", ")
        now = monotonic()
        if name == self.name and now - self.shown < PAUSE:
            return
        self.shown = now
        if name != self.name:
            if self.name and now - self.since >= LISTED:
                self.done.append((self.name, now - self.since))
            self.name, self.since = name, now
        self.live.update(self._drawn(left, min(max(share, 0.0), 1.0)), refresh=True)

    def close(self) -> None:
        """Leave a clean screen."""
        self.live.stop()

    def _drawn(self, left: str, share: float) -> Group:
        from rich.console import Group
        from rich.text import Text

        lines = [
            Text.assemble((f"{name:14} ", "dim"), (f"{_duration(seconds)}", "dim"))
            for name, seconds in self.done
        ]
        filled = round(WIDTH * share)
        bar = ("━" * filled, "green"), ("━" * (WIDTH - filled), "dim")
        rest = f" {share:4.0%}" + (f"  {left}" if left else "")
        return Group(*lines, Text.assemble(f"{self.name:14} ", *bar, rest, no_wrap=True))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
