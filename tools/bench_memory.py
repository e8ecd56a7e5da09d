"""What large models cost in memory: tables of `bench.py`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

import click
from bench_processes import (
    BARE_IMPORTS,
    SECONDS,
    BenchError,
    check_smaller,
    check_sparse,
    models_tool,
    pruning,
    run_fresh,
    sparsifying,
    take_turns,
)
from bench_tables import Table, megabytes, spread

LARGE_HEADER = (
    *("options", "weights GB", "written GB", "seconds", "cpu s", "peak MB", "imports MB"),
    "peak/weights",
)
CALIBRATION_HEADER = ("samples", "million weights", "seconds", "cpu s", "peak MB")


def large(gigabytes: float, folder: str | None, runs: int) -> Table:
    """Models pruned and made sparse whose weights lie in an external file."""
    notes = [f"Median (min..max) of {runs} runs each; peak is the largest of them."]
    table = Table("Weights in an external file", LARGE_HEADER, notes=notes)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        source, output = Path(name) / "large.onnx", Path(name) / "out.onnx"
        free, needed = shutil.disk_usage(name).free, 3 * gigabytes * 1e9
        if free < needed:
            raise click.ClickException(f"{name}: {free / 1e9:.1f} GB free of {needed / 1e9:.1f}")
        print(f"building {gigabytes} GB ...", file=sys.stderr)
        models_tool("build", "large", source, "--gigabytes", str(gigabytes))
        prune = pruning(source, output)
        for title, command, check in (
            ("macs=0.5", prune, check_smaller),
            ("macs=0.5 --lossless", [*prune, "--lossless"], check_smaller),
            ("sparsify 0.5", sparsifying(source, output), check_sparse),
        ):
            print(f"{title} ...", file=sys.stderr)
            try:
                _add_large(table, title, command, runs)
                check(source, {"onnxprune": output})
            except BenchError as error:
                table.fail(title, error)
    return table


def _add_large(table: Table, title: str, command: Sequence[str], runs: int) -> None:
    """One row: a command that ends in a proved model with a data file."""
    source, output = (Path(word) for word in command[4:6])
    imports, found = take_turns(
        [[sys.executable, "-c", BARE_IMPORTS], command], [output, Path(f"{output}.data")], runs
    )
    weights = Path(f"{source}.weights").stat().st_size
    written = Path(f"{output}.data").stat().st_size
    peak = max(run.peak_bytes for run in found)
    sizes = {"weights_bytes": weights, "written_bytes": written, "peak_bytes": peak}
    columns = {"imports": imports, "onnxprune": found}
    runs_of = {name: [asdict(run) for run in column] for name, column in columns.items()}
    table.values.append({"options": title, **sizes, "ratio": peak / weights, "runs": runs_of})
    table.rows.append(
        (
            title,
            f"{weights / 1e9:.2f}",
            f"{written / 1e9:.2f}",
            spread([run.seconds for run in found]),
            f"{median([run.cpu_seconds for run in found]):.1f}",
            megabytes(peak),
            megabytes(median([run.peak_bytes for run in imports])),
            f"{peak / weights:.2f}",
        )
    )


def calibrated(layers: int, samples: str, metric: str) -> Table:
    """A transformer with random weights pruned on calibration data."""
    table = Table(f"Transformer of {layers} layers, calibrated", CALIBRATION_HEADER)
    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name) / "transformer.onnx", Path(name) / "out.onnx"
        models_tool("build", "transformer", source, "--layers", str(layers))
        weights = source.stat().st_size
        for number in samples.split(","):
            options = ["--calib", "random", "--calib-samples", number, "--target", metric]
            command = [sys.executable, "-m", "onnxprune", "prune", str(source), str(output)]
            print(f"{number} samples ...", file=sys.stderr)
            try:
                run = run_fresh([*command, *options, "--no-latency", "--quiet"], 4 * SECONDS)
                check_smaller(source, {"onnxprune": output})
            except BenchError as error:
                table.fail(number, error)
                continue
            table.values.append({"samples": int(number), "weights_bytes": weights, **asdict(run)})
            times = (f"{run.seconds:.0f}", f"{run.cpu_seconds:.0f}")
            table.rows.append((number, f"{weights / 4e6:.0f}", *times, megabytes(run.peak_bytes)))
    return table
