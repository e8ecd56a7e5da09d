"""What several processes give: the same sensitivities in one process, in two, and on a cluster.

The cluster is Dask's on this machine, with workers that are processes of their own, one of which is
killed on the way. What a task costs by itself is that of one which does nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench_tables import Table
from bench_trained import load_cases

TASKS = 200
HEADER = ("how", "seconds", "of one process", "same result", "per empty task, ms")


@dataclass(frozen=True)
class Way:
    """A way to run tasks: its name, how many at once, and what surrounds the run."""

    name: str
    jobs: int
    around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext


def jobs_table(name: str, samples: int, workers: int) -> Iterator[Table]:
    """Measure the sensitivities of a trained model in every way that is to be had."""
    from onnxprune import sensitivity_table

    case = load_cases().load(name)
    rows: list[tuple[str, ...]] = []
    first: Any = None
    seconds = 0.0
    for way in _ways(workers):
        with way.around():
            each = _empty(way.jobs)
            start = time.perf_counter()
            table = sensitivity_table(
                case.model, calib=case.calib, calib_samples=samples, jobs=way.jobs
            )
            took = time.perf_counter() - start
        found = [s.errors.tolist() for s in table.sensitivities]
        first, seconds = first or found, seconds or took
        same = "yes" if found == first else "no"
        rows.append((way.name, f"{took:.1f}", f"{took / seconds:.2f}", same, each))
    yield Table(f"{name}, {samples} samples, {len(first)} groups", HEADER, rows)


def _ways(workers: int) -> list[Way]:
    ways = [Way("one process", 1), Way(f"{workers} processes", workers)]
    try:
        import distributed  # noqa: F401
    except ImportError:
        print("Dask is not installed: pip install 'onnxprune[dask]'")
        return ways
    return [
        *ways,
        Way(f"Dask, {workers} worker processes", workers, lambda: _dask(workers, False)),
        Way(f"Dask, {workers}, one is killed", workers, lambda: _dask(workers, True)),
    ]


@contextlib.contextmanager
def _dask(workers: int, kills: bool) -> Iterator[None]:
    """A cluster on this machine as joblib's backend; with `kills` its first worker soon dies."""
    import joblib
    from distributed import Client, LocalCluster

    with (
        LocalCluster(workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        joblib.parallel_config("dask"),
    ):
        client.wait_for_workers(workers)
        victim = next(iter(client.run(os.getpid).values()))
        killer = threading.Timer(5.0, os.kill, (victim, signal.SIGKILL))
        if kills:
            killer.start()
        try:
            yield
        finally:
            killer.cancel()


def _empty(jobs: int) -> str:
    """Milliseconds that a task takes which does nothing, once the workers are there."""
    from onnxprune.parallel.tasks import run_tasks

    if jobs == 1:
        return ""
    run_tasks(abs, ((k,) for k in range(2 * jobs)), jobs)
    start = time.perf_counter()
    run_tasks(abs, ((k,) for k in range(TASKS)), jobs)
    return f"{(time.perf_counter() - start) * 1e3 / TASKS:.1f}"
