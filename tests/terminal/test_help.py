"""Help of every command: it fits a screen, names every option, and its examples can be typed."""

import re
import shlex

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from onnxprune.cli import COMMANDS, main
from onnxprune.terminal.help import GROUPS, RARE, HelpfulCommand, command


def shown(name: str, option: str) -> str:
    """Help at 80 columns."""
    result = CliRunner().invoke(main, [name, option], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    return result.output


def found(name: str) -> HelpfulCommand:
    made = main.get_command(click.Context(main), name)
    assert isinstance(made, HelpfulCommand)
    return made


@pytest.mark.parametrize("name", COMMANDS)
def test_it_fits_a_screen_and_leaves_nothing_out(name: str) -> None:
    text, everything = shown(name, "--help"), shown(name, "--help-all")
    assert len(text.splitlines()) <= 44
    assert all(len(line) <= 80 for line in everything.splitlines())
    for option in found(name).params:
        if isinstance(option, click.Option):
            assert option.opts[-1] in text
            assert re.search(rf"^  (-\w, )?{option.opts[-1]}( |$)", everything, re.MULTILINE)
    headings = re.findall(r"^(\w+):\n", everything, re.MULTILINE)
    assert headings[0] == "Examples" and set(headings[1:]) <= GROUPS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_two_examples_that_can_be_typed(name: str) -> None:
    made = found(name)
    assert len(made.examples) == 2
    for example in made.examples:
        first, *words = shlex.split(example)
        assert first == name and f"  onnxprune {example}\n" in shown(name, "--help")
        made.make_context(name, words)


def test_names_of_groups_are_told_apart() -> None:
    names = " ".join(GROUPS.values()).split()
    assert len(set(names)) == len(names) and set(names) >= RARE


def test_an_option_that_no_group_names_is_shown_all_the_same() -> None:
    @command("strange --strange")
    @click.option("--strange", is_flag=True, help="Do it.")
    def strange(strange: bool) -> None:
        """Do something."""

    text = CliRunner().invoke(strange, ["--help"]).output
    assert "Other:\n  --strange  Do it.\n" in text


def test_names_are_never_broken() -> None:
    named = re.findall(r"and (--[^:]*?)\n\n", shown("prune", "--help") + "\n")
    options = {option for option in re.split(r",\s+", ", ".join(named)) if option}
    assert len(options) > 10 and all(re.fullmatch(r"--[a-z-]*[a-z]", o) for o in options)


def completions(*words: str) -> list[tuple[str, str]]:
    """What a shell offers for the last word: its text, and whether it is a file."""
    shell = ShellComplete(main, {}, "onnxprune", "_ONNXPRUNE_COMPLETE")
    return [(item.value, item.type) for item in shell.get_completions(list(words[:-1]), words[-1])]


def test_shells_complete_commands_options_and_files() -> None:
    assert completions("sp") == [("sparsify", "plain")] and len(completions("")) == len(COMMANDS)
    assert ("--version", "plain") in completions("--")
    assert completions("prune", "--calib-s") == [("--calib-samples", "plain")]
    for words in (["inspect", "mod"], ["prune", "m.onnx", "--calib", "mod"], ["diff", "a", "mod"]):
        assert completions(*words) == [("mod", "file")]
    assert completions("prune", "m.onnx", "--target", "mac") == []


def test_a_name_of_a_file_is_any_text() -> None:
    """No file need be there, and what is wrong with one is said by the command."""
    context = found("prune").make_context("prune", ["missing.onnx", "-", "--report", "-"])
    assert context.params["model"] == "missing.onnx" and context.params["report_file"] == "-"
