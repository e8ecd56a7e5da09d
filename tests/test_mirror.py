"""Tests mirror the code: every module has a test of its name, and every test a module."""

import pytest
from architecture import PACKAGE, modules
from paths import ROOT

TESTS = ROOT / "tests"
#: Modules without a test of their own, and what tests them.
ELSEWHERE = {
    **dict.fromkeys(
        [
            f"ops.{name}"
            for name in (
                "attention_gradient contrib_gradient conv_gradient einsum_gradient "
                "elementwise_gradient gradients "
                "indexing_gradient matmul_gradient norm_gradient pooling_gradient "
                "recurrent_gradient reshape_gradient resizing_gradient rotary_gradient "
                "sharing_gradient slicing_gradient windows"
            ).split()
        ],
        "compensation/distillation/test_backward: against finite differences",
    ),
    **dict.fromkeys(
        ["ops.moments", "ops.moments_layers", "ops.moments_places"],
        "calibration/test_estimated_statistics: against what noise gives",
    ),
    **dict.fromkeys(
        ["ops.constants", "ops.constants_products", "ops.norm_constants", "ops.zero_channels"],
        "surgery/test_constant_propagation and surgery/test_lossless: against onnxruntime",
    ),
    **dict.fromkeys(
        ["ops.activations", "ops.derived", "ops.functions", "ops.registry", "ops.unsupported"],
        "ops/test_facets and ops/test_operators: every operator and every facet",
    ),
    **dict.fromkeys(["cli_measure", "cli_prune"], "test_cli: commands as users type them"),
    **dict.fromkeys(
        ["torch.changes", "torch.example_run", "torch.export"],
        "torch/test_prune: modules that are cut and exported again",
    ),
    **dict.fromkeys(["torch.origins", "torch.planned"], "torch/test_matching and torch/test_state"),
    "ops.attention_heads": "attention_test beside it",
    "ops.scaled_statistics": "norm_test and contrib_test beside it",
    "ops.dequantize": "end_to_end/test_quantized",
}
#: Tests of what is no single module.
WITHOUT_MODULE = {
    "ops/test_operators.py": "all operators of ops/",
    "surgery/test_lossless_attention.py": "surgery/lossless.py on attention",
    "test_architecture.py": "the whole package",
    "test_code_never_executed.py": "the whole package",
    "test_mirror.py": "the tests",
    "test_public_names.py": "__init__.py",
}
#: Folders of tests that are about more than one module.
WHOLE = {"end_to_end", "support", "tools", "golden"}


def files_of(module: str) -> list[str]:
    """Names of the files that test a module: in the folder of its name, or beside it."""
    parts = module.split(".")
    mirrored = TESTS.joinpath(*parts[:-1], f"test_{parts[-1]}.py")
    beside = PACKAGE.joinpath(*parts[:-1], f"{parts[-1]}_test.py")
    return [str(path) for path in (mirrored, beside) if path.exists()]


FILES = [name for name, path in modules().items() if not path.name.startswith("__")]


@pytest.mark.parametrize("module", FILES)
def test_a_module_has_a_test_or_a_reason(module: str) -> None:
    assert bool(files_of(module)) != (module in ELSEWHERE), ELSEWHERE.get(module, "no test")


def test_a_test_has_a_module_or_a_reason() -> None:
    missing = set()
    for path in TESTS.rglob("test_*.py"):
        place = path.relative_to(TESTS)
        if place.parts[0] not in WHOLE:
            module = ".".join((*place.parts[:-1], place.stem.removeprefix("test_")))
            if module not in FILES:
                missing.add(str(place))
    assert missing == WITHOUT_MODULE.keys()
