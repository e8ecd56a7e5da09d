"""Commands of the line for single weights, for fine-tuning, and for recipes of several stages."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from onnxprune import cli_options, ops
from onnxprune.errors import InputError
from onnxprune.ir import graph, normalize, shape_inference
from onnxprune.ops.dequantize import zeros
from onnxprune.pipeline import recipe as recipes
from onnxprune.pipeline import run_recipe
from onnxprune.pipeline.finetune import finetune as run_finetune
from onnxprune.pipeline.recipe import Recipe, StageOf
from onnxprune.pipeline.sparsify import sparsify as run_sparsify
from onnxprune.progress import Bar
from onnxprune.report.sparsity import layer_parts
from onnxprune.sparsity.density import densities, overall
from onnxprune.sparsity.options import CRITERIA, FIELDS, SCOPES
from onnxprune.sparsity.weights import weights_of
from onnxprune.terminal.help import command
from onnxprune.terminal.show import show
from onnxprune.training.options import FIELDS as TRAINING
from onnxprune.training.options import LOSSES, Training, parse_loss

__all__ = [
    "finetune",
    "parse_share",
    "run",
    "run_and_deliver",
    "show_sparsity",
    "sparsify",
    "stages",
]


def parse_share(text: str) -> tuple[str, float]:
    """`REGEX=0.7` as pattern and the share that goes."""
    pattern, equals, share = text.rpartition("=")
    try:
        value = float(share)
    except ValueError as error:
        raise InputError(f"layer sparsity '{text}': write REGEX=SHARE, as layer1=0.7") from error
    if not equals:
        raise InputError(f"layer sparsity '{text}': write REGEX=SHARE, as layer1=0.7")
    return pattern, value


@command(
    "sparsify model.onnx sparse.onnx --sparsity 0.7 --calib samples.npz",
    "sparsify model.onnx sparse.onnx --pattern 2:4",
)
@click.argument("model", metavar="INPUT")
@click.argument("output", metavar="OUTPUT")
@click.option("--sparsity", type=float, help="Share of all numbers that goes, such as 0.7.")
@click.option("--scope", default="auto", show_default=True, help=f"{', '.join(SCOPES)}.")
@click.option(
    "--layer-sparsity", "shares", multiple=True, metavar="REGEX=SHARE", help="Share of a layer."
)
@click.option("--threshold", type=float, help="Smaller numbers go, in place of a share.")
@click.option("--pattern", metavar="N:M|RxC", help="2:4 and its like, or blocks such as 4x1.")
@click.option("--criterion", default="auto", show_default=True, help=f"{', '.join(CRITERIA)}.")
@click.option("--op", "ops", multiple=True, metavar="TYPE", help="Weights of such operators only.")
@click.option("--include", multiple=True, metavar="REGEX", help="Nodes or weights to take only.")
@cli_options.exclude
@click.option(
    "--misfit",
    default="skip",
    show_default=True,
    help="skip or error: what a pattern does not fit.",
)
@click.option("--storage", default="dense", show_default=True, help="dense, or sparse if smaller.")
@cli_options.calibrating
@click.option(
    "--steps",
    default=1,
    type=click.IntRange(1),
    show_default=True,
    help="Reach it in so many steps, cubically.",
)
@cli_options.evaluate
@cli_options.refitting
@cli_options.measuring
@click.option("--report", "report_file", metavar="FILE", help="Write the report, - prints it.")
@cli_options.html
@click.option("--external-data", is_flag=True, help="Write weights to OUTPUT.data.")
@click.option("--dry-run", is_flag=True, help="Write the report only.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@cli_options.errors
def sparsify(model: str, output: str, **options: Any) -> None:
    """Set the least important single weights of INPUT to zero and write OUTPUT."""
    destination = cli_options.destination(
        output, {**options, "plan_file": None, "rules": None}, model
    )
    what = {name: options[name] for name in FIELDS if name in options}
    what["layer_sparsity"] = dict(map(parse_share, options["shares"])) or None
    given = cli_options.settings(model, options) | what  # the scope is that of single weights
    with closing(Bar(quiet=options["quiet"])) as bar:
        result = run_sparsify(model, **given, progress=bar, scratch=destination.parent)
    cli_options.deliver(result, result.report, destination, options)


@command(
    "finetune small.onnx tuned.onnx --data train.npz --teacher big.onnx",
    "finetune small.onnx tuned.onnx --calib x.npz --teacher big.onnx",
)
@click.argument("model", metavar="INPUT")
@click.argument("output", metavar="OUTPUT")
@click.option("--data", metavar="PATH", help="Samples with labels, in any form that --calib takes.")
@click.option("--teacher", metavar="FILE.onnx", help="A model with the same outputs to learn from.")
@click.option(
    "--loss",
    "losses",
    multiple=True,
    metavar="NAME=WEIGHT",
    help=f"{', '.join(LOSSES)} or FILE.py:FUNCTION; else what labels and teacher allow.",
)
@click.option("--epochs", default=Training.epochs, show_default=True, help="Rounds over them.")
@click.option("--rate", default=Training.rate, show_default=True, help="Length of steps.")
@click.option("--warmup", default=Training.warmup, help="Share of steps in which it rises.")
@click.option("--batch-size", default=Training.batch_size, show_default=True, help="Of a step.")
@click.option("--held-out", default=Training.held_out, help="Share of the samples that judge.")
@click.option("--patience", type=int, metavar="N", help="End N epochs after the best one.")
@click.option("--no-augment", is_flag=True, help="Train on the samples as they are.")
@click.option("--qat", metavar="tensor|channel", help="Round weights to 8 bits in forward passes.")
@click.option("--calib", metavar="PATH", help="Samples without labels, for the teacher's outputs.")
@click.option(
    "--calib-samples", default=1024, type=click.IntRange(1), show_default=True, help="Of them."
)
@click.option("--test", metavar="FILE", help="Samples to measure on (.npz with labels).")
@click.option("--finished", metavar="FOLDER", help="Keep how far the run is, go on from there.")
@cli_options.exclude
@cli_options.evaluate
@cli_options.custom_ops
@cli_options.provider
@cli_options.input_shapes
@click.option("--seed", default=0, type=click.IntRange(0), show_default=True, help="Of the order.")
@click.option("--report", "report_file", metavar="FILE", help="Write the report, - prints it.")
@click.option("--external-data", is_flag=True, help="Write weights to OUTPUT.data.")
@click.option("--dry-run", is_flag=True, help="Write the report only.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@cli_options.errors
def finetune(model: str, output: str, **options: Any) -> None:
    """Train the weights of INPUT on labels and on a teacher, and write OUTPUT."""
    read = tuple(options[name] for name in ("teacher", "test") if options[name])
    apart = {"plan_file": None, "rules": None}
    destination = cli_options.destination(output, {**options, **apart}, model, *read)
    data = options.pop("data")  # trains: the setting of this name measures
    given = cli_options.settings(model, options)
    given |= {name: options[name] for name in TRAINING if name in options}
    given["loss"] = dict(map(parse_loss, options["losses"])) or None
    given |= {"augment": not options["no_augment"], "test": options["test"]}
    teacher, finished = options["teacher"], options["finished"]
    with closing(Bar(quiet=options["quiet"])) as bar:
        given |= {"progress": bar, "scratch": destination.parent}
        result = run_finetune(model, data, teacher, finished, **given)
    cli_options.deliver(result, result.report, destination, options)


@command(
    "run recipe.toml model.onnx small.onnx",
    "run recipe.toml model.onnx small.onnx --finished stages",
)
@click.argument("recipe", metavar="RECIPE.toml")
@click.argument("model", metavar="INPUT")
@click.argument("output", metavar="OUTPUT")
@click.option("--finished", metavar="FOLDER", help="Keep finished stages, go on from them.")
@click.option("--calib", metavar="PATH", help="Samples, where the recipe names none.")
@click.option("--more", metavar="PATH", help="Further inputs, where the recipe names none.")
@cli_options.evaluate
@cli_options.custom_ops
@cli_options.provider
@click.option("--threads", default=1, show_default=True, help="Threads for latency, 0: all.")
@click.option("--no-latency", is_flag=True, help="Do not measure latency.")
@click.option("--report", "report_file", metavar="FILE", help="Write the report, - prints it.")
@cli_options.html
@click.option("--external-data", is_flag=True, help="Write weights to OUTPUT.data.")
@click.option("--dry-run", is_flag=True, help="Write the report only.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@cli_options.errors
def run(recipe: str, model: str, output: str, **options: Any) -> None:
    """Carry out the stages of RECIPE.toml on INPUT and write OUTPUT."""
    apart = {"plan_file": None, "rules": None, "data": None}
    destination = cli_options.destination(output, {**options, **apart}, model, recipe)
    own = {name: options.pop(name) for name in ("calib", "more", "evaluate")}
    found = recipes.read(recipe, {name: value for name, value in own.items() if value is not None})
    given = cli_options.settings(model, options)
    run_and_deliver(found, model, destination, options, given)


def run_and_deliver(
    recipe: Recipe, model: str, destination: Path, options: dict[str, Any], given: dict[str, Any]
) -> None:
    """Carry out a recipe under the settings `given` and write what it gives."""
    with closing(Bar(quiet=options["quiet"])) as bar:
        given = {**given, "progress": bar, "scratch": destination.parent}
        result = run_recipe.run(recipe, model, finished=options.get("finished"), **given)
    cli_options.deliver(result, result, destination, options, "run")


def stages(first: dict[str, Any], later: tuple[str, ...], samples: dict[str, str]) -> Recipe:
    """A recipe that begins with pruning, whose options are `first`, and goes on with `--then`.

    `samples` names them by setting.
    """
    made = (StageOf("prune", first), *(recipes.then(text) for text in later))
    tables = [{"kind": stage.kind, **stage.options} for stage in made]
    return recipes.parsed({"stage": tables, **samples})


def show_sparsity(model: Any, input_shapes: Any, as_json: bool) -> None:
    """Show density, patterns and TensorRT's answer for every weight, as text or JSON."""
    proto, _ = normalize.prepare(normalize.distinct(model))
    nodes = shape_inference.describe(proto, ops.traits(), input_shapes or None)
    read = graph.reader(proto)
    stored = {name: tuple(t.dims) for name, t in graph.constants(proto).items()}
    rows = densities(weights_of(nodes, stored), read, zeros(nodes, read))
    if as_json:
        values = {**overall(rows), "layers": [row.values() for row in rows]}
        click.echo(json.dumps(values, indent=1))
    else:
        show(layer_parts(rows))
