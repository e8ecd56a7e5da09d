"""Commands of the line that cut channels: `prune`, and `apply` for a plan that is known."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from onnxprune import cli_options
from onnxprune.allocation.targets import parse_target
from onnxprune.errors import InputError
from onnxprune.importance.criteria import CRITERIA
from onnxprune.pipeline.apply import apply as run_apply
from onnxprune.pipeline.propose import propose
from onnxprune.pipeline.prune import prune as run_prune
from onnxprune.pipeline.result import Result
from onnxprune.progress import Bar
from onnxprune.report.parts import Fact
from onnxprune.settings import AUTO, Settings
from onnxprune.terminal.help import command
from onnxprune.terminal.show import show

__all__ = ["apply", "prune"]

if TYPE_CHECKING:
    from onnxprune.pipeline.keep_tokens import TokensResult
    from onnxprune.pipeline.last_token import LastTokenResult

_overlay = click.option(
    "--overlay",
    "overlay_file",
    metavar="FILE.json",
    help="Write for Model Explorer what stays of every node.",
)
_annotate = click.option(
    "--annotate", is_flag=True, help="Write what stays into the model, as Netron shows it."
)

#: Options that go with --keep-tokens and --last-token.
ALONE = frozenset(
    "model output input_shapes seed custom_ops rules quiet external_data dry_run".split()
)
#: Options that say what is to be made: with one of them OUTPUT is needed.
FOR_RESULTS = frozenset(
    "targets max_drop evaluate ratios lossless later plan_file report_file html_file overlay_file "
    "external_data dry_run spatial keep_tokens last_token annotate between".split()
)


@command(
    "prune model.onnx small.onnx --target macs=0.5 --calib samples.npz",
    "prune model.onnx small.onnx --target latency=5ms --exclude '^head'",
)
@click.argument("model", metavar="INPUT")
@click.argument("output", metavar="OUTPUT", required=False)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="METRIC=AMOUNT",
    help="latency, macs, params, size, ratio: share (50%) or amount (5ms); "
    "blocks: how many. Repeatable.",
)
@click.option("--importance", default=AUTO, show_default=True, help=f"{', '.join(CRITERIA)}.")
@click.option("--scope", default="global", show_default=True, help="global or layer.")
@click.option("--min-channels", default=1, show_default=True, help="Fewest channels of a group.")
@click.option(
    "--round-to",
    default=AUTO,
    metavar="N",
    help="Multiples that widths keep; auto: steps of the kernels.",
)
@cli_options.exclude
@click.option(
    "--layer-ratio", "ratios", multiple=True, metavar="REGEX=SHARE", help="Share a group keeps."
)
@cli_options.inexact
@click.option("--lossless", is_flag=True, help="Remove what provably contributes nothing.")
@click.option(
    "--spatial",
    is_flag=True,
    help="Also look at less of the input where that loses less; needs --calib.",
)
@click.option("--no-rotate", is_flag=True, help="Cut residual streams as they are.")
@click.option(
    "--keep-tokens",
    metavar="FILE",
    help="Keep these tokens of the vocabulary alone, and write a map of their numbers.",
)
@click.option(
    "--last-token",
    is_flag=True,
    help="Give scores of the last place alone, as generating models are read.",
)
@cli_options.calibrating
@click.option(
    "--steps",
    default=1,
    type=click.IntRange(1),
    show_default=True,
    help="Prune in so many steps.",
)
@cli_options.evaluate
@click.option("--max-drop", type=float, help="Find the smallest model that loses no more.")
@cli_options.refitting
@click.option(
    "--then",
    "later",
    multiple=True,
    metavar="STAGE",
    help="finetune=…, sparsify=2:4, quantise=static.",
)
@click.option("--between", metavar="STAGE", help="Carry out a stage behind each of --steps.")
@cli_options.rules
@cli_options.measuring
@cli_options.writing
@_overlay
@_annotate
@cli_options.errors
def prune(model: str, output: str | None, **options: Any) -> None:
    """Remove the least important channels of INPUT and write OUTPUT.

    INPUT alone: propose targets for it, and write nothing.
    """
    if output is None:
        _propose(model, options)
        return
    tokens = [options["keep_tokens"]] if options["keep_tokens"] else []
    destination = cli_options.destination(output, options, model, *tokens)
    if options["keep_tokens"] is not None or options["last_token"]:
        _other_interface(model, destination, options)
        return
    target = parse_target(",".join(options["targets"])) if options["targets"] else {}
    given = cli_options.settings(model, options)
    if options["later"] or options["between"]:
        # what later stages need; most runs have none
        from onnxprune.cli_sparsity import run_and_deliver, stages
        from onnxprune.pipeline.recipe import SETTINGS_OF, then

        which = "--then" if options["later"] else "--between"
        if options["max_drop"] is not None or options["plan_file"]:
            raise InputError(f"{which} goes with neither --max-drop nor --plan: leave one out")
        if options["overlay_file"] or options["annotate"]:
            raise InputError(f"{which} goes with neither --overlay nor --annotate: leave one out")
        own = {name: given.pop(name) for name in SETTINGS_OF["prune"] if name in given}
        samples = {name: options[name] for name in ("calib", "more") if options[name] is not None}
        if options["between"]:
            own["between"] = then(options["between"])
        recipe = stages({"target": target, **own}, options["later"], samples)
        run_and_deliver(recipe, model, destination, options, given)
        return
    with closing(Bar(quiet=options["quiet"])) as bar:
        result = run_prune(model, target, **given, progress=bar, scratch=destination.parent)
    _deliver(result, destination, options)


def _other_interface(model: str, destination: Path, options: dict[str, Any]) -> None:
    """Keep some tokens, or scores of the last place; whatever else prunes comes before or after."""
    ctx = click.get_current_context()
    own = "--last-token" if options["last_token"] else "--keep-tokens"
    for param in ctx.command.params:
        typed = ctx.get_parameter_source(str(param.name)) == ParameterSource.COMMANDLINE
        if typed and param.name not in ALONE and param.opts[-1] != own:
            raise InputError(
                f"{own} does not go with {param.opts[-1]}: use that on what it gives, with samples "
                "that fit"
            )
    settings = Settings(**cli_options.settings(model, options))
    if options["last_token"]:
        from onnxprune.pipeline.last_token import last_token  # most runs do not

        _written(last_token(model, settings), destination, options)
        return
    from onnxprune.pipeline.keep_tokens import keep_tokens, map_path

    taken = {Path(f).resolve(): "the input itself" for f in (model, options["keep_tokens"])}
    cli_options.free([(str(map_path(destination)), "the map of tokens")], taken)
    _written(keep_tokens(model, options["keep_tokens"], settings), destination, options)


def _written(
    result: TokensResult | LastTokenResult, destination: Path, options: dict[str, Any]
) -> None:
    files = [] if options["dry_run"] else result.save(destination, options["external_data"])
    if not options["quiet"]:
        wrote = Fact("wrote", " and ".join(map(str, files)))
        show([*result.parts(), wrote if files else Fact("dry run", "no model written")])


def _propose(model: str, options: dict[str, Any]) -> None:
    """Show what could be done with a model; what asks for a result needs OUTPUT."""
    ctx = click.get_current_context()
    given = [
        param
        for param in ctx.command.params
        if ctx.get_parameter_source(str(param.name)) == ParameterSource.COMMANDLINE
    ]
    output = next(param for param in ctx.command.params if param.name == "output")
    if any(param.name in FOR_RESULTS for param in given):
        raise click.MissingParameter(ctx=ctx, param=output)
    settings = cli_options.settings(model, options)
    with closing(Bar(quiet=options["quiet"])) as bar:
        found = propose(model, Settings(**settings, progress=bar))
    words = [word for param in given for word in _words(param, ctx.params[str(param.name)])]
    show(found.parts(model, words))


def _words(param: click.Parameter, value: Any) -> list[str]:
    """An option as it was typed; none for arguments and for what a proposal is about."""
    if not isinstance(param, click.Option) or param.name == "quiet":
        return []
    if param.is_flag:
        return [param.opts[-1]]
    values = value if param.multiple else [value]
    return [word for one in values for word in (param.opts[-1], str(one))]


@command(
    "apply model.onnx plan.json small.onnx",
    "apply model.onnx plan.json small.onnx --data test.npz",
)
@click.argument("model", metavar="INPUT")
@click.argument("plan", metavar="PLAN")
@click.argument("output", metavar="OUTPUT")
@cli_options.inexact
@cli_options.rules
@cli_options.measuring
@cli_options.writing
@_overlay
@_annotate
@cli_options.errors
def apply(model: str, plan: str, output: str, **options: Any) -> None:
    """Replay PLAN, written by prune, on INPUT: the same model or another checkpoint of it."""
    destination = cli_options.destination(output, options, model, plan)
    with closing(Bar(quiet=options["quiet"])) as bar:
        given = cli_options.settings(model, options)
        result = run_apply(model, plan, **given, progress=bar, scratch=destination.parent)
    _deliver(result, destination, options)


def _deliver(result: Result, destination: Path, options: dict[str, Any]) -> None:
    """The plan, then overlay, report and model."""
    if options["annotate"]:
        result = result.annotated()
    if any(options[f"{name}_file"] for name in ("overlay", "report", "html")):
        result = result.with_layers()
    if options["plan_file"]:
        cli_options.write_text(options["plan_file"], result.plan_json)
    if options["overlay_file"]:
        text = json.dumps(result.overlay(), indent=1) + "\n"
        cli_options.write_text(options["overlay_file"], text)
    cli_options.deliver(result, result.report, destination, options)
    if not options["quiet"]:
        cli_options.warn(result.report.warnings)
