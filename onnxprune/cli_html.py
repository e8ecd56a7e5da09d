"""Write a result as a page that says which command made it and how."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import click
from click.core import ParameterSource

from onnxprune.ir.versions import versions
from onnxprune.report.html.about import About, Setting
from onnxprune.report.html.page import page

__all__ = ["about_command", "page_of"]

#: Arguments that are models, in the order in which a page names them.
MODELS = ("model", "models", "original", "output", "pruned")
#: Options of `check` that are gates, as they are called in Python, and what the page calls them.
LIMITS = {"limit": "max_drop", "max_latency_ratio": "max_latency_ratio"}


def page_of(values: Mapping[str, Any], kind: str = "") -> str:
    """Write the page of what the running command gives.

    Args:
        values: the content of the JSON report.
        kind: of the values, where they are not those of the command.
    """
    return page(values, about_command(click.get_current_context(), kind))


def about_command(context: click.Context, kind: str = "") -> About:
    """What a page says of a command that is running."""
    params = context.params
    models = [value for name in MODELS for value in _several(params.get(name))]
    limits = {LIMITS[n]: params[n] for n in LIMITS if params.get(n) is not None}
    name = context.info_name or ""
    return About(
        kind=kind or name,
        models=models,
        command=shlex.join(["onnxprune", name, *_words(context)]),
        settings=[
            Setting(_longest(one), _text(params[one.name]), _given(context, one))
            for one in context.command.params
            if one.name in params and isinstance(one, click.Option)
        ],
        versions=versions(),
        limits=limits if name == "check" else {},
    )


def _words(context: click.Context) -> Iterator[str]:
    """The arguments of a command, then the options that were given."""
    params = context.params
    for one in context.command.params:
        if isinstance(one, click.Argument) and one.name is not None:
            yield from _several(params.get(one.name))
    for one in context.command.params:
        if isinstance(one, click.Option) and _given(context, one):
            for value in _several(params[one.name or ""]):
                yield from [_longest(one)] if one.is_flag else [_longest(one), value]


def _several(value: Any) -> list[str]:
    """The values of a parameter, which may be given several times, as they are typed."""
    if value is None or value is False:
        return []
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]


def _longest(option: click.Option) -> str:
    """The name of an option that says most."""
    return max(option.opts, key=len)


def _given(context: click.Context, option: click.Option) -> bool:
    return context.get_parameter_source(option.name or "") == ParameterSource.COMMANDLINE


def _text(value: Any) -> str:
    """A value for people: nothing where there is none."""
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(_several(value))
