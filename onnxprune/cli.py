"""The command line: options in, errors as exit codes out; no logic.

A command's module is imported when the command is called: it brings onnx, onnxruntime and most of
the package with it, which `--help` need not wait for.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

__all__ = ["COMMANDS", "main"]


class _Command(NamedTuple):
    """Where a command is defined, under which name, and what the list of commands says of it."""

    module: str
    function: str
    does: str


#: All commands by the name that users type.
COMMANDS: Mapping[str, _Command] = {
    "apply": _Command(
        "cli_prune",
        "apply",
        "Replay PLAN, written by prune, on INPUT: the same model or another checkpoint of it.",
    ),
    "bench": _Command("cli_measure", "bench", "Time models in turns: latency, throughput, memory."),
    "check": _Command(
        "cli_measure",
        "check",
        "Compare two models: outputs, accuracy, latency. Exit code 4 if a gate fails.",
    ),
    "diff": _Command(
        "cli_measure",
        "diff",
        "Show what changed from BEFORE to AFTER, node by node. Exit code 1 if anything did.",
    ),
    "finetune": _Command(
        "cli_sparsity",
        "finetune",
        "Train the weights of INPUT on labels and on a teacher, and write OUTPUT.",
    ),
    "inspect": _Command(
        "cli_measure",
        "inspect",
        "Show the groups of MODEL, their shares, and what blocks the other weights.",
    ),
    "ops": _Command(
        "cli_measure",
        "list_ops",
        "List the operators that have a rule, and those that stay frozen with the reason.",
    ),
    "prune": _Command(
        "cli_prune", "prune", "Remove the least important channels of INPUT and write OUTPUT."
    ),
    "run": _Command(
        "cli_sparsity", "run", "Carry out the stages of RECIPE.toml on INPUT and write OUTPUT."
    ),
    "sensitivity": _Command(
        "cli_measure",
        "sensitivity",
        "Measure how much the outputs of MODEL suffer when one group alone gets narrower.",
    ),
    "sparsify": _Command(
        "cli_sparsity",
        "sparsify",
        "Set the least important single weights of INPUT to zero and write OUTPUT.",
    ),
    "sweep": _Command(
        "cli_measure",
        "sweep",
        "Prune MODEL to many targets from one calibration, and show them side by side.",
    ),
}


class _Commands(click.Group):
    """Commands that are imported when they are asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an interrupt while it is imported ends as one while it runs does."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Error: interrupted", err=True)
            ctx.exit(128 + signal.SIGINT)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None where there is none of the name."""
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        command: click.Command = getattr(import_module(f"onnxprune.{found.module}"), found.function)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command without importing any."""
        found = {name: one for name, one in COMMANDS.items() if name.startswith(incomplete)}
        items = [CompletionItem(name, help=one.does) for name, one in found.items()]
        return [*items, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show how to begin."""
        with formatter.section("Examples"):
            for example in ("inspect model.onnx", "prune model.onnx", "COMMAND --help"):
                formatter.write(f"{'':{formatter.current_indent}}onnxprune {example}\n")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.does) for name, command in COMMANDS.items()])


#: Of all commands: lines of help are at most as long as people read with ease.
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=_Commands, context_settings=_CONTEXT)
@click.version_option(package_name="onnxprune")
def main() -> None:
    """Make exported ONNX models smaller and faster by removing channels.

    Exit codes: 0 done, 1 proof failed or models differ, 2 input or option unusable, 3 target out
    of reach, 4 gate failed.
    """
    gc.set_threshold(100_000)  # one short job whose garbage has no cycles: 5 % of its time


if __name__ == "__main__":
    main()
