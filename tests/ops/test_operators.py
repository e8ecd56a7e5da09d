"""Every registered operator has a case, and registering twice is an error."""

import importlib
import subprocess
import sys
from itertools import zip_longest

import onnx
import pytest
from oracle import SKIPPED, Case
from paths import TOOLS

from onnxprune import ops
from onnxprune.groups.dependency import OLDEST
from onnxprune.ops import registry


def cases() -> list[Case]:
    """The cases beside the rules, of all families."""
    names = [family.__name__ for family in ops.FAMILIES]
    return [c for name in names for c in importlib.import_module(f"{name}_test").CASES]


def test_every_rule_has_a_case_that_runs() -> None:
    """What is listed as skipped covers nothing; an operator without any other case is named."""
    run = {op for case in cases() if case.text not in SKIPPED for op in case.ops}
    skipped = {op for case in cases() if case.text in SKIPPED for op in case.ops}
    assert ops.COUPLINGS.keys() - run == skipped - run


def test_only_cases_are_listed_as_skipped() -> None:
    assert SKIPPED.keys() <= {case.text for case in cases()}


def test_facets_belong_to_operators_with_a_rule() -> None:
    for table in (ops.SHRINKS, ops.MACS, ops.KERNELS, ops.SCALES, ops.DIVISORS, ops.SUMS):
        assert table.keys() <= ops.COUPLINGS.keys()
    assert ops.JUMPS | ops.QUANTIZED.keys() <= ops.COUPLINGS.keys()


def test_registering_twice_raises() -> None:
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


def test_every_operator_of_the_standard_has_a_rule_or_a_reason() -> None:
    everything = standard(OLDEST)
    assert {"Upsample", "Scatter", "GroupNormalization", "ai.onnx.ml:Scaler"} <= everything
    missing = everything - ops.COUPLINGS.keys() - ops.BARRIERS.keys()
    assert not missing, f"give them a rule, or a reason in onnxprune/ops/unsupported.py: {missing}"


def test_no_operator_is_both_pruned_and_frozen() -> None:
    assert not ops.COUPLINGS.keys() & ops.BARRIERS.keys()
    with pytest.raises(ValueError, match="NonZero is registered twice"):
        registry.barrier("again", "NonZero")


def test_the_tables_of_operators_are_current() -> None:
    tool = TOOLS / "op_table.py"
    subprocess.run([sys.executable, str(tool), "--check"], check=True)
