"""Times of runs: in turns, on a clock of choice, and of single operators."""

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns, sleep, thread_time_ns

import numpy as np
import onnx
import pytest
from networks import NETWORKS, samples_of

from onnxprune.ir import graph, runtime, timing
from onnxprune.ir.runtime import Device

MODEL = NETWORKS["pooled_classifier"]()
FEEDS = {name: array[:1] for name, array in samples_of(MODEL, np.random.default_rng(0)).items()}


def session() -> runtime.Session:
    return runtime.open_session(graph.model_bytes(MODEL), Device())


def test_a_latency_is_the_median_of_its_runs() -> None:
    found = timing.latency_of(np.array([5.0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]))
    every = tuple(np.linspace(1, 11, timing.QUANTILES).tolist())
    assert found == timing.Latency(6.0, p10_ms=2.0, p90_ms=10.0, runs=11, quantiles_ms=every)


def test_each_session_runs_once_a_round_on_the_clock_that_is_given() -> None:
    """A clock that goes on by 3 ms each time it is read: every run takes 3 ms."""

    def ticks() -> Iterator[int]:
        yield from range(0, 10**12, 3_000_000)

    clock, told = ticks(), list[float]()
    runs = [(session(), FEEDS), (session(), FEEDS)]
    times = timing.interleaved(runs, 0.1, told.append, clock=lambda: next(clock))
    assert times.shape == (len(told), 2) and len(told) >= timing.LEAST_RUNS
    assert (times == 3.0).all()
    assert told == sorted(told) and told[-1] == 1.0


class Slow:
    """A session whose runs take 10 ms."""

    def get_outputs(self) -> list[object]:
        return []

    def run(self, names: list[str], feeds: runtime.Feeds) -> list[object]:
        sleep(0.01)
        return []


def test_slow_sessions_run_a_few_times_whatever_the_time_planned() -> None:
    """Up to ten times as long: of two such sessions at most 10 rounds in 20 ms."""
    assert len(timing.interleaved([(Slow(), {})], 0.05)) == timing.LEAST_RUNS
    assert len(timing.interleaved([(Slow(), {})] * 2, 0.02)) < timing.LEAST_RUNS


@pytest.mark.parametrize(("threads", "clock"), [(1, thread_time_ns), (2, perf_counter_ns)])
def test_one_thread_is_timed_without_what_others_take(threads: int, clock: object) -> None:
    assert timing.clock_of(Device(threads=threads)) is clock


def test_operators_are_listed_in_the_order_they_run_in(tmp_path: Path) -> None:
    path = str(tmp_path / "m.onnx")
    onnx.save(MODEL, path)
    found = timing.profiled(path, FEEDS, Device(), runs=3)
    kinds = [spent.op for spent in found]
    assert kinds.index("Gemm") == len(kinds) - 1 and any("Conv" in kind for kind in kinds)
    assert all(spent.ms > 0 and spent.provider == runtime.CPU for spent in found)
