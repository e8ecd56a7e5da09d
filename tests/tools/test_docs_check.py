"""What documents show: commands and options exist, files that are named too, outputs compare."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import click
import pytest
from paths import ROOT, TOOLS

import onnxprune
from onnxprune.cli import main

sys.path.insert(0, str(TOOLS))

import docs_check
import docs_site
import pictures

TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in docs_check.documents()}
COMMANDS = {" ".join(c): c for text in TEXTS.values() for c in docs_check.commands(text)}
#: Documents that say where something is today; decisions and the changelog are history.
GUIDES = [
    *(ROOT / name for name in ("README.md", *docs_site.OUTSIDE)),
    *(path for path in (ROOT / "docs").rglob("*.md") if path.parent.name != "decisions"),
]
#: Files that a reader makes.
MADE = {"models/recipe.toml"}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_command_has_the_options_it_is_shown_with(words: list[str]):
    command = main.get_command(click.Context(main), words[0])
    assert command is not None
    _, arguments, order = command.make_parser(click.Context(command)).parse_args(list(words[1:]))
    needed = [p for p in command.params if isinstance(p, click.Argument) and p.required]
    assert not arguments and set(needed) <= set(order)


def test_an_option_that_is_gone_is_noticed():
    shown = "```\nonnxprune prune in.onnx \\\n    out.onnx --no-such 1\n```\n"
    (words,) = docs_check.commands(shown)
    with pytest.raises(click.NoSuchOption):
        test_a_command_has_the_options_it_is_shown_with(words)


def test_blocks_of_the_documents_are_what_they_say():
    for text in TEXTS.values():
        for block in docs_check.blocks(text):
            if block.language == "python":
                ast.parse(block.text)
            if block.language == "toml":
                tomllib.loads(block.text)


def test_the_demo_is_what_the_readme_shows():
    shell = (TOOLS / "demo").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()[-1]
    assert shell.split()[1:] == next(docs_check.commands(TEXTS["README.md"]))


def anchors(path: Path) -> set[str]:
    """What headings of a page are linked by, as code hosts make it."""
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in found}


def broken(path: Path, text: str) -> list[str]:
    """Files and headings that a page names and that are not there."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    missing = []
    for name, anchor in re.findall(r"\]\((?!http)([\w./-]*)(?:#([\w-]+))?\)", text):
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(f"{name}#{anchor}")
    named = re.findall(r"`((?:onnxprune|tests|tools|docs|models)/[\w./]+|[a-z_/]+\.py)`", text)
    roots = (ROOT, ROOT / "onnxprune", path.parent)
    return missing + [
        name for name in sorted(set(named) - MADE) if not any((r / name).exists() for r in roots)
    ]


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_files_and_headings_that_a_guide_names_exist(path: Path):
    assert not broken(path, path.read_text("utf-8"))


def test_a_broken_link_is_noticed():
    page, text = (
        ROOT / "docs/guide.md",
        "[a](none.md) [b](guide.md#none) [c](#targets) `tools/no.py`",
    )
    assert broken(page, text) == ["none.md#", "guide.md#none", "tools/no.py"]


def test_every_page_is_in_the_navigation():
    front = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    listed = {name for names in docs_site.parts(front).values() for name in names}
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages = {name for name in pages if not name.startswith("decisions/")} - {"README.md"}
    assert pages | {"decisions"} | {f"../{name}" for name in docs_site.OUTSIDE} == listed


def test_links_hold_where_the_site_has_its_pages():
    text = "[a](../SECURITY.md) [b](decisions) [c](results.md#x)\n```\n[d](../SECURITY.md)\n```\n"
    told = "[a](project/security.md) [b](decisions/index.md) [c](results.md#x)\n"
    assert docs_site.staged_text(text, "docs/reliability.md").startswith(told)
    assert "[d](../SECURITY.md)" in docs_site.staged_text(text, "docs/reliability.md")
    assert docs_site.staged_text("[a](docs/guide.md)", "CHANGELOG.md") == "[a](../guide.md)"
    assert docs_site.staged_text("[b](bert.py) [p](plugin)", "examples/README.md") == "b p"


def test_every_public_name_is_in_the_reference():
    text = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    told = set(re.findall(r"\w+", text))
    assert set(onnxprune.__all__) - {"__version__"} <= told


def test_pictures_are_what_their_script_draws():
    for name, draw in pictures.PICTURES.items():
        assert (pictures.FOLDER / f"{name}.svg").read_text(encoding="utf-8") == draw()


def test_outputs_are_compared_where_machines_agree():
    shown = "MACs   1.00 M\nlatency  0.06 ±0.01 ms  0.5\n…\nmeasured onnxruntime 1.31.0, cpu A"
    same = "MACs 1.00 M\nlatency 9 ±1 ms 2.5\nmore\nlines\nmeasured onnxruntime 1.32.0, cpu B"
    assert not docs_check.differences(shown, same)
    assert docs_check.differences(shown, same.replace("1.00 M", "1.01 M")) != []
    assert docs_check.differences("a\nb", "a\nb\nc") == ["+ c"]


def test_steps_know_their_output_and_why_they_are_not_run():
    page = (
        "<!-- needs: sys no_such_module -->\n```\nonnxprune ops\n```\n\n```text\nout\n```\n"
        "<!-- not run: no reason -->\n```console\n$ ls\nx\n```\n"
    )
    first, second = docs_check.steps(page)
    assert (first.what, first.shown, first.why) == ("ops", "out\n", "needs no_such_module")
    assert (second.what, second.shown, second.why) == ("ls", None, "no reason")
