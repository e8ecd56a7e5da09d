"""What a user teaches the tool about an operator: in Python, and in a file of rules."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from networks import NETWORKS, Net
from onnx import TensorProto, helper
from paths import ROOT

import onnxprune
from onnxprune import InputError, ProofError, TargetError, ops
from onnxprune.cli import main
from onnxprune.groups.analysis import analyze
from onnxprune.ops import user_rules
from onnxprune.settings import Settings
from onnxprune.surgery.cut import cut, running
from onnxprune.types import Axis, Frozen, Node, Tensor

ECHO, WARP = "com.microsoft:SampleOp", "com.microsoft:GridSample"
DECONV = "com.microsoft:ConvTransposeWithDynamicPads"
PRUNE: dict[str, Any] = {"target": {"macs": 0.7}, "latency": False}


def between(node, n: Net, n_in: int = 8, size: int = 8) -> onnx.ModelProto:
    """Conv, `node`, Conv; the file declares every shape, as exporters do."""
    y = node(n.conv("x", 3, 8))
    model = n.model(n.conv(n.relu(y), n_in, 4))
    made = helper.make_tensor_value_info(y, TensorProto.FLOAT, (2, n_in, size, size))
    model.graph.value_info.append(made)
    return onnx.shape_inference.infer_shapes(model)


def echo() -> onnx.ModelProto:
    """An operator of onnxruntime's own that no rule speaks of; it copies."""
    n = Net(x=(2, 3, 8, 8))
    return between(lambda y: n.op("SampleOp", y, domain="com.microsoft"), n)


def warped() -> onnx.ModelProto:
    """Samples every channel at the points of a second input."""
    n = Net(x=(2, 3, 8, 8), at=(2, 5, 5, 2))
    return between(lambda y: n.op("GridSample", y, "at", domain="com.microsoft"), n, size=5)


def softmax() -> onnx.ModelProto:
    n = Net(x=(2, 3, 8, 8))
    return between(lambda y: n.op("Softmax", n.relu(y), axis=1), n)


def scaled(size: int) -> onnx.ModelProto:
    """PRelu reads its slope along the last axis, which is that of the channels here."""
    n = Net(x=("N", 8, 8, 3))
    y = n.op("MatMul", "x", n.weight(3, 8))
    y = n.op("PRelu", y, n.weight(size, name="slope"))
    return n.model(n.op("MatMul", y, n.weight(8, 4)))


@pytest.fixture
def file(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "rules.toml"
        path.write_text(text)
        return path

    return write


def kept(model: onnx.ModelProto, **settings) -> list[int]:
    result = onnxprune.prune(model, **PRUNE, **settings)
    assert result.report.proof.passed
    onnx.checker.check_model(result.model)
    return [group["kept"] for group in result.report.groups]


@pytest.mark.parametrize(
    ("build", "op", "text"),
    [
        (echo, ECHO, 'kind = "elementwise"'),
        (echo, ECHO, 'kind = "passes"\naxes = [0, 1, 2, 3]'),
        (echo, ECHO, 'kind = "passes"\naxes = [-3]'),
        (warped, WARP, 'kind = "passes"\naxes = [0, 1]'),
    ],
)
def test_a_rule_frees_what_was_frozen(build, op: str, text: str, file):
    with pytest.raises(TargetError, match=f"no rule for operator {op}"):
        onnxprune.prune(build(), **PRUNE)
    (left,) = kept(build(), rules=file(f'["{op}"]\n{text}'))
    assert left < 8


def test_axes_that_are_not_listed_stay():
    rules = {WARP: {"kind": "passes", "axes": [0]}}
    with pytest.raises(TargetError, match="does not treat the positions of axis 1 one by one"):
        onnxprune.prune(warped(), rules=rules, **PRUNE)


def test_a_mapping_says_the_same_as_a_file(file):
    table = {"kind": "elementwise"}
    assert kept(echo(), rules={ECHO: table}) == kept(
        echo(), rules=file(f'["{ECHO}"]\nkind = "elementwise"')
    )


def test_rules_hold_for_one_call():
    before = dict(ops.COUPLINGS)
    kept(echo(), rules={ECHO: {"kind": "elementwise"}})
    assert before == ops.COUPLINGS
    with pytest.raises(TargetError):
        onnxprune.prune(echo(), **PRUNE)


def test_they_hold_in_every_stage():
    """Lossless removal surveys the model, and what it leaves, with the same rules."""
    model = echo()
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[:3] = 0
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "c0"))
    bias = np.array([0, 0, 0, 1, 1, 1, 1, 1], np.float32)
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(bias, "c1"))
    (left,) = kept(model, rules={ECHO: {"kind": "elementwise"}}, lossless=True)
    assert left < 8


def test_a_barrier_says_why():
    rules = {"Relu": {"kind": "barrier", "reason": "it is not what it seems", "override": True}}
    with pytest.raises(TargetError, match="it is not what it seems"):
        onnxprune.prune(NETWORKS["chain"](), rules=rules, **PRUNE)


def test_a_parameter_runs_along_an_axis_of_the_result():
    declared = {"kind": "elementwise", "override": True, "parameters": {1: -1}}
    model = scaled(8)
    analysis = analyze(model, Settings(rules={"PRelu": declared}))
    (group,) = analysis.groups
    assert Axis("slope", 0) in dict(group.axes())
    assert kept(model, rules={"PRelu": declared}) == kept(model)
    assert len(analyze(scaled(1), Settings(rules={"PRelu": declared})).groups) == 1


def test_a_parameter_of_another_size_freezes_the_axis():
    (rule,) = [user_rules.merged({ECHO: {"kind": "elementwise", "parameters": {1: 1}}})[ECHO]]
    x, k, y = Tensor("x", (2, 6)), Tensor("k", (3,)), Tensor("y", (2, 6))
    frozen = [fact for fact in rule(Node("n", ECHO, (x, k), (y,))) if isinstance(fact, Frozen)]
    assert [f.axis for f in frozen] == [Axis("y", 1)]
    assert frozen[0].reason == (
        "'k' of shape [3] is declared a vector along axis 1, which has 6 positions"
    )


def test_a_wrong_rule_is_caught_and_nothing_written(file, tmp_path: Path):
    model, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    onnx.save(softmax(), model)
    rules = file('[Softmax]\nkind = "elementwise"\noverride = true\n')
    words = ["prune", model, out, "--target", "ratio=0.2", "--no-latency", "--rules", rules]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 1
    assert "group 'c0' is cut wrongly" in result.output and "Nothing was written" in result.output
    assert not out.exists()


def test_commands_take_rules(file, tmp_path: Path):
    def run(*words: object) -> str:
        result = CliRunner().invoke(main, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.output

    model, plan, out = (tmp_path / name for name in ("in.onnx", "plan.json", "out.onnx"))
    onnx.save(echo(), model)
    rules = file(f'["{ECHO}"]\nkind = "elementwise"\n')
    assert "state one with --rules" in run("inspect", model)
    assert "1 groups" in run("inspect", model, "--rules", rules)
    assert f"{ECHO}  elementwise, by {rules}" in run("ops", "--rules", rules).splitlines()
    assert ECHO not in run("ops")
    words = ["--no-latency", "-q", "--rules", rules]
    run("prune", model, out, "--target", "macs=0.7", "--plan", plan, "--no-compensate", *words)
    small = out.read_bytes()
    run("apply", model, plan, out, *words)
    assert out.read_bytes() == small


BAD = [
    ("[x", "not a TOML file"),
    ('kind = "elementwise"', "[\"kind\"] is 'elementwise'. Write the operator in brackets"),
    ('[com.acme.Op]\nkind = "elementwise"', '["com"]: not an operator. Write Op or ["domain:Op"]'),
    ('["a b"]\nkind = "elementwise"', '["a b"]: not an operator'),
    ('["a:Op"]', '["a:Op"]: kind is missing. There are: elementwise, passes, barrier'),
    ('["a:Op"]\nknid = "passes"', "unknown key 'knid'. Did you mean 'kind'?"),
    ('["a:Op"]\nkind = "elmentwise"', "unknown kind 'elmentwise'. Did you mean 'elementwise'?"),
    ('["a:Op"]\nkind = ["passes"]', "unknown kind"),
    ('["a:Op"]\nkind = "passes"\naxis = [1]', "unknown key 'axis'. Did you mean 'axes'?"),
    ('["a:Op"]\nkind = "elementwise"\naxes = [1]', "unknown key 'axes'. There are: kind,"),
    ('["a:Op"]\nkind = "passes"', "axes is missing. List the axes that pass"),
    ('["a:Op"]\nkind = "passes"\naxes = 1', "axes is 1. List the axes"),
    ('["a:Op"]\nkind = "passes"\naxes = [true]', "axes is [True]"),
    ('["a:Op"]\nkind = "passes"\naxes = [0]\nparameters = {1 = 1}', "input 1 runs along axis 1"),
    ('["a:Op"]\nkind = "elementwise"\nparameters = [1]', "parameters is [1]. Write { input ="),
    ('["a:Op"]\nkind = "elementwise"\nparameters = {k = 1}', "parameters is {'k': 1}"),
    ('["a:Op"]\nkind = "barrier"', "reason is missing. Say why"),
    ('["a:Op"]\nkind = "barrier"\nreason = ""', "reason is ''"),
    ('[Conv]\nkind = "elementwise"', "Conv has a rule already. Write override = true"),
    ('[Conv]\nkind = "elementwise"\noverride = "yes"', "override is 'yes'. Write true or false"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[m for _, m in BAD])
def test_what_cannot_be_meant(text: str, message: str, file, tmp_path: Path):
    """One line that names file and table, exit code 2, nothing written."""
    model, out, rules = tmp_path / "in.onnx", tmp_path / "out.onnx", file(text)
    onnx.save(NETWORKS["chain"](), model)
    words = ["prune", model, out, "--target", "macs=0.7", "--rules", rules]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 2
    assert result.output.startswith(f"Error: {rules}: ") and message in result.output
    assert result.output.count("\n") == 1 and not out.exists()


def test_a_file_that_is_missing(tmp_path: Path):
    with pytest.raises(InputError, match=r"none.toml: no such file. Give a TOML file of rules"):
        onnxprune.prune(echo(), rules=tmp_path / "none.toml", **PRUNE)
    with pytest.raises(InputError, match="cannot be read"):
        onnxprune.prune(echo(), rules=tmp_path, **PRUNE)


@pytest.fixture
def registered():
    """Lets a test register rules, and takes them back afterwards."""
    tables: tuple[dict[str, Any], ...] = (ops.COUPLINGS, ops.KERNELS, ops.MACS, ops.SHRINKS)
    before = [dict(table) for table in tables]
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


def deconvolution() -> onnx.ModelProto:
    """onnxruntime's transposed convolution whose pads are an input."""
    n = Net(x=(2, 3, 8, 8))
    pads = n.const(np.zeros(4, np.int64))
    return between(
        lambda y: n.op(
            "ConvTransposeWithDynamicPads", y, n.weight(8, 6, 2, 2, name="w"), pads, n.weight(6),
            domain="com.microsoft", strides=[2, 2],
        ),
        n, 6, 16,
    )  # fmt: skip


def example(language: str, word: str) -> str:
    """The block of the document that holds a word."""
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if word in b]
    return block


@pytest.mark.usefixtures("registered")
def test_registration_in_python():
    """The document's example: with rule, weight and cost the operator makes groups and MACs."""
    with pytest.raises(TargetError, match=f"no rule for operator {DECONV}"):
        onnxprune.prune(deconvolution(), **PRUNE)
    plain = analyze(deconvolution()).cost.full[0]
    exec(example("python", DECONV), {})
    analysis = analyze(deconvolution())
    assert analysis.cost.full[0] - plain == 2 * 8 * 8 * 8 * 6 * 2 * 2
    assert {group.name: group.channels for group in analysis.groups} == {"c1": 8, "w": 6}
    assert len(kept(deconvolution())) == 2


def test_the_file_in_the_document(file):
    rules = file(example("toml", "com.acme"))
    assert [table.kind for table in user_rules.read(rules).values()] == [
        "elementwise", "passes", "barrier",
    ]  # fmt: skip
    assert kept(warped(), rules=rules)[0] < 8


@pytest.mark.usefixtures("registered")
def test_a_wrong_registration_is_caught():
    @onnxprune.couples(DECONV)
    def swapped(node):
        x, w, y = node.inputs[0], node.inputs[1], node.outputs[0]
        yield from onnxprune.same(x, 0, y, 0)
        yield onnxprune.Coupling(x.at(1), w.at(0), np.arange(8), np.arange(8)[::-1])

    analysis = analyze(deconvolution())
    alive = [np.arange(group.channels) % 3 > 0 for group in analysis.groups]
    with running(analysis, Settings()) as original, pytest.raises(ProofError, match="cut wrongly"):
        cut(analysis, alive, Settings(), original)
