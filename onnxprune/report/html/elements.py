"""Build HTML and SVG as frozen values, and write them with every name and number escaped.

What a page shows comes from a model's file, where names may be anything: text and attribute values
are escaped here and nowhere else. There is no way to pass markup through.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any, TypeAlias

__all__ = [
    "Content",
    "Element",
    "Embedded",
    "el",
    "html",
    "plain_values",
    "prefixed",
    "script_json",
    "shown",
    "style_sheet",
]

#: Elements that have no content and no end tag; those of SVG are closed all the same.
_VOID = frozenset(["br", "col", "hr", "link", "meta"])
#: Elements on lines of their own, so that a page can be read and compared as text.
_LINES = frozenset(
    "article circle dd details div dl dt figcaption figure footer g h1 h2 h3 head header li line "
    "link main meta nav p path pre rect script section style summary svg table tbody td text th "
    "thead title tr ul".split()
)


@dataclass(frozen=True)
class Embedded:
    """Text that is no markup: the content of a style sheet or of embedded JSON."""

    text: str


@dataclass(frozen=True)
class Element:
    """One element: `attributes` are names and values as they are to be read, not escaped."""

    tag: str
    attributes: tuple[tuple[str, str], ...]
    children: tuple[Element | Embedded | str, ...]


#: What an element may hold; None is left out.
Content: TypeAlias = "Element | str | int | float | Iterable[Content] | None"


def el(tag: str, *children: Content, **attributes: str | float | bool | None) -> Element:
    """Make an element: `el("p", "text", class_="note", aria_hidden="true")`.

    Args:
        tag: its name.
        *children: text, numbers, elements, and iterables of them.
        **attributes: `_` stands for `-`, at the end for nothing. True gives a name alone; None and
            False leave it out.
    """
    named = tuple(
        (name.rstrip("_").replace("_", "-"), _value(value))
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return Element(tag, named, tuple(_flat(children)))


def style_sheet(text: str) -> Element:
    """Make a style element; `text` is the page's own and ends no element."""
    assert "</" not in text, "a style sheet ends its element"
    return Element("style", (), (Embedded(text),))


def script_json(key: str, values: Any, **attributes: str) -> Element:
    """Embed values as JSON that is no script, with all that could end the element escaped.

    Numbers that are not finite, which JSON lacks, become null.
    """
    named = el("script", type="application/json", **attributes, id=key).attributes
    text = json.dumps(plain_values(values), separators=(",", ":"), ensure_ascii=True)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Element("script", named, (Embedded(text),))


def plain_values(value: Any) -> Any:
    """The value as JSON can hold it: names as text, sequences as lists, no infinite number."""
    if isinstance(value, dict):
        return {str(name): plain_values(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def html(element: Element) -> str:
    """Write an element and all within it as text."""
    return "".join(_written(element))


def shown(text: str) -> str:
    """Text that a reader can see: what is not printable is written as Python would."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def prefixed(prefix: str, key: str) -> str:
    """An id: that of a part of a page that may be there several times gets a prefix."""
    return f"{prefix}-{key}" if prefix else key


def _flat(children: Iterable[Content]) -> Iterator[Element | str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element | str):
            yield child
        elif isinstance(child, int | float):
            yield _value(child)
        else:
            yield from _flat(child)


def _value(value: str | float) -> str:
    """A value as text; True is empty, numbers have two digits at most."""
    if isinstance(value, str):
        return value
    if value is True:
        return ""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _written(element: Element) -> Iterator[str]:
    begin = "\n" if element.tag in _LINES else ""
    yield f"{begin}<{element.tag}"
    for name, value in element.attributes:
        yield f' {name}="{escape(shown(value))}"'
    yield ">"
    if element.tag in _VOID:
        return
    for child in element.children:
        if isinstance(child, Element):
            yield from _written(child)
        elif isinstance(child, Embedded):
            yield child.text
        else:
            yield escape(shown(child), quote=False)
    yield f"</{element.tag}>"
