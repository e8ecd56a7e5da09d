"""Elements of the documentation's pictures: boxes, arrows, texts, rows of cells; one style.

A picture carries its own ground, so that it can be read whatever page it stands on, and follows
the dark mode of the reader's system.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from onnxprune.report.html.style import DARK, LIGHT

__all__ = ["arrow", "box", "cells", "lines", "path", "picture", "text"]

_NAMES = ("ground", "card", "line", "text", "muted", "room", "before", "after", "bad", "third")
SIZE = 14
CELL = 18


def _colors(colors: dict[str, str]) -> str:
    return ";".join(f"--{name}:{colors[name]}" for name in _NAMES)


_STYLE = f"""
svg{{{_colors(LIGHT)}}}
@media (prefers-color-scheme:dark){{svg{{{_colors(DARK)}}}}}
text{{fill:var(--text);font:{SIZE}px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}}
.muted{{fill:var(--muted)}} .strong{{font-weight:600}} .middle{{text-anchor:middle}}
.end{{text-anchor:end}} .bad{{fill:var(--bad)}} .good{{fill:var(--after)}}
.ground{{fill:var(--ground)}} .box{{fill:var(--card);stroke:var(--line)}}
.mark{{fill:var(--card);stroke:var(--after);stroke-width:2}}
.kept{{fill:var(--after)}} .gone{{fill:none;stroke:var(--bad);stroke-dasharray:3 2}}
.zero{{fill:var(--room);stroke:var(--before)}} .full{{fill:var(--before)}}
.arrow{{fill:none;stroke:var(--muted);stroke-width:1.6;marker-end:url(#head)}}
.head{{fill:var(--muted)}} .axis{{fill:none;stroke:var(--muted)}}
.one{{fill:none;stroke:var(--after);stroke-width:2}}
.two{{fill:none;stroke:var(--third);stroke-width:2}}
.three{{fill:none;stroke:var(--bad);stroke-width:2}}
.dash{{fill:none;stroke:var(--muted);stroke-dasharray:4 3}}
"""


def picture(size: tuple[int, int], title: str, about: str, parts: Iterable[str]) -> str:
    """A whole file: width and height, what screen readers say, and the elements."""
    width, height = size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-labelledby="title about">\n'
        f'<title id="title">{escape(title)}</title>\n<desc id="about">{escape(about)}</desc>\n'
        f"<style>{_STYLE}</style>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>\n'
        f'<rect class="ground" width="{width}" height="{height}" rx="10"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """A line of text whose base line is at y."""
    shown = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{shown}>{escape(words)}</text>'


def lines(x: float, y: float, words: Sequence[str], kind: str = "") -> str:
    """Lines of text below each other."""
    return "\n".join(text(x, y + 19 * k, line, kind) for k, line in enumerate(words))


def box(
    corner: tuple[float, float], size: tuple[float, float], words: Sequence[str], kind: str = "box"
) -> str:
    """A box with lines in its middle, the first of them strong."""
    (x, y), (width, height) = corner, size
    top = y + height / 2 + 5 - 9.5 * (len(words) - 1)
    shown = [
        text(x + width / 2, top + 19 * k, line, "middle strong" if k == 0 else "middle muted")
        for k, line in enumerate(words)
    ]
    outline = f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
    return "\n".join([f'{outline} rx="7"/>', *shown])


def arrow(*points: tuple[float, float]) -> str:
    """A line through the points, with a head at its end."""
    return path("arrow", points)


def path(kind: str, points: Sequence[tuple[float, float]]) -> str:
    """A line through the points."""
    return f'<path class="{kind}" d="M{" L".join(f"{x:g} {y:g}" for x, y in points)}"/>'


def cells(x: float, y: float, kinds: Sequence[str], down: bool = True) -> str:
    """A row of channels, each of a kind: kept, gone, zero, full."""
    made = []
    for k, kind in enumerate(kinds):
        at = (x, y + k * (CELL + 4)) if down else (x + k * (CELL + 4), y)
        made.append(
            f'<rect class="{kind}" x="{at[0]:g}" y="{at[1]:g}" width="{CELL}" height="{CELL}" '
            'rx="3"/>'
        )
    return "\n".join(made)
