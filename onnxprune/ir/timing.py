"""Paired timings of sessions, and what single operators take."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.ir.runtime import CPU, Device, Feeds, Session, open_session, run
from onnxprune.temporary_files import TemporaryFolder

__all__ = [
    "LEAST_RUNS",
    "QUANTILES",
    "Latency",
    "Spent",
    "clock_of",
    "interleaved",
    "latency_of",
    "profiled",
]


#: Timed runs of each session, unless they take ten times as long as planned.
LEAST_RUNS = 11
#: How many numbers tell how single runs are distributed; odd, so that the median is among them.
QUANTILES = 41


@dataclass(frozen=True)
class Latency:
    """Milliseconds of single runs: median and the 10th and 90th percentile.

    `quantiles_ms` say how they are distributed: `QUANTILES` of them, evenly from the least to the
    most; none where that is not known.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    quantiles_ms: tuple[float, ...] = ()


def interleaved(
    runs: Sequence[tuple[Session, Feeds]],
    seconds: float,
    progress: Callable[[float], None] = lambda _share: None,
    clock: Callable[[], int] = perf_counter_ns,
) -> NDArray[np.float64]:
    """(rounds, sessions) milliseconds of sessions that take turns, on a clock of nanoseconds.

    Their order changes from round to round: what runs before leaves its traces in caches.
    """
    rng = np.random.default_rng(0)
    names = [[output.name for output in session.get_outputs()] for session, _ in runs]
    for session, feeds in runs:
        for _ in range(2):
            run(session, feeds)
    taken = [(session, names[k], dict(feeds)) for k, (session, feeds) in enumerate(runs)]
    rounds: list[list[int]] = []
    start = perf_counter_ns()
    spent = 0.0
    while (len(rounds) < LEAST_RUNS or spent < seconds) and spent < 10 * seconds:
        times = [0] * len(taken)
        for k in rng.permutation(len(taken)).tolist():
            session, outputs, feeds = taken[k]
            begin = clock()
            session.run(outputs, feeds)
            times[k] = clock() - begin
        rounds.append(times)
        spent = (perf_counter_ns() - start) / 1e9
        progress(min(spent / seconds, 1.0))
    return np.array(rounds, np.float64).reshape(-1, len(runs)) / 1e6


class Spent(NamedTuple):
    """What an operator of the optimised graph takes, in milliseconds: median over the runs."""

    name: str
    op: str
    provider: str
    ms: float


def profiled(model: str, feeds: Feeds, device: Device, runs: int = 20) -> list[Spent]:
    """What each operator takes, as onnxruntime's profiler tells it, in the order they run in."""
    with TemporaryFolder() as folder:
        session = open_session(model, device, profile=str(Path(folder, "profile")))
        for _ in range(runs):
            run(session, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[str, list[float]] = {}
    kinds: dict[str, tuple[str, str]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            args = event.get("args", {})
            kinds[name] = args.get("op_name", "?"), args.get("provider", "?")
            times.setdefault(name, []).append(event["dur"] / 1e3)
    return [Spent(name, *kinds[name], float(np.median(ms))) for name, ms in times.items()]


def clock_of(device: Device) -> Callable[[], int]:
    """What a run costs wherever others compete for the processor.

    On one thread of the processor that is the thread's own time, without what others take in
    between; elsewhere it is the time on the wall.
    """
    alone = device.threads == 1 and device.resolve() == CPU
    return thread_time_ns if alone else perf_counter_ns


def latency_of(ms: NDArray[np.float64]) -> Latency:
    """What single runs took, in milliseconds, as their median and percentiles."""
    p10, median, p90 = np.percentile(ms, [10, 50, 90])
    every = np.percentile(ms, np.linspace(0, 100, QUANTILES)).round(6)
    return Latency(float(median), float(p10), float(p90), len(ms), tuple(every.tolist()))
