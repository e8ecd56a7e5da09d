"""Elements are written balanced and escaped."""

import json

import pytest
from pages import HOSTILE, tree_of

from onnxprune.report.html.elements import el, html, prefixed, script_json, shown, style_sheet


def test_what_children_and_attributes_become() -> None:
    made = el("p", "a", None, 1, 2.5, [el("b", "c"), ("d", 0.125)], class_="x", aria_hidden=True,
              title=None, hidden=False, x=1.0)  # fmt: skip
    assert html(made) == '\n<p class="x" aria-hidden="" x="1">a12.5<b>c</b>d0.12</p>'
    assert html(el("br")) == "<br>"


def test_no_name_gets_out_of_its_place() -> None:
    tree = tree_of(html(el("p", HOSTILE, title=HOSTILE)))
    assert [tag for tag, _ in tree.tags] == ["p"] and not tree.unbalanced
    assert tree.text == " ".join(shown(HOSTILE).split())
    assert tree.all("p")[0]["title"] == shown(HOSTILE)


def test_what_cannot_be_seen_is_shown() -> None:
    assert shown("a\u202eb\x00\udc80\n") == "a\\u202eb\\x00\\udc80\n"
    assert shown("größe 量") == "größe 量"


def test_embedded_json_ends_no_script_and_is_read_back() -> None:
    values = {"a": [HOSTILE, 1.5, True, None], "b": {"c": ("d",)}}
    text = html(script_json("report", values))
    assert text.count("</script") == 1 and "\u202e" not in text
    inside = text.partition(">")[2].rpartition("</script>")[0]
    assert json.loads(inside) == {"a": [HOSTILE, 1.5, True, None], "b": {"c": ["d"]}}


def test_numbers_that_json_lacks_are_null() -> None:
    text = html(script_json("report", [float("nan"), float("inf"), 1.0]))
    assert "[null,null,1.0]" in text


def test_a_style_sheet_ends_no_element() -> None:
    assert html(style_sheet("a>b{}")) == "\n<style>a>b{}</style>"
    with pytest.raises(AssertionError, match="ends its element"):
        style_sheet("</style>")


def test_ids_of_parts() -> None:
    assert prefixed("", "costs") == "costs" and prefixed("stage-1", "costs") == "stage-1-costs"
