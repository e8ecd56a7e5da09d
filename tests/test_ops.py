"""Every registered operator has a case, and registering twice is an error."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from onnxprune import ops
from onnxprune.ops import registry


def cased() -> set[str]:
    names = [family.__name__ for family in ops.FAMILIES]
    modules = [importlib.import_module(f"{name}_test") for name in names]
    return {op for module in modules for case in module.CASES for op in case.ops}


def test_every_rule_has_a_case():
    assert ops.COUPLINGS.keys() - cased() == set()


def test_facets_belong_to_operators_with_a_rule():
    for table in (ops.SHRINKS, ops.MACS, ops.KERNELS, ops.SCALES, ops.DIVISORS):
        assert table.keys() <= ops.COUPLINGS.keys()


def test_registering_twice_raises():
    with pytest.raises(ValueError, match="Conv is registered twice"):
        registry.couples("Conv")(lambda node: ())


def test_the_table_in_the_readme_is_current():
    tool = Path(__file__).resolve().parents[1] / "tools" / "op_table.py"
    subprocess.run([sys.executable, str(tool), "--check"], check=True)
