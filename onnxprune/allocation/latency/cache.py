"""Keep times of subgraphs by signature in a file of the user's cache, from run to run.

There is a file for each processor, provider, number of threads and version of onnxruntime, and for
each timer that measures elsewhere by name and identity, under
`$XDG_CACHE_HOME/onnxprune`, by default `~/.cache/onnxprune`. It is JSON: `{"onnxprune": "latency",
"machine": {…}, "times": {signature: time}}`. Deleting it costs nothing but the time to measure.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from onnxprune.allocation.latency import timer
from onnxprune.allocation.latency.timer import TOGETHER, SignedModel, TimedModel
from onnxprune.atomic_files import DAMAGED, update_file
from onnxprune.ir.stopwatch import Stopwatch

__all__ = ["TimeCache", "folder", "machine_file"]

#: Each model is timed twice, far apart, and once more where the two differ by more than this share.
TURNS, AGREE = 3, 0.02
#: Changes where times of older versions mean something else.
VERSION = 1


def folder() -> Path:
    """Name the folder where times are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "onnxprune"


def machine_file(kind: str, machine: Mapping[str, Any]) -> Path:
    """Name the file where something is kept for a machine."""
    digest = hashlib.sha256(repr(sorted(machine.items())).encode()).hexdigest()[:16]
    return folder() / f"{kind}-{digest}.json"


class TimeCache:
    """What each signature takes on this machine, measured where it is not known yet.

    Several processes may add to one file at the same time.
    """

    def __init__(self, watch: Stopwatch) -> None:
        self.watch = watch
        self.machine: dict[str, Any] = {"version": VERSION, **watch.environment()}
        self.path = machine_file("latency", self.machine)
        self.times = self._stored()

    def measure(
        self,
        jobs: Mapping[str, TimedModel],
        base: SignedModel,
        progress: Callable[[float], None] = lambda _share: None,
    ) -> dict[str, float]:
        """Time models in shares of the base, by signature; only those that are not known yet."""
        missing = [name for name in jobs if self._key(name, base) not in self.times]
        found: dict[str, list[float]] = {name: [] for name in missing}
        for turn in range(TURNS):
            for k in range(0, len(missing), TOGETHER):
                progress((turn + k / len(missing)) / TURNS)
                names = missing[k : k + TOGETHER]
                times = timer.timed(base.model, [jobs[name] for name in names], self.watch)
                for name, time in zip(names, times, strict=True):
                    found[name].append(time)
            missing = [n for n in missing if turn == 0 or np.ptp(found[n]) > AGREE * max(found[n])]
        for name, times in found.items():
            self.times[self._key(name, base)] = float(np.median(times))
        return {name: self.times[self._key(name, base)] for name in jobs}

    def _key(self, name: str, base: SignedModel) -> str:
        return f"{name} / {base.signature}"

    def _stored(self) -> dict[str, float]:
        try:
            return _times(self.path.read_bytes())
        except OSError:
            return {}  # none yet

    def store(self) -> None:
        """Add to the file what was measured; where it cannot be written, it is measured again."""

        def added(content: bytes) -> bytes:
            times = {**_times(content), **self.times}
            plain = {name: None if np.isnan(value) else value for name, value in times.items()}
            text = json.dumps({"onnxprune": "latency", "machine": self.machine, "times": plain})
            return text.encode()

        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            update_file(self.path, added)


def _times(content: bytes) -> dict[str, float]:
    """Parse times by signature; none where the file is damaged."""
    try:
        times = json.loads(content)["times"]
        return {str(k): np.nan if v is None else float(v) for k, v in times.items()}
    except DAMAGED:
        return {}
