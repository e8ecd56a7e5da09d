"""Commands of the line that write no model: they look into one, measure or compare."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from onnxprune import cli_options
from onnxprune.allocation.targets import parse_target
from onnxprune.errors import InputError
from onnxprune.groups.analysis import load
from onnxprune.importance.criteria import CRITERIA
from onnxprune.ops import BARRIERS, COUPLINGS
from onnxprune.ops.user_rules import read
from onnxprune.pipeline.bench import Benchmark
from onnxprune.pipeline.bench import bench as run_bench
from onnxprune.pipeline.check import check as run_check
from onnxprune.pipeline.check import gate
from onnxprune.pipeline.diff import diff as find_diff
from onnxprune.pipeline.sample_run import analyze_sized
from onnxprune.pipeline.saturation import seen_by_analysis
from onnxprune.pipeline.sensitivity_table import SensitivityTable, sensitivity_table
from onnxprune.pipeline.sweep import sweep as run_sweep
from onnxprune.progress import Bar
from onnxprune.report.inspection import inspect_values
from onnxprune.report.overview import overview
from onnxprune.report.sweep import Sweep
from onnxprune.settings import AUTO, Settings
from onnxprune.spatial.space import hints
from onnxprune.terminal.help import command
from onnxprune.terminal.show import show

__all__ = ["bench", "check", "diff", "inspect", "list_ops", "sensitivity", "sweep"]


@command(
    "inspect model.onnx",
    "inspect model.onnx --verbose --exclude '^head'",
)
@click.argument("model", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Every group with its weights, all blocked.")
@cli_options.input_shapes
@cli_options.exclude
@click.option(
    "--sparsity", "zeros", is_flag=True, help="Show zeros, their patterns, TensorRT's answer."
)
@cli_options.inexact
@cli_options.rules
@cli_options.custom_ops
@cli_options.errors
def inspect(model: str, **options: Any) -> None:
    """Show the groups of MODEL, their shares, and what blocks the other weights."""
    cli_options.register(options["custom_ops"])
    proto = load(model)
    shapes = cli_options.shapes(proto, options["input_shapes"])
    if options["zeros"]:
        from onnxprune.cli_sparsity import show_sparsity  # modules that nothing else here reads

        show_sparsity(proto, shapes, options["as_json"])
        return
    settings = Settings(
        input_shapes=shapes,
        exclude=options["exclude"],
        allow_inexact=options["allow_inexact"],
        rules=options["rules"],
    )
    analysis, _ = analyze_sized(proto, settings, must_run=False)
    values = inspect_values(analysis) | {"notes": [*seen_by_analysis(analysis), *hints(analysis)]}
    cli_options.warn(analysis.warnings)
    if options["as_json"]:
        click.echo(json.dumps(values, indent=1))
    else:
        show(overview(analysis, values, options["verbose"]))


@command(
    "sensitivity model.onnx --calib samples.npz",
    "sensitivity model.onnx --calib samples.npz --plot curves.png",
)
@click.argument("model", metavar="MODEL")
@cli_options.calibrating
@click.option("--json", "json_file", metavar="FILE", help="Write the table as JSON, - prints it.")
@click.option("--plot", "plot_file", metavar="FILE.png", help="Draw it (needs matplotlib).")
@cli_options.html
@click.option("--importance", default=AUTO, show_default=True, help=f"{', '.join(CRITERIA)}.")
@cli_options.input_shapes
@cli_options.exclude
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True)
@cli_options.inexact
@cli_options.rules
@cli_options.provider
@cli_options.errors
def sensitivity(model: str, **options: Any) -> None:
    """Measure how much the outputs of MODEL suffer when one group alone gets narrower."""
    files = {"--json": options["json_file"], "--plot": options["plot_file"]}
    files["--html"] = options["html_file"]
    files["--cache"] = options["cache"]
    written = [(name, option) for option, name in files.items() if name and name != "-"]
    read_files = (model, options["calib"], options["rules"])
    cli_options.free(written, {Path(f).resolve(): "the input itself" for f in read_files if f})
    with closing(Bar(quiet=options["json_file"] == "-")) as bar:
        given = cli_options.settings(model, options)
        found = sensitivity_table(model, **given, progress=bar)
    _show(found, options)


@command(
    "check model.onnx small.onnx --data test.npz",
    "check model.onnx small.onnx --max-drop 0.01 --max-latency-ratio 0.8",
)
@click.argument("original", metavar="ORIGINAL")
@click.argument("pruned", metavar="PRUNED")
@click.option(
    "--max-drop", "limit", type=float, help="Largest fall in top-1 (or agreement, or cosine)."
)
@click.option("--max-latency-ratio", type=float, help="Largest latency, as a share.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@cli_options.html
@cli_options.measuring
@cli_options.errors
def check(original: str, pruned: str, **options: Any) -> None:
    """Compare two models: outputs, accuracy, latency. Exit code 4 if a gate fails."""
    if options["max_latency_ratio"] is not None and options["no_latency"]:
        raise InputError("--max-latency-ratio needs the latency that --no-latency leaves out")
    written = [(options["html_file"], "--html")] if options["html_file"] else []
    taken = {Path(name).resolve(): "a model to compare" for name in (original, pruned)}
    cli_options.free(written, taken)
    with closing(Bar(quiet=options["as_json"])) as bar:
        given = cli_options.settings(original, options)
        result = run_check(original, pruned, progress=bar, **given)
    cli_options.warn(result.warnings)
    cli_options.write_page(result.values(), options)
    if options["as_json"]:
        click.echo(json.dumps(result.values(), indent=1))
    else:
        show(result.parts())
    gate(result, options["limit"], options["max_latency_ratio"])


@command(
    "diff model.onnx small.onnx",
    "diff model.onnx small.onnx --json",
)
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@click.option("-v", "--verbose", is_flag=True, help="Every row of long lists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@cli_options.errors
def diff(before: str, after: str, verbose: bool, as_json: bool) -> None:
    """Show what changed from BEFORE to AFTER, node by node. Exit code 1 if anything did."""
    found = find_diff(before, after)
    if as_json:
        click.echo(json.dumps(found.values(), indent=1))
    else:
        show(found.parts(verbose))
    if not found.equal:
        sys.exit(1)


@command(
    "bench model.onnx small.onnx",
    "bench model.onnx small.onnx --threads 4 --batch 8 --profile",
)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--profile", is_flag=True, help="Also what each operator takes.")
@click.option("--json", "json_file", metavar="FILE", help="Write the numbers as JSON, - prints it.")
@click.option("--plot", "plot_file", metavar="FILE.png", help="Draw it (needs matplotlib).")
@cli_options.html
@cli_options.machine
@cli_options.errors
def bench(models: tuple[str, ...], **options: Any) -> None:
    """Time models in turns: latency, throughput, memory."""
    files = {"--json": options["json_file"], "--plot": options["plot_file"]}
    files["--html"] = options["html_file"]
    written = [(name, option) for option, name in files.items() if name and name != "-"]
    cli_options.free(written, {Path(model).resolve(): "a model to time" for model in models})
    with closing(Bar(quiet=options["json_file"] == "-")) as bar:
        given = cli_options.settings(models[0], options)
        found = run_bench(models, profile=options["profile"], progress=bar, **given)
    _show(found, options)


@command(
    "sweep model.onnx --targets macs=0.8,macs=0.6 --calib samples.npz",
    "sweep model.onnx --targets macs=0.5+size=2MB --html sweep.html",
)
@click.argument("model", metavar="MODEL")
@click.option(
    "--targets",
    required=True,
    multiple=True,
    metavar="METRIC=AMOUNT,…",
    help="Targets with commas, macs=0.8,macs=0.6; those joined by + must hold together.",
)
@click.option("--out", metavar="FOLDER", help="Write the models there, one for each target.")
@click.option("--importance", default=AUTO, show_default=True, help=f"{', '.join(CRITERIA)}.")
@click.option("--scope", default="global", show_default=True, help="global or layer.")
@click.option("--round-to", default=AUTO, show_default=True, help="Widths are multiples of this.")
@cli_options.exclude
@cli_options.inexact
@cli_options.calibrating
@cli_options.evaluate
@cli_options.refitting
@cli_options.rules
@cli_options.measuring
@click.option("--json", "json_file", metavar="FILE", help="Write all reports, - prints them.")
@cli_options.html
@cli_options.errors
def sweep(model: str, **options: Any) -> None:
    """Prune MODEL to many targets from one calibration, and show them side by side."""
    files = {"--json": options["json_file"], "--html": options["html_file"]}
    files["--cache"] = options["cache"]
    written = [(name, option) for option, name in files.items() if name and name != "-"]
    names = (model, options["calib"], options["more"], options["data"], options["rules"])
    cli_options.free(written, {Path(f).resolve(): "the input itself" for f in names if f})
    texts = ",".join(options["targets"]).split(",")
    targets = [parse_target(text.replace("+", ",")) for text in texts]
    with closing(Bar(quiet=options["json_file"] == "-")) as bar:
        given = cli_options.settings(model, options)
        found = run_sweep(model, targets, out=options["out"], progress=bar, **given)
    _show(found, options)


def _show(found: SensitivityTable | Benchmark | Sweep, options: dict[str, Any]) -> None:
    """A table for people or as JSON, to files where they are named."""
    text = json.dumps(found.values(), indent=1) + "\n"
    cli_options.write_page(found.values(), options)
    if options["json_file"] not in (None, "-"):
        cli_options.write_text(options["json_file"], text)
    if options.get("plot_file") and not isinstance(found, Sweep):
        found.plot(options["plot_file"])
    if options["json_file"] == "-":
        click.echo(text, nl=False)
    else:
        show(found.parts())


@command(
    "ops",
    "ops --rules rules.toml",
    name="ops",
)
@cli_options.rules
@cli_options.errors
def list_ops(rules: str | None) -> None:
    """List the operators that have a rule, and those that stay frozen with the reason.

    Those of --rules come with their kind.
    """
    own = read(rules) if rules else {}
    for op in sorted(COUPLINGS.keys() | BARRIERS.keys() | own.keys()):
        if op in own:
            click.echo(f"{op}  {own[op].kind}, by {rules}")
        else:
            click.echo(f"{op}  frozen: {BARRIERS[op]}" if op in BARRIERS else op)
