"""What calibrated pruning costs in passes of the samples through the original: for bench.py.

The unit is processor seconds of one pass of the calibration samples through the original in a plain
onnxruntime session, in the batches that onnxprune uses. Start-up, which is that of a model of a few
weights, is taken off; distillation is turned off.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_processes import ROOT, BenchError, check_smaller, run_fresh

__all__ = ["HEADER", "NOTE", "TITLE", "measured", "row_of"]

TITLE = "Calibration in passes, macs=0.5, without distillation"
HEADER = ("model", "samples", "pass s", "cpu s", "passes", "peak MB", "passes of stages")
NOTE = (
    "A pass is one run of all samples through the original, one thread. Random weights and noise, "
    "but YOLOv8n: nudenet 3.4.2 on photographs."
)
#: Kinds of models and numbers of samples.
CASES = (
    *(("resnet56", 1024), ("resnet50", 64), ("resnet50", 512), ("mobilenet_v2", 64)),
    *(("mobilenet_v2", 512), ("densenet", 1024), ("yolov8n", 64), ("vit", 16), ("bert", 16)),
)
#: Stages below this many passes are shown together.
SMALL = 0.1
PROCESS = [sys.executable, str(ROOT / "tools/bench_passes_process.py")]


def measured(only: str, limit: float) -> Iterator[dict[str, Any]]:
    """Numbers of each model, or why there are none.

    Args:
        only: regular expression for names such as `resnet50 64`.
        limit: seconds after which a run is stopped.
    """
    start_up: float | None = None
    for kind, samples in CASES:
        if not re.search(only, f"{kind} {samples}", re.IGNORECASE):
            continue
        about: dict[str, Any] = {"model": kind, "samples": samples}
        print(f"{kind} {samples} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            try:
                _process("build", kind, str(samples), name)
            except BenchError as reason:
                yield {**about, "skipped": str(reason)}
                continue
            try:
                if start_up is None:
                    start_up = _start_up(limit)
                yield {**about, **_row(folder, samples, start_up, limit)}
            except BenchError as error:
                yield {**about, "error": str(error)}


def _process(*words: str) -> str:
    """What a command of bench_passes_process.py prints."""
    done = subprocess.run([*PROCESS, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return done.stdout


def _start_up(limit: float) -> float:
    """Processor seconds of the command on a model of a few weights."""
    with tempfile.TemporaryDirectory() as name:
        _process("build", "trivial", "8", name)
        return float(min(_prune(Path(name), 8, limit)["cpu_seconds"] for _ in range(2)))


def _row(folder: Path, samples: int, start_up: float, limit: float) -> dict[str, Any]:
    """What pruning the model in a folder costs."""
    one = json.loads(_process("plain", str(folder)))
    found = _prune(folder, samples, limit)
    net = found["cpu_seconds"] - start_up
    return {**found, "pass": one, "start_up": start_up, "passes": net / one["seconds"]}


def _prune(folder: Path, samples: int, limit: float) -> dict[str, Any]:
    """Run the command on FOLDER/model.onnx."""
    source, output, times = (folder / name for name in ("model.onnx", "out.onnx", "times.json"))
    words = ["prune", str(source), str(output), "--calib", str(folder / "calib.npz")]
    words += ["--calib-samples", str(samples), "--target", "macs=0.5"]
    words += ["--no-latency", "--no-distill", "--quiet"]
    run = run_fresh([*PROCESS, "timed", str(times), "--", *words], limit)
    check_smaller(source, {"onnxprune": output})
    stages = json.loads(times.read_text())
    return {"cpu_seconds": run.cpu_seconds, "peak_bytes": run.peak_bytes, "stages": stages}


def row_of(values: dict[str, Any]) -> Sequence[str]:
    """One row of the table."""
    about = values["model"], str(values["samples"])
    for what in ("skipped", "error"):
        if what in values:
            return (*about, f"{what}: {values[what]}", "", "", "", "")
    unit = values["pass"]["seconds"]
    stages = {name: seconds / unit for name, seconds in values["stages"].items()}
    shown = [f"{name} {passes:.1f}" for name, passes in stages.items() if passes >= SMALL]
    return (
        *about,
        f"{unit:.2f}",
        f"{values['cpu_seconds']:.1f}",
        f"{values['passes']:.1f}",
        f"{values['peak_bytes'] / 1e6:.0f}",
        ", ".join(shown),
    )
