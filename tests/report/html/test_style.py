"""Colours can be told apart: 4.5 to 1 for text, 3 to 1 for marks, in light and in dark."""

import re

import pytest

from onnxprune.report.html.style import DARK, LIGHT, STYLE

TEXT = ("text", "muted", "after", "good", "bad")


def luminance(color: str) -> float:
    shares = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(f * s for f, s in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(colors: dict[str, str]) -> None:
    for name, color in colors.items():
        if name in TEXT:
            assert min(contrast(color, colors[g]) for g in ("card", "ground")) >= 4.5, name
        elif name not in ("card", "ground", "line", "room"):
            assert contrast(color, colors["card"]) >= 3, name


def test_black_on_white() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_both_schemes_have_the_same_colours_and_the_sheet_uses_no_other() -> None:
    assert LIGHT.keys() == DARK.keys()
    used = set(re.findall(r"var\(--(\w+)", STYLE)) - {"mark"}
    assert used <= LIGHT.keys()
    assert STYLE.count("{") == STYLE.count("}") and "url(" not in STYLE and "</" not in STYLE


def test_dark_and_paper_are_thought_of() -> None:
    assert "prefers-color-scheme:dark" in STYLE and "@media print" in STYLE
