"""Help of a command: two examples, then its options in groups, the usual ones of each.

`--help` has to fit a screen, so a command with many options lists the rare ones of each group by
name alone, and `--help-all` explains them (decision 36).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

__all__ = ["GROUPS", "RARE", "HelpfulCommand", "command"]

#: Names of parameters under the heading that lists them, in this order.
GROUPS: Mapping[str, str] = {
    "Target": "targets sparsity pattern threshold shares max_drop limit max_latency_ratio evaluate "
    "lossless later",
    "Selection": "importance criterion scope round_to exclude include ops min_channels ratios "
    "allow_inexact spatial no_rotate keep_tokens last_token rules misfit storage",
    "Training": "teacher losses epochs rate warmup batch_size held_out patience qat no_augment "
    "test",
    "Calibration": "calib calib_samples more cache jobs steps between no_compensate no_distill "
    "distill_rounds finished",
    "Measuring": "data no_latency profile input_shapes provider threads timer batch seed "
    "custom_ops",
    "Output": "out plan_file report_file html_file overlay_file zeros as_json json_file plot_file "
    "annotate dry_run external_data verbose quiet help_all",
}
#: Those that `--help` names without an explanation, in commands with more options than `FEW`.
RARE = frozenset(
    "shares threshold scope include ops min_channels ratios allow_inexact spatial no_rotate "
    "keep_tokens last_token rules misfit storage calib_samples more cache jobs steps "
    "distill_rounds no_distill no_compensate input_shapes batch seed custom_ops provider "
    "threads timer external_data plan_file dry_run overlay_file annotate warmup batch_size "
    "held_out patience qat no_augment between".split()
)
FEW = 20
#: What stands for a file or folder in help; arguments are files all of them.
_FILE = re.compile(r"(FILE|FOLDER|PATH|LIBRARY)\b")
_ALL = "onnxprune.help_all"


class _FileName(click.types.StringParamType):
    """A text for which shells complete names of files."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Leave it to the shell."""
        return [CompletionItem(incomplete, type="file")]


class HelpfulCommand(click.Command):
    """A command with `examples`: what one types behind `onnxprune`."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.examples = examples
        for param in self.params:
            if isinstance(param, click.Argument) or _FILE.match(str(param.metavar)):
                param.type = _FileName()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters, `--help-all` among them."""
        return [*super().get_params(ctx), _help_all()]

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the command does, and the examples."""
        super().format_help_text(ctx, formatter)
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}onnxprune {example}\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        options = [p for p in self.get_params(ctx) if isinstance(p, click.Option)]
        short = len(options) > FEW and not ctx.meta.get(_ALL)
        for heading, own in _grouped(options).items():
            told = [option for option in own if not (short and option.name in RARE)]
            rare = [option.opts[-1] for option in own if option not in told]
            rows = [row for row in (option.get_help_record(ctx) for option in told) if row]
            with formatter.section(heading):
                if rows:
                    formatter.write_dl(rows)
                if rare:
                    formatter.write(_named(rare, formatter, "and " if rows else ""))


def command(
    *examples: str, name: str | None = None
) -> Callable[[Callable[..., Any]], HelpfulCommand]:
    """Make a function a command that shows these examples."""
    return click.command(name, cls=HelpfulCommand, examples=examples)


def _named(names: Sequence[str], formatter: click.HelpFormatter, begin: str) -> str:
    """Options by name alone, none of them broken in two."""
    indent = " " * formatter.current_indent
    text = begin + ", ".join(names)
    return (
        textwrap.fill(
            text,
            formatter.width,
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        + "\n"
    )


def _grouped(options: Sequence[click.Option]) -> dict[str, list[click.Option]]:
    """Options by heading; those that no heading names come last. Who reads this knows `--help`."""
    by_name = {str(o.name): o for o in options if "--help" not in o.opts}
    found = {
        heading: [by_name.pop(name) for name in names.split() if name in by_name]
        for heading, names in GROUPS.items()
    }
    found["Other"] = list(by_name.values())
    return {heading: own for heading, own in found.items() if own}


def _help_all() -> click.Option:
    """The option that explains every option."""

    def show(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
        if asked and not ctx.resilient_parsing:
            ctx.meta[_ALL] = True
            click.echo(ctx.get_help())
            ctx.exit()

    return click.Option(
        ["--help-all"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Explain every option and exit.",
    )
