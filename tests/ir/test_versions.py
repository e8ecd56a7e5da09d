"""Versions by name, as the packages tell them."""

from importlib.metadata import version

from onnxprune.ir.versions import versions


def test_versions_are_those_that_are_installed() -> None:
    found = versions()
    assert {"onnxprune", "Python"} < found.keys()
    for name in ("numpy", "onnx"):
        assert found[name] == version(name)
    assert found["onnxruntime"][0].isdigit()
