"""Time models in a process of its own, as a device or a cloud would: `--timer second-process`.

The process runs this file. It says first what times depend on there; then it reads a folder of
models and inputs from each line, and answers with the seconds of their runs in turns.
"""

from __future__ import annotations

import functools
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

#: What starts the process: in its place may stand `ssh board python timer.py`, with shared folders.
COMMAND = [sys.executable, __file__]
LEAST_RUNS = 11


def second_process(
    models: Sequence[bytes | str], inputs: Sequence[Mapping[str, Any]], seconds: float
) -> list[list[float] | None]:
    """Time models elsewhere.

    Args:
        models: serialised; one with more than 2 GiB of weights as the path of its file.
        inputs: for each model what to feed it, by name.
        seconds: about how long it may take.

    Returns:
        For each model the seconds of single runs, equally many for all; None if it does not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, (model, feeds) in enumerate(zip(models, inputs, strict=True)):
            path = Path(folder, f"{number}.onnx") if isinstance(model, bytes) else Path(model)
            if isinstance(model, bytes):
                path.write_bytes(model)
            np.savez(Path(folder, f"{number}.npz"), **feeds)
            paths.append(str(path))
        return _asked(_process(), {"folder": folder, "models": paths, "seconds": seconds})


second_process.identity = lambda: _process().identity


@functools.cache
def _process() -> Any:
    """Start the process; it ends with this one, when there is nothing more to read."""
    process = subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    process.identity = json.loads(process.stdout.readline())
    return process


def _asked(process: Any, question: Mapping[str, Any]) -> Any:
    _told(process.stdin, question)
    return json.loads(process.stdout.readline())


def _told(stream: Any, content: Any) -> None:
    stream.write(json.dumps(content) + "\n")
    stream.flush()


def opened(path: str, feeds: Mapping[str, Any]) -> Callable[[], float]:
    """Open a model on one thread: a function that runs it and gives the seconds that it took."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def seconds() -> float:
        begin = time.perf_counter()
        session.run(None, feeds)
        return time.perf_counter() - begin

    seconds()
    return seconds


def _times(folder: str, models: Sequence[str], seconds: float) -> list[list[float] | None]:
    """Time models in turns."""
    runs: dict[int, Callable[[], float]] = {}
    for number, path in enumerate(models):
        try:
            runs[number] = opened(path, dict(np.load(Path(folder, f"{number}.npz"))))
        except Exception as error:  # the other models are timed without it
            sys.stderr.write(f"{path}: {error}\n")
    times: dict[int, list[float]] = {number: [] for number in runs}
    while runs and (len(times[min(runs)]) < LEAST_RUNS or sum(map(sum, times.values())) < seconds):
        for number, run in runs.items():
            times[number].append(run())
    return [times.get(number) for number in range(len(models))]


def serve() -> None:
    """Answer questions until there are no more."""
    cpu = platform.processor() or platform.machine()
    _told(sys.stdout, f"onnxruntime {onnxruntime.__version__}, 1 thread of {cpu}")
    for line in sys.stdin:
        _told(sys.stdout, _times(**json.loads(line)))


if __name__ == "__main__":
    serve()
