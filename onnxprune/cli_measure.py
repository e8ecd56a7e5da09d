"""Commands of the line that write no model: they look into one, measure or compare."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from onnxprune import cli_options
from onnxprune.errors import InputError
from onnxprune.groups.analysis import load
from onnxprune.importance.criteria import CRITERIA
from onnxprune.ops import BARRIERS, COUPLINGS
from onnxprune.ops.user_rules import read
from onnxprune.pipeline.bench import Benchmark
from onnxprune.pipeline.bench import bench as run_bench
from onnxprune.pipeline.check import check as run_check
from onnxprune.pipeline.check import gate
from onnxprune.pipeline.sample_run import analyze_sized
from onnxprune.pipeline.saturation import seen_by_analysis
from onnxprune.pipeline.sensitivity_table import SensitivityTable, sensitivity_table
from onnxprune.progress import Bar
from onnxprune.report.inspection import inspect_text, inspect_values
from onnxprune.settings import AUTO, Settings
from onnxprune.spatial.space import hints

__all__ = ["bench", "check", "inspect", "list_ops", "sensitivity"]


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--input-shape", "input_shapes", multiple=True, metavar="NAME:SIZES")
@cli_options.exclude
@click.option("--sparsity", is_flag=True, help="Show zeros, their patterns, TensorRT's answer.")
@cli_options.inexact
@cli_options.rules
@cli_options.custom_ops
@cli_options.errors
def inspect(model: str, **options: Any) -> None:
    """Show the groups of MODEL, their shares, and what blocks the other weights."""
    cli_options.register(options["custom_ops"])
    proto = load(model)
    shapes = cli_options.shapes(proto, options["input_shapes"])
    if options["sparsity"]:
        from onnxprune.cli_sparsity import sparsity_of  # modules that nothing else here reads

        click.echo(sparsity_of(proto, shapes, options["as_json"]))
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
    click.echo(json.dumps(values, indent=1) if options["as_json"] else inspect_text(values))


@click.command()
@click.argument("model", metavar="MODEL")
@cli_options.calibrating
@click.option("--json", "json_file", metavar="FILE", help="Write the table as JSON, - prints it.")
@click.option("--plot", "plot_file", metavar="FILE.png", help="Draw it (needs matplotlib).")
@click.option("--importance", default=AUTO, show_default=True, help=f"{', '.join(CRITERIA)}.")
@click.option("--input-shape", "input_shapes", multiple=True, metavar="NAME:SIZES")
@cli_options.exclude
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True)
@cli_options.inexact
@cli_options.rules
@cli_options.provider
@cli_options.errors
def sensitivity(model: str, **options: Any) -> None:
    """Measure how much the outputs of MODEL suffer when one group alone gets narrower."""
    files = {"--json": options["json_file"], "--plot": options["plot_file"]}
    files["--cache"] = options["cache"]
    written = [(name, option) for option, name in files.items() if name and name != "-"]
    read_files = (model, options["calib"], options["rules"])
    cli_options.free(written, {Path(f).resolve(): "the input itself" for f in read_files if f})
    with closing(Bar(quiet=options["json_file"] == "-")) as bar:
        given = cli_options.settings(model, options)
        found = sensitivity_table(model, **given, progress=bar)
    _show(found, options)


@click.command()
@click.argument("original", metavar="ORIGINAL")
@click.argument("pruned", metavar="PRUNED")
@click.option(
    "--max-drop", "limit", type=float, help="Largest fall in top-1 (or agreement, or cosine)."
)
@click.option("--max-latency-ratio", type=float, help="Largest latency, as a share.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@cli_options.measuring
@cli_options.errors
def check(original: str, pruned: str, **options: Any) -> None:
    """Compare two models: outputs, accuracy, latency. Exit code 4 if a gate fails."""
    if options["max_latency_ratio"] is not None and options["no_latency"]:
        raise InputError("--max-latency-ratio needs the latency that --no-latency leaves out")
    with closing(Bar(quiet=options["as_json"])) as bar:
        given = cli_options.settings(original, options)
        result = run_check(original, pruned, progress=bar, **given)
    cli_options.warn(result.warnings)
    click.echo(json.dumps(result.values(), indent=1) if options["as_json"] else result.text())
    gate(result, options["limit"], options["max_latency_ratio"])


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--profile", is_flag=True, help="Also what each operator takes.")
@click.option("--json", "json_file", metavar="FILE", help="Write the numbers as JSON, - prints it.")
@click.option("--plot", "plot_file", metavar="FILE.png", help="Draw it (needs matplotlib).")
@cli_options.machine
@cli_options.errors
def bench(models: tuple[str, ...], **options: Any) -> None:
    """Time models in turns: latency, throughput, memory."""
    files = {"--json": options["json_file"], "--plot": options["plot_file"]}
    written = [(name, option) for option, name in files.items() if name and name != "-"]
    cli_options.free(written, {Path(model).resolve(): "a model to time" for model in models})
    with closing(Bar(quiet=options["json_file"] == "-")) as bar:
        given = cli_options.settings(models[0], options)
        found = run_bench(models, profile=options["profile"], progress=bar, **given)
    _show(found, options)


def _show(found: SensitivityTable | Benchmark, options: dict[str, Any]) -> None:
    """A table for people or as JSON, to files where they are named."""
    text = json.dumps(found.values(), indent=1) + "\n"
    if options["json_file"] not in (None, "-"):
        cli_options.write_text(options["json_file"], text)
    if options["plot_file"]:
        found.plot(options["plot_file"])
    click.echo(text if options["json_file"] == "-" else found.text() + "\n", nl=False)


@click.command(name="ops")
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
