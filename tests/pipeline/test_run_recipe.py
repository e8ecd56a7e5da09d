"""Recipes: what they refuse, that stages follow each other, and that zeros survive integers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from external import external_digits
from networks import NETWORKS, samples_of
from paths import ROOT

import onnxprune
from onnxprune import ops
from onnxprune.allocation import widths
from onnxprune.allocation.latency.kernel_blocks import Blocks
from onnxprune.cli import main
from onnxprune.errors import InputError
from onnxprune.ir import tensors, zero_biases
from onnxprune.pipeline import quantize, run_recipe
from onnxprune.pipeline import recipe as recipes
from onnxprune.pipeline.paired_weights import INTEGERS

DIGITS = ROOT / "models" / "digits.onnx"
CALIB, TEST = ROOT / "models" / "digits_calib.npz", ROOT / "models" / "digits_test.npz"
STAGES = """
[[stage]]
kind = "prune"
target = { macs = 0.7 }
distill = false

[[stage]]
kind = "sparsify"
pattern = "2:4"
distill = false

[[stage]]
kind = "quantise"
"""


def run(*words: object, code: int = 0):
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result


def test_stages_follow_each_other_and_resume(tmp_path):
    recipe, report = tmp_path / "r.toml", tmp_path / "report.json"
    recipe.write_text(f'calib = "{CALIB}"\ncalib_samples = 64\ndata = "{TEST}"\n{STAGES}')
    words = ("run", recipe, DIGITS, tmp_path / "a.onnx", "--finished", tmp_path / "done",
             "--no-latency", "--report", report)  # fmt: skip
    run(*words)
    first = json.loads(report.read_text())
    kinds = [stage["kind"] for stage in first["stages"]]
    assert kinds == ["prune", "sparsify", "quantise"]
    assert all(stage["fidelity"]["accuracy"][1] > 0.97 for stage in first["stages"])
    sizes = [first["bytes"], *(stage["bytes"] for stage in first["stages"])]
    assert sizes[1] < sizes[0] and sizes[3] < sizes[2] / 2
    assert first["stages"][1]["details"]["density"] == 0.5
    run(*words[:3], tmp_path / "b.onnx", *words[4:])
    second = json.loads(report.read_text())
    assert all(stage["resumed"] for stage in second["stages"])
    assert second["recipe"] == first["recipe"]
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_other_options_and_other_models_give_another_key():
    stage = {"kind": "prune", "target": {"macs": 0.5}}
    made, own = (recipes.parsed({"stage": [s]}) for s in (stage, {**stage, "round_to": 8}))
    keys = {
        run_recipe.stage_key(before, each.stages[0], onnxprune.Settings(), "")
        for before in ("a", "b")
        for each in (made, own)
    }
    assert len(keys) == 4


def test_the_key_counts_what_a_loss_of_ones_own_says(tmp_path: Path):
    file, keys = tmp_path / "own.py", set[str]()
    stage = recipes.StageOf("finetune", {"loss": {f"{file}:loss": 1.0}})
    for text in ("loss = 1", "loss = 2", "loss = 1"):
        file.write_text(text)
        keys.add(run_recipe.stage_key("a", stage, onnxprune.Settings(), ""))
    assert len(keys) == 2


def test_the_key_counts_all_files_of_a_folder(tmp_path: Path):
    stage, keys = recipes.StageOf("finetune", {"data": str(tmp_path)}), set[str]()
    for name, text in (("a.npz", "1"), ("a.npz", "2"), ("b.npz", "2")):
        (tmp_path / name).write_text(text)
        keys.add(run_recipe.stage_key("a", stage, onnxprune.Settings(), ""))
    assert len(keys) == 3


def test_files_that_stages_lack_are_refused_before_any_stage(tmp_path: Path):
    """Nothing is read before: the model is missing too."""
    stages = [{"kind": "prune"}, {"kind": "finetune", "data": "no.npz"}]
    with pytest.raises(InputError, match=r"finetune: data 'no\.npz': no such file\. Correct"):
        onnxprune.run(recipes.parsed({"stage": stages}), tmp_path / "no.onnx")


@pytest.mark.parametrize(("stage", "depends"), [
    ({"kind": "prune", "target": {"macs": 0.5}}, True),
    ({"kind": "prune", "target": {"macs": 0.5}, "round_to": 8}, False),
    ({"kind": "prune", "target": {"latency": 0.5}}, False),
    ({"kind": "sparsify", "sparsity": 0.5}, False),
])  # fmt: skip
def test_a_key_counts_the_blocks_that_a_plan_lies_on(
    stage: dict[str, Any], depends: bool, monkeypatch: pytest.MonkeyPatch
):
    (parsed,) = recipes.parsed({"stage": [stage]}).stages
    keys = set[str]()
    for sizes in ((16, 16), (8, 16), (8, 8)):
        monkeypatch.setattr(widths, "kernel_blocks", lambda _device, s=sizes: Blocks(*s))
        keys.add(run_recipe.stage_key("a", parsed, onnxprune.Settings(), ""))
    assert len(keys) == (3 if depends else 1)


def test_then_is_a_recipe(tmp_path):
    out = tmp_path / "out.onnx"
    run("prune", DIGITS, out, "--target", "macs=0.7", "--then", "sparsify=0.5", "--no-latency",
        "--then", "quantise=dynamic")  # fmt: skip
    ops = {node.op_type for node in onnx.load(out).graph.node}
    assert "ConvInteger" in ops
    result = run("prune", DIGITS, out, "--target", "macs=0.7", "--then", "shrink=2", code=2)
    assert "sparsify=2:4" in result.output


def test_options_of_prune_are_not_those_of_later_stages(tmp_path):
    report = tmp_path / "report.json"
    run("prune", DIGITS, tmp_path / "out.onnx", "--target", "macs=0.7", "--exclude", "fc1",
        "--then", "sparsify=0.5", "--no-latency", "--report", report)  # fmt: skip
    first, second = json.loads(report.read_text())["stages"]
    assert not any("fc1" in group["name"] for group in first["details"]["groups"])
    assert any("fc1" in layer["name"] for layer in second["details"]["layers"])


def test_a_recipe_has_no_score_to_search_for():
    recipe = recipes.parsed({"stage": [{"kind": "sparsify", "sparsity": 0.5}]})
    with pytest.raises(InputError, match="max_drop searches for one target: give it to prune"):
        run_recipe.run(recipe, NETWORKS["chain"](), max_drop=0.1, evaluate=lambda session: 1.0)


@pytest.mark.parametrize("mode", quantize.MODES)
def test_zeros_stay_zeros_in_integers(mode):
    model = zero_biases.biased(NETWORKS["residual_spine"](), ops.LAYERS)
    feeds = samples_of(model, np.random.default_rng(0))
    recipe = recipes.parsed({
        "stage": [{"kind": "sparsify", "sparsity": 0.75, "compensate": False},
                  {"kind": "quantise", "mode": mode}],
        "calib": feeds,
    })  # fmt: skip
    made = run_recipe.run(recipe, model, latency=False).model
    weights = [
        tensors.array(t)
        for t in made.graph.initializer
        if t.name.endswith(INTEGERS) and len(t.dims) > 1
    ]
    assert weights and all(w.dtype == np.int8 for w in weights)
    zeros = sum(int((w == 0).sum()) for w in weights)
    assert zeros >= 0.74 * sum(w.size for w in weights)


def test_inspect_says_what_tensorrt_makes_of_it(tmp_path):
    out = tmp_path / "out.onnx"
    run("sparsify", DIGITS, out, "--pattern", "2:4", "--no-latency", "-q")
    rows = json.loads(run("inspect", out, "--sparsity", "--json").output)["layers"]
    verdicts = {row["name"]: (row["patterns"], row["tensorrt"], row["unlikely"]) for row in rows}
    patterns, why, unlikely = verdicts["stage1.0.conv1.weight"]
    assert "2:4" in patterns and not why and "rarely chosen" in unlikely
    assert verdicts["stage2.0.depthwise.weight"][1] == "a convolution of 96 groups"
    text = run("inspect", DIGITS, "--sparsity").output
    assert "hold more than two numbers" in text and "not faster" in text


def test_a_recipe_takes_a_model_with_weights_in_another_file(tmp_path):
    path = external_digits(tmp_path)
    (tmp_path / "r.toml").write_text('[[stage]]\nkind = "sparsify"\nsparsity = 0.5\n')
    run("run", tmp_path / "r.toml", path, tmp_path / "out.onnx", "--no-latency", "-q")
    made = onnx.load(tmp_path / "out.onnx")
    zeros = [(tensors.array(t) == 0).mean() for t in made.graph.initializer if len(t.dims) > 1]
    assert np.mean(zeros) > 0.3
