"""What is packaged says the same everywhere: versions, requirements, what is in the extras."""

import re
import tomllib

from paths import ROOT

from onnxprune.version import __version__

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RECIPE = (ROOT / "conda/recipe.yaml").read_text(encoding="utf-8")


def block(name: str) -> list[str]:
    """The items of a list in the recipe."""
    found = re.search(rf"^ +{name}:\n((?: +- .*\n)+)", RECIPE, re.MULTILINE)
    assert found is not None
    return re.findall(r"- (.*)", found[1])


def test_the_conda_recipe_is_of_this_version_and_asks_for_the_same() -> None:
    assert f'version: "{__version__}"' in RECIPE
    asked = {item.replace(" ", "") for item in block("run")}
    assert asked == {*PROJECT["dependencies"], f"python{PROJECT['requires-python']}"}
    (command,) = block("entry_points")
    assert command == "onnxprune = " + PROJECT["scripts"]["onnxprune"]
    assert f"summary: {PROJECT['description']}" in RECIPE and (ROOT / "LICENSE").exists()


def test_what_documentation_needs_is_an_extra_only() -> None:
    base = {re.split(r"[<>=]", name)[0] for name in PROJECT["dependencies"]}
    extra = {re.split(r"[<>=]", name)[0] for name in PROJECT["optional-dependencies"]["docs"]}
    assert extra == {"furo", "myst-parser", "sphinx", "sphinx-click"} and not base & extra
