"""The figures of a small house that is built here, each with something that counts and not."""

import sys
from pathlib import Path

import pytest
from paths import ROOT, TOOLS

sys.path.insert(0, str(TOOLS))

import house

FILES = {
    "onnxprune/__init__.py": "from onnxprune.pipeline.prune import prune\n",
    "onnxprune/types.py": "SIZE = 3\n",
    "onnxprune/ops/conv.py": 'CONVS = ("Conv", "com.acme:Swoosh")\n',
    "onnxprune/ops/conv_test.py": "from onnxprune.pipeline import prune\n",
    "onnxprune/groups/layers.py": '''
from onnxprune.ops import conv
from onnxprune.types import SIZE


def layer(pair: tuple[int, str], shape: tuple[int, int], rest: tuple[int, ...]) -> str:
    """Conv"""
    return "Relu"
''',
    "onnxprune/pipeline/prune.py": """
import onnxprune.types
from onnxprune.groups import layers

KNOWN = "Conv Swoosh".split()
TEXT = "Conv is an operator"


def prune(found: "Analysis", given: tuple[int, str] | None) -> None:
    lessons = [0]
    return lambda: aim_of(lessons)
""",
    "tests/groups/test_layers.py": "",
    "tests/groups/test_nothing.py": "",
    "tests/end_to_end/test_all.py": "",
    "docs/operators.md": "| operator | domain |\n| Conv | ai.onnx |\n| Relu | ai.onnx |\n"
    "| Swoosh | com.acme | frozen |\n",
}


@pytest.fixture
def small(tmp_path: Path) -> house.House:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return house.House(tmp_path)


EXPECTED = {
    "modules": 5,
    "modules at the root": 2,
    "folders": 3,
    "imports between places": 5,  # __init__ → pipeline → groups, types; groups → ops, types
    "imports between folders": 2,
    "places that import each other": 0,
    "imports between files": 5,
    "files over 300 lines": 0,
    "functions over 40 lines": 0,
    "operator names outside ops/": 3,  # Relu, and both of KNOWN
    "modules with such names": 2,
    "parameters that are anonymous tuples": 2,
    "private words in names": 4,  # lessons is bound, read; aim_of is read; found is the analysis
    "test files": 4,
    "modules without a test": 2,  # types, prune
    "tests without a module": 1,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_a_figure_counts(small: house.House, name: str):
    places = house.FIGURES[name](small)
    assert len(places) == EXPECTED[name], places


def test_long_functions_and_files(small: house.House):
    body = "\n".join(f"    x{k} = {k}" for k in range(45))
    path = small.package / "types.py"
    path.write_text(
        f"def f() -> None:\n{body}\n\n\nclass C:\n    def g(self) -> None:\n        pass\n"
    )
    assert house.long_functions(small, 40) == ["types.py:1: f, 46"]
    assert house.long_functions(small, 46) == []
    assert house.long_files(small, 50) == ["types.py: 51"]


def test_places_that_import_each_other(small: house.House):
    (small.package / "ops/conv.py").write_text("from onnxprune.groups import layers\n")
    assert house.mutual(small) == ["groups/ and ops/"]


def test_two_columns():
    assert house.table({"a": {"x": 1, "long": None}, "bcd": {"x": 20, "long": 3}}) == (
        "         a  bcd\nx        1   20\nlong  None    3"
    )


def test_analyses_of_this_checkout_are_counted():
    """Fails when the function that analyses a model is no longer found by its name."""
    count = house.analyses(ROOT)
    assert count is not None
    assert count >= 2  # the input and the result
