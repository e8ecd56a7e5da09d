"""Processes started fresh and measured from outside, and checks of what they wrote.

Nothing large is imported here: the kernel hands a process's own peak memory on to its children.
Needs `os.wait4` (Linux, macOS).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

__all__ = [
    "BARE_IMPORTS",
    "ROOT",
    "RSS_UNIT",
    "SECONDS",
    "BenchError",
    "Run",
    "check_smaller",
    "check_sparse",
    "count",
    "models_tool",
    "pruning",
    "run_fresh",
    "sparsifying",
    "take_turns",
]

ROOT = Path(__file__).resolve().parents[1]
#: A run that takes longer is stopped and reported as an error.
SECONDS = 900.0
BARE_IMPORTS = "import numpy, onnx, onnxruntime, click"
#: Bytes in a unit of `ru_maxrss`.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class BenchError(Exception):
    """A process failed, or its result is not what it should be."""


@dataclass(frozen=True)
class Run:
    """One process: wall and processor (user + system) seconds, peak resident bytes."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run_fresh(command: Sequence[str], limit: float = SECONDS) -> Run:
    """Run a command from the repository's root and measure it.

    Raises:
        BenchError: it fails, or takes longer than `limit` seconds.
    """
    # modules are compiled once, as installing them does
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile() as errors:
        start = perf_counter_ns()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=errors, cwd=ROOT, env=environment
        )
        timer = threading.Timer(limit, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = (perf_counter_ns() - start) / 1e9
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
            why = lines[-1][:200] if lines else "no message"
            raise BenchError(f"exit code {process.returncode} after {seconds:.1f} s: {why}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * RSS_UNIT)


def take_turns(
    commands: Sequence[Sequence[str]], outputs: Iterable[Path], runs: int
) -> list[list[Run]]:
    """Counted runs of each command, taken in turn after one that is not counted.

    The `outputs` are removed before each turn: replacing a file makes some file systems wait for
    the disk.
    """
    turns = []
    for _ in range(runs + 1):
        for output in outputs:
            output.unlink(missing_ok=True)
        turns.append([run_fresh(command) for command in commands])
    return [list(column) for column in zip(*turns[1:], strict=True)]


def pruning(source: Path, output: Path) -> list[str]:
    """The command that is measured."""
    options = ["--target", "macs=0.5", "--no-latency", "--quiet"]
    return [sys.executable, "-m", "onnxprune", "prune", str(source), str(output), *options]


def sparsifying(source: Path, output: Path) -> list[str]:
    """Half of all weights by magnitude, over all layers together."""
    options = ["--sparsity", "0.5", "--scope", "global", "--no-latency", "--quiet"]
    return [sys.executable, "-m", "onnxprune", "sparsify", str(source), str(output), *options]


def models_tool(*arguments: str | Path) -> str:
    """What bench_models.py prints, in a process of its own; BenchError if it fails."""
    command = [sys.executable, ROOT / "tools/bench_models.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return done.stdout


def count(file: Path) -> dict[str, int]:
    """Nodes and initializer elements of a file."""
    found: dict[str, int] = json.loads(models_tool("count", file))
    return found


def check_smaller(source: Path, outputs: dict[str, Path]) -> dict[str, int]:
    """Elements of all files by name; BenchError if an output is not smaller than the source."""
    elements = {"input": count(source)["elements"]}
    for name, output in outputs.items():
        elements[name] = count(output)["elements"]
        if elements[name] >= elements["input"]:
            raise BenchError(f"{name} removed nothing: {elements[name]} elements as before")
    return elements


def check_sparse(_source: Path, outputs: dict[str, Path]) -> None:
    """BenchError if more than half of an output's weights, and 0.1 %, are not zero."""
    for name, output in outputs.items():
        command = [
            sys.executable,
            "-m",
            "onnxprune",
            "inspect",
            str(output),
            "--sparsity",
            "--json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        density = json.loads(done.stdout)["density"] if not done.returncode else 1.0
        if density > 0.501:
            raise BenchError(f"{name} left {density:.3f} of the weights")
