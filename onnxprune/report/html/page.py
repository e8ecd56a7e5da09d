"""Write a result as one HTML page: values in, text out. Start reading at `page`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxprune.report.html.about import About, run_sections
from onnxprune.report.html.bench_page import bench_page
from onnxprune.report.html.check_page import check_page
from onnxprune.report.html.elements import Content, Element, el, html, script_json, style_sheet
from onnxprune.report.html.parts import Page, Section, section, verdict
from onnxprune.report.html.prune_page import prune_page
from onnxprune.report.html.recipe_page import recipe_page
from onnxprune.report.html.sensitivity_page import sensitivity_page
from onnxprune.report.html.sparse_page import sparse_page
from onnxprune.report.html.style import STYLE
from onnxprune.report.html.sweep_page import sweep_page
from onnxprune.version import __version__

__all__ = ["JSON_ID", "PAGES", "page"]

#: The pages by command; `prune --then` gives the values of a recipe.
PAGES: Mapping[str, Callable[[Mapping[str, Any], About], Page]] = {
    "apply": prune_page,
    "bench": bench_page,
    "check": check_page,
    "prune": prune_page,
    "run": recipe_page,
    "sensitivity": sensitivity_page,
    "sparsify": sparse_page,
    "sweep": sweep_page,
}
#: The id of the element that holds the report.
JSON_ID = "onnxprune-report"
#: Nothing is loaded and nothing run: a browser that is told so refuses both.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(values: Mapping[str, Any], about: About) -> str:
    """Write the page of a result.

    Args:
        values: the content of its JSON report.
        about: the command that made it, with its settings.
    """
    made = PAGES[about.kind](values, about)
    sections = [*made.sections, *run_sections(about, values.get("environment", {})), _data()]
    name = ", ".join(Path(model).name for model in about.models[:1]) or "model"
    title = f"{made.title}: {name}"
    document = el(
        "html",
        el("head", _head(title)),
        el("body", _body(title, made, sections, about), _report(values, about)),
        lang="en",
    )
    return f"<!doctype html>{html(document)}\n"


def _report(values: Mapping[str, Any], about: About) -> Element:
    """The report within the page, and the command that it is of."""
    return script_json(JSON_ID, dict(values), data_command=about.kind)


def _head(title: str) -> Content:
    return [
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="generator", content=f"onnxprune {__version__}"),
        el("link", rel="icon", href="data:,"),
        el("title", f"{title} - onnxprune"),
        style_sheet(STYLE),
    ]


def _body(title: str, made: Page, sections: Sequence[Section], about: About) -> Content:
    """Verdict first, then where to find what, then all sections."""
    models = " → ".join(about.models)
    links = (el("li", el("a", one.title, href=f"#{one.key}")) for one in sections)
    return [
        el("a", "To the verdict", href="#verdict", class_="skip"),
        el("header", el("p", "onnxprune", class_="over"), el("h1", title)),
        el(
            "main",
            el(
                "div",
                el("p", models, class_="quiet") if models else None,
                verdict(made.verdict),
                id="verdict",
            ),
            el("nav", el("ul", links), aria_label="Contents"),
            [section(one) for one in sections],
        ),
        _footer(),
    ]


def _data() -> Section:
    """Where the numbers are."""
    code = (
        "import json, re\n"
        f'found = re.search(r\'id="{JSON_ID}">(.*?)</script>\', open("report.html").read())\n'
        "report = json.loads(found[1])"
    )
    told = "This page holds the whole report as JSON. Python reads it with"
    return Section("json", "The report as JSON", (el("p", told), el("pre", el("code", code))))


def _footer() -> Element:
    return el("footer", el("p", f"Written by onnxprune {__version__}. No script, no network."))
