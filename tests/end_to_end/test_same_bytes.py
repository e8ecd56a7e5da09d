"""Same inputs, settings and versions: same bytes, whatever the number of threads.

`python tools/same_results.py repeat` runs many more cases, and under load.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import onnxruntime
import pytest
from paths import ROOT
from threadpoolctl import threadpool_limits

import onnxprune
from onnxprune.ir import graph

DIGITS, CALIB = ROOT / "models" / "digits.onnx", ROOT / "models" / "digits_calib.npz"
GIVEN: dict[str, Any] = {"calib": CALIB, "calib_samples": 96, "latency": False}


def pruned() -> tuple[bytes, str]:
    result = onnxprune.prune(DIGITS, {"macs": 0.6}, distill=1, **GIVEN)
    return graph.model_bytes(result.model), result.plan_json


def sparsified() -> tuple[bytes, str]:
    result = onnxprune.sparsify(DIGITS, pattern="2:4", distill=False, **GIVEN)
    return graph.model_bytes(result.stored), ""


def without_samples() -> tuple[bytes, str]:
    result = onnxprune.prune(DIGITS, {"macs": 0.6}, latency=False)
    return graph.model_bytes(result.model), result.plan_json


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """So many for numpy, and for onnxruntime where nothing else is said."""

    class Options(onnxruntime.SessionOptions):  # type: ignore[misc]
        def __setattr__(self, name: str, value: object) -> None:
            told = name == "intra_op_num_threads" and value == 0
            super().__setattr__(name, count if told else value)

    with pytest.MonkeyPatch.context() as patch, threadpool_limits(count, user_api="blas"):
        patch.setattr(onnxruntime, "SessionOptions", Options)
        yield


@pytest.mark.parametrize("work", [pruned, sparsified, without_samples])
def test_threads_change_nothing(work: Callable[[], tuple[bytes, str]]):
    found = []
    for count in (1, 2):
        with threads(count):
            found.append(work())
    assert found[1:] == found[:-1]
