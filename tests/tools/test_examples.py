"""The examples of the documents: every command and option exists, every file that is named too."""

import re
import sys
from pathlib import Path

import click
import pytest
from paths import ROOT, TOOLS

from onnxprune.cli import main

sys.path.insert(0, str(TOOLS))

import examples

TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in examples.DOCUMENTS}
COMMANDS = [words for text in TEXTS.values() for words in examples.commands(text)]
#: Documents that say where something is today; decisions and the changelog are history.
GUIDES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "models/README.md")),
    *(ROOT / "docs").glob("*.md"),
]
#: Files that a reader makes.
MADE = {"models/recipe.toml"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_has_the_options_it_is_shown_with(words: list[str]):
    command = main.get_command(click.Context(main), words[0])
    assert command is not None
    _, arguments, order = command.make_parser(click.Context(command)).parse_args(list(words[1:]))
    needed = [p for p in command.params if isinstance(p, click.Argument)]
    assert not arguments and set(needed) <= set(order)


def test_an_option_that_is_gone_is_noticed():
    (words,) = examples.commands("```\nonnxprune prune in.onnx \\\n    out.onnx --no-such 1\n```\n")
    with pytest.raises(click.NoSuchOption):
        test_a_command_has_the_options_it_is_shown_with(words)


def test_blocks_of_the_documents_are_python():
    for text in TEXTS.values():
        for language, block in examples.blocks(text):
            if language == "python":
                compile(block, "example", "exec")


def test_the_demo_is_what_the_readme_shows():
    shell = (TOOLS / "demo").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()[-1]
    assert shell.split()[1:] == COMMANDS[0]


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_files_that_a_guide_names_exist(path: Path):
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\((?!http)([\w./-]+)\)", text)
    missing = [name for name in links if not (path.parent / name).exists()]
    named = re.findall(r"`((?:onnxprune|tests|tools|docs|models)/[\w./]+|[a-z_/]+\.py)`", text)
    for name in set(named) - MADE:
        if not any((root / name).exists() for root in (ROOT, ROOT / "onnxprune", path.parent)):
            missing.append(name)
    assert not missing
