"""The command line: options in, errors as exit codes out; no logic."""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from onnxprune import external, graph, saving
from onnxprune.checking import check as run_check
from onnxprune.checking import gate
from onnxprune.errors import InputError, OnnxpruneError
from onnxprune.importance import CRITERIA
from onnxprune.ops import BARRIERS, COUPLINGS
from onnxprune.pipeline import Result
from onnxprune.pipeline import apply as run_apply
from onnxprune.pipeline import prune as run_prune
from onnxprune.progress import Bar
from onnxprune.report import inspect_text, inspect_values
from onnxprune.runtime import Device, custom_ops
from onnxprune.survey import load, survey
from onnxprune.targets import parse_ratio, parse_shape, parse_target
from onnxprune.userrules import merged, read

__all__ = ["main"]

F = TypeVar("F", bound=Callable[..., Any])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="onnxprune")
def main() -> None:
    """Make exported ONNX models smaller and faster by removing channels.

    Exit codes: 0 done, 1 proof failed, 2 input or option unusable, 3 target out of reach,
    4 gate failed.
    """
    gc.set_threshold(100_000)  # one short job whose garbage has no cycles: 5 % of its time


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    return lambda function: functools.reduce(lambda f, o: o(f), reversed(options), function)


_rules = click.option(
    "--rules", metavar="FILE", help="What operators of your own do to axes (.toml), see README."
)
_custom_ops = click.option(
    "--custom-ops",
    multiple=True,
    metavar="LIBRARY",
    help="Shared library with operators that onnxruntime lacks.",
)
_measuring = _options(
    _custom_ops,
    click.option("--data", metavar="FILE", help="Samples (.npz by input name, and labels)."),
    click.option("--provider", default="cpu", show_default=True, help="onnxruntime provider."),
    click.option("--threads", default=1, show_default=True, help="Threads for latency, 0: all."),
    click.option("--batch", default=1, show_default=True, help="Samples per timed run."),
    click.option("--no-latency", is_flag=True, help="Do not measure latency."),
    click.option(
        "--input-shape",
        "input_shapes",
        multiple=True,
        metavar="NAME:SIZES",
        help="Sample sizes of an input, such as image:1,3,224,224. Never frozen into the model.",
    ),
    click.option(
        "--seed",
        default=0,
        type=click.IntRange(0),
        show_default=True,
        help="For inputs and random scores.",
    ),
)
_inexact = click.option(
    "--allow-inexact",
    is_flag=True,
    help="Also cut where a normalisation then computes other statistics.",
)
_writing = _options(
    click.option("--plan", "plan_file", metavar="FILE", help="Write what was kept, as JSON."),
    click.option("--report", "report_file", metavar="FILE", help="Write the report, - prints it."),
    click.option("--external-data", is_flag=True, help="Write weights to OUTPUT.data."),
    click.option("--dry-run", is_flag=True, help="Write plan and report only."),
    click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors."),
)


def _errors(function: F) -> F:
    """One line on standard error and the exit code of the error."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except OnnxpruneError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)

    return wrapped  # type: ignore[return-value]


@main.command()
@click.argument("model", metavar="INPUT")
@click.argument("output", metavar="OUTPUT")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="METRIC=AMOUNT",
    help="macs, params, size or ratio: a share (0.5, 50%) or an amount (120M, 2MB). Repeatable.",
)
@click.option("--importance", default="l2", show_default=True, help=f"{', '.join(CRITERIA)}.")
@click.option("--scope", default="global", show_default=True, help="global or layer.")
@click.option("--min-channels", default=1, show_default=True, help="Fewest channels of a group.")
@click.option("--round-to", default=1, show_default=True, help="Widths are multiples of this.")
@click.option("--exclude", multiple=True, metavar="REGEX", help="Nodes or weights to leave alone.")
@click.option(
    "--layer-ratio", "ratios", multiple=True, metavar="REGEX=SHARE", help="Share a group keeps."
)
@_inexact
@click.option("--lossless", is_flag=True, help="Remove what provably contributes nothing.")
@click.option("--no-compensate", is_flag=True, help="Keep every kept weight bit-identical.")
@_rules
@_measuring
@_writing
@_errors
def prune(model: str, output: str, **options: Any) -> None:
    """Remove the least important channels of INPUT and write OUTPUT."""
    destination = _destination(output, options, model)
    target = parse_target(",".join(options["targets"])) if options["targets"] else {}
    bar = Bar(quiet=options["quiet"])
    try:
        result = run_prune(
            model,
            target,
            importance=options["importance"],
            scope=options["scope"],
            min_channels=options["min_channels"],
            round_to=options["round_to"],
            exclude=options["exclude"],
            rules=options["rules"],
            layer_ratio=dict(parse_ratio(text) for text in options["ratios"]),
            allow_inexact=options["allow_inexact"],
            lossless=options["lossless"],
            compensate=not options["no_compensate"],
            progress=bar,
            scratch=destination.parent,
            **_measure(model, options),
        )
    finally:
        bar.close()
    _write(result, destination, options)


@main.command()
@click.argument("model", metavar="INPUT")
@click.argument("plan", metavar="PLAN")
@click.argument("output", metavar="OUTPUT")
@_inexact
@_rules
@_measuring
@_writing
@_errors
def apply(model: str, plan: str, output: str, **options: Any) -> None:
    """Replay PLAN, written by prune, on INPUT: the same model or another checkpoint of it."""
    destination = _destination(output, options, model, plan)
    bar = Bar(quiet=options["quiet"])
    try:
        result = run_apply(
            model,
            plan,
            allow_inexact=options["allow_inexact"],
            rules=options["rules"],
            progress=bar,
            scratch=destination.parent,
            **_measure(model, options),
        )
    finally:
        bar.close()
    _write(result, destination, options)


@main.command()
@click.argument("model", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--input-shape", "input_shapes", multiple=True, metavar="NAME:SIZES")
@click.option("--exclude", multiple=True, metavar="REGEX", help="Nodes or weights to leave alone.")
@_inexact
@_rules
@_custom_ops
@_errors
def inspect(model: str, **options: Any) -> None:
    """Show the groups of MODEL, their shares, and what blocks the other weights."""
    _register(options["custom_ops"])
    rules, proto = merged(options["rules"]), load(model)
    shapes = _shapes(proto, options["input_shapes"])
    found = survey(proto, shapes, options["exclude"], options["allow_inexact"], rules)
    values = inspect_values(found)
    _warn(found.warnings)
    click.echo(json.dumps(values, indent=1) if options["as_json"] else inspect_text(values))


@main.command()
@click.argument("original", metavar="ORIGINAL")
@click.argument("pruned", metavar="PRUNED")
@click.option("--max-drop", type=float, help="Largest fall in top-1 (or agreement, or cosine).")
@click.option("--max-latency-ratio", type=float, help="Largest latency, as a share.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_measuring
@_errors
def check(original: str, pruned: str, **options: Any) -> None:
    """Compare two models: outputs, accuracy, latency. Exit code 4 if a gate fails."""
    if options["max_latency_ratio"] is not None and options["no_latency"]:
        raise InputError("--max-latency-ratio needs the latency that --no-latency leaves out")
    bar = Bar(quiet=options["as_json"])
    try:
        result = run_check(original, pruned, progress=bar, **_measure(original, options))
    finally:
        bar.close()
    _warn(result.warnings)
    click.echo(json.dumps(result.values(), indent=1) if options["as_json"] else result.text())
    gate(result, options["max_drop"], options["max_latency_ratio"])


@main.command(name="ops")
@_rules
@_errors
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


def _measure(model: str, options: dict[str, Any]) -> dict[str, Any]:
    _register(options["custom_ops"])
    device = Device(options["provider"], options["threads"])
    device.resolve()
    shapes = options["input_shapes"]
    if options["batch"] < 1 or options["threads"] < 0:
        raise InputError("--batch must be at least 1 and --threads at least 0")
    return {
        "data": options["data"],
        "device": device,
        "batch": options["batch"],
        "latency": not options["no_latency"],
        "input_shapes": _shapes(load(model), shapes) if shapes else None,
        "seed": options["seed"],
    }


def _register(libraries: Sequence[str]) -> None:
    for library in libraries:
        custom_ops(library)


def _shapes(model: Any, texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    names = [value.name for value in graph.graph_inputs(model)]
    return dict(parse_shape(text, names) for text in texts)


def _destination(output: str, options: dict[str, Any], *inputs: str) -> Path:
    """The output's path; whatever cannot be written is refused before any work is done."""
    files = {"--plan": options["plan_file"], "--report": options["report_file"]}
    written = [(output, "OUTPUT")]
    written += [(name, option) for option, name in files.items() if name and name != "-"]
    taken = {
        Path(name).resolve(): "the input itself"
        for name in (*inputs, options["data"], options["rules"])
        if name
    }
    for name, what in written:
        path = Path(name)
        if path.resolve() in taken:
            raise InputError(f"{name}: is {taken[path.resolve()]}. Choose another file.")
        taken[path.resolve()] = f"{what} already"
        if path.is_dir():
            raise InputError(f"{name}: is a folder. Name the file to write.")
        if not path.parent.is_dir():
            raise InputError(f"{name}: the folder {path.parent} does not exist. Create it first.")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"{name}: the folder {path.parent} cannot be written to.")
    _keeps_data(Path(output), inputs[0], taken)
    return Path(output)


def _keeps_data(output: Path, model: str, taken: dict[Path, str]) -> None:
    """Refuse an output whose data file is one of the files that are read."""
    data = saving.data_path(output)
    if data.resolve() in taken:
        raise InputError(f"{output}: its data file {data} is {taken[data.resolve()]}")
    if data.exists() and any(os.path.samefile(data, f) for f in external.data_files(load(model))):
        raise InputError(f"{output}: would replace {data}, where weights of {model} lie.")


def _warn(warnings: Sequence[str]) -> None:
    """What may be wrong with the input, one line each on standard error."""
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)


def _write(result: Result, destination: Path, options: dict[str, Any]) -> None:
    """The model last: if anything else fails to be written, it is not replaced."""
    text = json.dumps(result.report.values(), indent=1) + "\n"
    if options["plan_file"]:
        _write_text(options["plan_file"], result.plan_json)
    if options["report_file"] == "-":
        click.echo(text, nl=False)
    elif options["report_file"]:
        _write_text(options["report_file"], text)
    files = []
    if not options["dry_run"]:
        files = result.save(destination, options["external_data"])
    if not options["quiet"]:
        _warn(result.report.warnings)
    if not options["quiet"] and options["report_file"] != "-":
        click.echo(result.report.text())
        wrote = f"wrote     {' and '.join(map(str, files))}"
        click.echo(wrote if files else "dry run   no model written")


def _write_text(name: str, text: str) -> None:
    try:
        Path(name).write_text(text)
    except OSError as error:
        raise InputError(f"{name}: cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    main()
