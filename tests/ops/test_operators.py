"""Every registered operator has a case, and registering twice is an error."""

import importlib
import subprocess
import sys
from itertools import zip_longest

import onnx
import pytest
from paths import TOOLS

from onnxprune import ops
from onnxprune.groups.dependency import OLDEST
from onnxprune.ops import registry


def cased() -> set[str]:
    names = [family.__name__ for family in ops.FAMILIES]
    modules = [importlib.import_module(f"{name}_test") for name in names]
    return {op for module in modules for case in module.CASES for op in case.ops}


def test_every_rule_has_a_case():
    assert ops.COUPLINGS.keys() - cased() == set()


def test_facets_belong_to_operators_with_a_rule():
    for table in (ops.SHRINKS, ops.MACS, ops.KERNELS, ops.SCALES, ops.DIVISORS, ops.SUMS):
        assert table.keys() <= ops.COUPLINGS.keys()
    assert ops.JUMPS | ops.QUANTIZED.keys() <= ops.COUPLINGS.keys()


def test_registering_twice_raises():
    with pytest.raises(ValueError, match="Conv is registered twice"):
        registry.couples("Conv")(lambda node: ())


def standard(oldest: int) -> set[str]:
    """Every operator of onnx that is current in some opset from `oldest` on."""
    history: dict[tuple[str, str], list[onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        history.setdefault((schema.domain, schema.name), []).append(schema)
    found = set()
    for (domain, name), schemas in history.items():
        schemas.sort(key=lambda schema: schema.since_version)
        for schema, following in zip_longest(schemas, schemas[1:]):
            reached = domain or not following or following.since_version > oldest
            if reached and not schema.deprecated:
                found.add(f"{domain}:{name}" if domain else name)
    return found


def test_every_operator_of_the_standard_has_a_rule_or_a_reason():
    everything = standard(OLDEST)
    assert {"Upsample", "Scatter", "GroupNormalization", "ai.onnx.ml:Scaler"} <= everything
    missing = everything - ops.COUPLINGS.keys() - ops.BARRIERS.keys()
    assert not missing, f"give them a rule, or a reason in onnxprune/ops/unsupported.py: {missing}"


def test_no_operator_is_both_pruned_and_frozen():
    assert not ops.COUPLINGS.keys() & ops.BARRIERS.keys()
    with pytest.raises(ValueError, match="NonZero is registered twice"):
        registry.barrier("again", "NonZero")


def test_the_tables_of_operators_are_current():
    tool = TOOLS / "op_table.py"
    subprocess.run([sys.executable, str(tool), "--check"], check=True)
