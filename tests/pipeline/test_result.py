"""What comes out of a run: the model, one plan for all stages, and a report that adds up."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from cuts import cut_to, masks_without
from networks import NETWORKS
from onnx import ModelProto
from paths import MODELS
from text_models import perceptron, stored_array, text_model

import onnxprune
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import graph, save, tensors
from onnxprune.ir.model import read_model
from onnxprune.pipeline.result import Request, Result, finished
from onnxprune.settings import Settings
from onnxprune.surgery.cut import Stage
from onnxprune.types import Axis

DIGITS = MODELS / "digits.onnx"
QUIET = Settings(latency=False)


def result_of(model: ModelProto, *stages: Stage, **target: float) -> Result:
    return finished(Request(read_model(model), target), analyze(model), stages, QUIET)


def two_steps() -> tuple[ModelProto, list[Stage]]:
    """Of five hidden units the second and fourth go, and then the second of what is left."""
    text = """
    net (float[N, 3] x) => (float[N, 2] y) {
        h = Gemm <transB = 1> (x, a)
        r = Relu (h)
        y = Gemm <transB = 1> (r, c)
    }
    """
    model = text_model(text, a=(5, 3), c=(2, 5))
    first = analyze(model)
    stages = [cut_to(first, masks_without(first, a=[1, 3]))]
    second = analyze(stages[0].model)
    stages.append(cut_to(second, masks_without(second, a=[1])))
    return model, stages


def test_one_plan_says_what_all_stages_did() -> None:
    model, stages = two_steps()
    result = result_of(model, *stages)
    assert result.plan.keep[Axis("a", 0)].tolist() == [0, 4]
    assert result.plan.size[Axis("a", 0)] == 5
    assert np.array_equal(stored_array(result.model, "a"), stored_array(model, "a")[[0, 4]])
    content = json.loads(result.plan_json)
    assert [(entry["tensor"], entry["keep"]) for entry in content["axes"]] == [
        ("a", [0, 4]),
        ("c", [0, 4]),
    ]


def test_costs_before_and_after_are_those_of_the_two_files() -> None:
    """Of 3 → 5 → 2 a network of 3 → 2 → 2 is left."""
    model, stages = two_steps()
    report = result_of(model, *stages, macs=0.5).report
    assert (report.before.macs, report.before.params) == (3 * 5 + 5 * 2, 25)
    assert (report.after.macs, report.after.params) == (3 * 2 + 2 * 2, 10)
    assert report.before.bytes == save.file_bytes(model)
    assert report.after.bytes == save.file_bytes(stages[-1].model)
    assert report.achieved["macs"] == report.achieved["params"] == 0.4
    assert report.achieved["ratio"] == 2 / 5 and report.target == {"macs": 0.5}
    assert "latency" not in report.achieved and report.before.latency is None


def test_what_stages_before_the_last_did_is_noted() -> None:
    model, stages = two_steps()
    assert result_of(model, *stages).report.notes == ["a step before removed 2 channels"]
    assert result_of(model, stages[0]).report.notes == []


def test_the_report_compares_with_the_model_that_was_given() -> None:
    """The outputs of the last stage alone would be those of a model that was cut already."""
    model, stages = two_steps()
    drift = result_of(model, *stages).report.fidelity
    direct = result_of(model, stages[0]).report.fidelity
    assert drift is not None and direct is not None
    assert drift.cosine < 0.999999 and direct.cosine < 0.999999 and drift.cosine != direct.cosine
    whole = analyze(model)
    nothing = result_of(model, cut_to(whole, masks_without(whole))).report.fidelity
    assert nothing is not None and nothing.cosine == pytest.approx(1) and nothing.sqnr_db is None


def test_the_model_is_saved_as_it_is(tmp_path: Path) -> None:
    model, stages = two_steps()
    result = result_of(model, *stages)
    (path,) = result.save(tmp_path / "out.onnx")
    assert graph.model_bytes(onnx.load(path)) == graph.model_bytes(result.model)
    assert result.original.proto == model


def test_a_plan_speaks_of_no_bias_that_was_added(tmp_path: Path) -> None:
    """Another checkpoint has none of them: the plan could not be replayed."""
    model = text_model("net (float[N, 3] x) => (float[N, 2] y) "
                       "{ h = MatMul (x, a) y = MatMul (h, c) }", a=(3, 4), c=(4, 2))  # fmt: skip
    analysis: Analysis = analyze(model, biases=True)
    stage = cut_to(analysis, masks_without(analysis, a=[1]))
    result = finished(Request(read_model(model)), analysis, [stage], QUIET)
    assert {entry["tensor"] for entry in json.loads(result.plan_json)["axes"]} == {"a", "c"}
    assert result.report.before.params == 3 * 4 + 4 * 2


def test_a_plan_lists_every_changed_axis() -> None:
    result = onnxprune.prune(DIGITS, {"macs": 0.6}, latency=False)
    content = json.loads(result.plan_json)
    assert content["model_sha256"] == hashlib.sha256(DIGITS.read_bytes()).hexdigest()
    before, after = (
        {name: tensors.array(tensor) for name, tensor in graph.constants(model).items()}
        for model in (onnx.load(DIGITS), result.model)
    )
    listed = {(a["tensor"], a["axis"]): a for a in content["axes"]}
    for name, values in before.items():
        for axis, size in enumerate(values.shape):
            entry = listed.get((name, axis))
            left = after[name].shape[axis]
            assert (entry is None) == (left == size)
            assert entry is None or (entry["size"], len(entry["keep"])) == (size, left)


def test_vectors_that_were_shared_are_noted_and_do_not_tie_layers() -> None:
    model = NETWORKS["shared_zero_bias"]()
    report = onnxprune.prune(model, {"macs": 0.4}, latency=False, round_to=1).report
    note = "'zero' was shared by several operators; each got its own copy"
    assert report.notes.count(note) == 1
    widths = [group["kept"] for group in report.groups]
    assert len(widths) == 3 and len(set(widths)) > 1


def test_tied_weights_are_noted_and_lose_the_same_channels() -> None:
    result = onnxprune.prune(NETWORKS["tied_convolutions"](), {"macs": 0.5}, latency=False)
    (tied,) = (t for t in result.model.graph.initializer if t.name == "tied")
    assert tied.dims[0] == tied.dims[1] < 16
    assert "'tied' is used by 2 operators: all lose the same channels" in result.report.notes


def test_inexact_cuts_are_noted_with_what_they_change() -> None:
    text = """
    net (float[N, 3] x) => (float[N, 2] y) {
        h = MatMul (x, a)
        n = Softmax (h)
        y = MatMul (n, c)
    }
    """
    settings = Settings(latency=False, allow_inexact=True)
    model = text_model(text, a=(3, 4), c=(4, 2))
    analysis = analyze(model, settings)
    for gone, count in (([1, 2], 1), ([], 0)):
        stage = cut_to(analysis, masks_without(analysis, a=gone), settings)
        notes = finished(Request(read_model(model)), analysis, [stage], settings).report.notes
        begin = "inexact: 2 channels went although that changes the sum of Softmax;"
        assert [note.startswith(begin) for note in notes] == [True] * count


def test_groups_that_failed_the_proof_are_noted() -> None:
    model = perceptron()
    analysis = analyze(model)
    stage = replace(cut_to(analysis, masks_without(analysis, a=[0])), spared=("c7",))
    assert result_of(model, stage).report.notes == [
        "group 'c7' failed the proof and stays whole: please report the model"
    ]
