"""Whether a latency target gives the same model again: several runs on a machine kept busy."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from typing import Any
from unittest import mock

import onnx
from bench_trained import first, load_cases, percent, session_of

import onnxprune
from onnxprune.allocation.latency import timer
from onnxprune.ir.stopwatch import Stopwatch

__all__ = ["HEADER", "repeated", "row_of"]

HEADER = ("run", "widths", "latency", "top-1")


def repeated(name: str, share: float, runs: int, busy: int) -> Iterator[dict[str, Any]]:
    """One row for each run; all models are timed in the end, when the machine is quiet again."""
    case = load_cases().load(name)
    results = []
    with _load(busy):
        for _ in range(runs):
            with _no_times_known():
                results.append(onnxprune.prune(case.model, {"latency": share}, calib=case.calib))
    dense, one = onnx.load(case.model).SerializeToString(), first(case)
    for result in results:
        model = result.model.SerializeToString()
        yield {
            "widths": [group["kept"] for group in result.report.groups],
            "latency": timer.ratio(dense, model, one, Stopwatch()),
            "top1": case.top1(session_of(result.model)),
        }


def row_of(number: int, values: dict[str, Any]) -> tuple[str, ...]:
    """The numbers as cells under `HEADER`."""
    widths = " ".join(map(str, values["widths"]))
    return str(number), widths, f"{values['latency']:.3f}", percent(values["top1"])


@contextlib.contextmanager
def _load(count: int) -> Iterator[None]:
    """So many processes that do nothing but compute."""
    processes = [multiprocessing.Process(target=_spin, daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _spin() -> None:
    number = 1
    while True:
        number = number * 3 % 1000003


@contextlib.contextmanager
def _no_times_known() -> Iterator[None]:
    """Times are measured anew."""
    folder = tempfile.TemporaryDirectory()
    with folder, mock.patch.dict(os.environ, XDG_CACHE_HOME=folder.name):
        yield
