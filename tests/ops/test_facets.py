"""Operators are known by name in `onnxprune/ops` alone, and every facet is decided for each."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from architecture import PACKAGE, modules
from operator_kinds import FEW, GAPS, KINDS, lacking, named, operators, tables

from onnxprune import ops
from onnxprune.ops import facets, registry

MOST = 39
#: Where else an operator is named, and why; `ir` may not import `ops`.
ALLOWED = {
    "allocation.latency.kernel_blocks": {
        "Conv": "a fixed layer, whose time over its width says how many channels a block has",
        "MatMul": "the same for products of matrices",
    },
    "allocation.latency.timer": {
        "Conv": "a fixed piece of work, whose time says how fast the machine is at the moment",
        "Relu": "the least that can be run, whose time is the cost of running anything",
    },
    "ir.cast_like": {
        "CastLike": "a type that is known takes its place before any rule looks at the graph",
        "Cast": "what is written in its place",
    },
    "ir.control_flow": {
        "RandomUniformLike": "passes on a shape and no value, in the graph for shape inference",
        "Gather": "makes one row of a scanned tensor in that graph",
        "Unsqueeze": "adds the axis of rounds in that graph",
        "Shape": "how many rounds there are in that graph",
        "ConstantOfShape": "one position for each round in that graph",
    },
    "ir.edit": {
        "Where": "is written where some entries of a shape are computed, others fixed",
        "Mul": "is written where a mean goes on being divided by the old width",
    },
    "ir.exact_products": {
        "MatMulInteger": "a fixed product, whose sums say what the processor loses",
        "Cast": "is written to shift bytes",
        "Add": "is written to shift bytes",
    },
    "ir.graph": {"Constant": "holds a stored tensor"},
    "ir.instrument": {
        "Where": "is written to set dead positions to zero in the reference",
        "Gather": "is written to pick kept positions in the reference",
        "ReduceMean": "is written to put dead positions at the mean of others in the reference",
        "Cast": "turns which positions live into their share in that mean",
        "Div": "divides by that share",
    },
    "ir.normalize": {"Identity": "is written where a body returns what it does not make"},
    "ir.selection": {"Conv": "is written in place of slices and pads between convolutions"},
    "ir.shape_inference": {
        "Shape": "is evaluated from a shape without the tensor",
        "Size": "is evaluated from a shape without the tensor",
    },
    "ir.shared_tensors": {"Slice": "reads its own part of a shared vector"},
    "ir.skeleton": {
        "GroupNormalization": "onnx infers no shape for it: that of its input",
        "MeanVarianceNormalization": "onnx infers no shape for it: that of its input",
        "Imputer": "onnx infers no shape for it: that of its input",
        "Normalizer": "onnx infers no shape for it: that of its input",
        "Scaler": "onnx infers no shape for it: that of its input",
        "Identity": "stands for those in shape inference",
        "FusedConv": "onnx does not know it",
        "Conv": "stands for that in shape inference",
    },
    "ir.subgraphs": {
        "If": "holds a body for each way",
        "Loop": "holds a body for its rounds",
        "Scan": "holds a body for its rounds",
    },
    "ir.zero_biases": {"Add": "is written behind a layer that takes no bias"},
}
#: Facts about operators whose axes all stay whole.
FROZEN = {
    "FLAT": {"NonZero", "Range"},
    "MOVES": {"Range"},
    "PAIRS": {"com.microsoft:QAttention"},
    "RANDOM": {
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"),
        "RandomUniformLike",
    },
}


def literals(path: Path) -> Iterator[str]:
    """Names of operators among a file's strings, alone or in lists of words; no docstrings."""
    known = {*ops.COUPLINGS, *ops.BARRIERS}
    known |= {name.rpartition(":")[2] for name in known}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    told = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in told:
            words = node.value.split()
            if words and known.issuperset(words):
                yield from words


def test_operators_are_named_elsewhere_only_for_a_reason():
    found = {
        name: Counter(literals(path))
        for name, path in modules().items()
        if not name.startswith("ops")
    }
    once = {name: Counter(list(reasons)) for name, reasons in ALLOWED.items()}
    assert {name: count for name, count in found.items() if count} == once
    assert sum(map(len, ALLOWED.values())) <= MOST


def test_names_are_found(tmp_path: Path):
    text = '"""Relu."""\nA = "Relu"\nB = "Add Mul"\nC = f"Add {A}"\nD = "the Add"\n'
    path = tmp_path / "names.py"
    path.write_text(text + 'def f():\n    """Relu."""\n    return "com.microsoft:QuickGelu"\n')
    assert sorted(literals(path)) == ["Add", "Add", "Mul", "Relu", "com.microsoft:QuickGelu"]
    assert (PACKAGE / "ops").is_dir()


def test_every_operator_is_of_one_kind():
    listed = Counter(named(name) for names in KINDS.values() for name in names.split())
    assert listed == Counter(list(ops.COUPLINGS))


def test_every_facet_is_decided():
    assert not GAPS.keys() & FEW.keys()
    assert tables().keys() == GAPS.keys() | FEW.keys()


@pytest.mark.parametrize("facet", GAPS)
def test_who_lacks_a_facet_has_one_reason(facet: str):
    """A new operator is given the facet, or named in `operator_kinds` with a reason."""
    reasons = [name for _, names in lacking(GAPS[facet]) for name in sorted(names)]
    assert Counter(reasons) == Counter(ops.COUPLINGS.keys() - set(tables()[facet]))


@pytest.mark.parametrize("facet", FEW)
def test_who_has_a_narrow_facet(facet: str):
    names, reason = FEW[facet]
    assert reason and operators(names) == ops.COUPLINGS.keys() & set(tables()[facet])


def test_frozen_operators_have_no_facets_but_a_few():
    found = {facet: ops.BARRIERS.keys() & set(known) for facet, known in tables().items()}
    assert {facet: names for facet, names in found.items() if names} == FROZEN


def test_stating_a_fact_twice_raises():
    with pytest.raises(ValueError, match="Add is registered twice"):
        facets.state(facets.ARITHMETIC, "-", "Add")
    with pytest.raises(ValueError, match="Cast is registered twice"):
        facets.mark(facets.CASTS, "Cast")
    with pytest.raises(ValueError, match="Relu is registered twice"):
        registry.register(ops.GRADIENTS, ("Relu",))(lambda t, node, grads: list(grads))


@pytest.mark.parametrize(
    ("derived", "operator", "other"),
    [
        (ops.adds, "Sum", "Sub"),
        (ops.multiplies, "Div", "Pow"),
        (ops.passes, "Identity", "Cast"),
        (ops.chooses, "Where", "Max"),
        (ops.rearranges, "Split", "Concat"),
        (ops.is_activation, "Mish", "Erf"),
        (ops.rectifies, "Relu", "LeakyRelu"),
        (ops.convolves, "Conv", "ConvTranspose"),
        (ops.treats_alike, "Swish", "Softmax"),
        (ops.encodes, "DynamicQuantizeLinear", "DequantizeLinear"),
        (ops.keeps_encoding, "MaxPool", "AveragePool"),
    ],
)
def test_derived_facts(derived, operator: str, other: str):
    assert derived(operator) and not derived(other)
