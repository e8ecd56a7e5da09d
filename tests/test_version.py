"""One version, which building reads without importing the package."""

import ast
import re
from pathlib import Path

from paths import ROOT

import onnxprune
from onnxprune import version


def test_the_version_is_the_public_one_and_in_the_changelog() -> None:
    assert onnxprune.__version__ == version.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version.__version__)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(version.__version__)}\b", changelog, re.M)


def test_the_file_needs_nothing_else_to_be_read() -> None:
    """A literal that setuptools finds without running any code."""
    tree = ast.parse(Path(version.__file__).read_text(encoding="utf-8"))
    assigned = {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert assigned["__version__"] == version.__version__
    assert not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(tree))
    build = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'version = { attr = "onnxprune.version.__version__" }' in build
