"""What Sphinx needs to know; `python tools/docs_site.py build` makes the site."""

from __future__ import annotations

from typing import Any

import click

from onnxprune.terminal.help import HelpfulCommand
from onnxprune.version import __version__

project = "onnxprune"
author = "the authors of onnxprune"
copyright = f"2026, {author}"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
html_theme = "furo"
html_title = f"onnxprune {release}"
html_show_sphinx = False
html_copy_source = False
myst_heading_anchors = 4
default_role = "code"  # docstrings quote as Markdown does
# GitHub's tables and code in other people's words: nothing of Sphinx's own is read into them.
myst_disable_syntax = ["dollarmath"]
autodoc_typehints = "none"
autodoc_mock_imports = ["torch"]
autodoc_member_order = "bysource"
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
suppress_warnings = ["myst.strikethrough"]


def _examples(_app: Any, ctx: click.Context, lines: list[str]) -> None:
    """Show the examples of a command below what it does."""
    if isinstance(ctx.command, HelpfulCommand) and ctx.command.examples:
        shown = [f"   onnxprune {example}" for example in ctx.command.examples]
        lines.extend(["", ".. code-block:: sh", "", *shown, ""])


def setup(app: Any) -> None:
    """Add what sphinx-click leaves out."""
    app.connect("sphinx-click-process-description", _examples)
