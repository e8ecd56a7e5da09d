"""A model looks at less of its input where that loses less than channels do, if it is asked to."""

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from networks import Net
from spatial_networks import centred, centred_samples, flattened

import onnxprune
from onnxprune.allocation.latency import search, timer
from onnxprune.allocation.latency.timer import TimedModel
from onnxprune.calibration.samples import calibration
from onnxprune.errors import InputError, TargetError
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph
from onnxprune.pipeline import choose_extent as choosing
from onnxprune.pipeline.choose_extent import choose_extent
from onnxprune.pipeline.prune_calibrated import measured_groups
from onnxprune.pipeline.result import Result
from onnxprune.settings import Settings

MODEL = centred()
ASKED: dict[str, Any] = {"calib": centred_samples(), "latency": False, "distill": False}
ASKED["round_to"] = 1


@cache
def first() -> Result:
    return onnxprune.prune(MODEL, {"macs": 0.6}, spatial=True, **ASKED)


@pytest.fixture
def result() -> Result:
    return first()


def test_a_border_without_content_goes_first(result: Result):
    assert result.extent is not None and result.extent.axes == (3,)
    assert result.model.graph.node[0].op_type == "Slice"
    assert result.report["achieved"]["macs"] <= 0.6
    narrow = onnxprune.prune(MODEL, {"macs": 0.6}, **ASKED)
    kept = [sum(row["kept"] for row in r.report["groups"]) for r in (result, narrow)]
    assert kept[0] > kept[1]
    (note,) = (note for note in result.report.notes if "no longer looked at" in note)
    assert "px of 16 at the left and right border of 'x' are cut off" in note
    assert "equals the original on less of its input" in note


def test_inputs_and_outputs_stay(result: Result):
    assert graph.interface(result.model) == graph.interface(MODEL)
    assert result.report.proof.passed


def test_the_plan_says_it_and_is_replayed_to_the_same_graph(result: Result, tmp_path: Path):
    plan = tmp_path / "plan.json"
    plan.write_text(result.plan_json)
    assert json.loads(result.plan_json)["extent"]["kind"] == "crop"
    replayed = onnxprune.apply(MODEL, plan, latency=False)
    assert replayed.extent == result.extent and replayed.plan_json.count("axis")
    assert [n.op_type for n in replayed.model.graph.node] == [
        n.op_type for n in result.model.graph.node
    ]
    shapes = [
        {t.name: tuple(t.dims) for t in r.model.graph.initializer} for r in (result, replayed)
    ]
    assert shapes[0] == shapes[1]
    plan.write_text(result.plan_json.replace('"full": [16]', '"full": [20]'))
    with pytest.raises(InputError, match="axis 3 of input 'x' to have 20 positions; the model"):
        onnxprune.apply(MODEL, plan, latency=False)


def test_same_bytes(result: Result):
    again = onnxprune.prune(MODEL, {"macs": 0.6}, spatial=True, **ASKED)
    assert graph.model_bytes(again.model) == graph.model_bytes(result.model)
    assert again.plan_json == result.plan_json


def test_nothing_is_cut_off_where_everything_counts():
    rng = np.random.default_rng(3)
    x = {"x": rng.standard_normal((32, 3, 16, 16)).astype(np.float32)}
    found = choose_extent(analyze(MODEL, biases=True), {"macs": 1e12}, Settings(calib=x))
    assert found.extent is None and found.notes[0].startswith("all of input 'x' is looked at: of 1")


def test_without_being_asked_there_is_a_hint():
    told = onnxprune.prune(MODEL, {"macs": 0.6}, **ASKED)
    assert told.extent is None and "extent" not in json.loads(told.plan_json)
    assert sum("--spatial with --calib" in note for note in told.report.notes) == 1


def test_where_space_is_enough_no_weight_changes(monkeypatch: pytest.MonkeyPatch):
    def score(candidate: choosing.Candidate, *rest: object) -> float:
        return 0.0 if candidate.extent is None else 1 / (1 + len(candidate.extent.axes))

    monkeypatch.setattr(choosing, "_score", score)
    made = onnxprune.prune(MODEL, {"macs": 0.76}, spatial=True, **ASKED)
    assert made.report["achieved"]["macs"] == pytest.approx(0.75, abs=0.01)
    assert made.report["achieved"]["params"] == 1 and made.report.calibration is None
    assert sum("no longer looked at" in note for note in made.report.notes) == 1
    before, after = (
        {t.name: t.raw_data for t in model.graph.initializer} for model in (MODEL, made.model)
    )
    assert before.items() <= after.items()


def test_steps_and_lossless_go_with_it():
    made = onnxprune.prune(MODEL, {"macs": 0.6}, spatial=True, steps=2, lossless=True, **ASKED)
    assert made.extent is not None and made.report["achieved"]["macs"] <= 0.6


def test_recipes_take_it():
    table = {"kind": "prune", "target": {"macs": 0.6}, "spatial": True, "distill": False}
    recipe = onnxprune.recipe({"stage": [table], "calib": centred_samples()})
    made = onnxprune.run(recipe, MODEL, latency=False)
    assert made.model.graph.node[0].op_type == "Slice"


def test_a_model_with_columns_for_positions_is_pruned_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def score(candidate: choosing.Candidate, *rest: object) -> float:
        return 0.0 if candidate.extent is None else candidate.agreement

    monkeypatch.setattr(choosing, "_score", score)
    model = flattened()
    made = onnxprune.prune(model, {"macs": 0.4}, spatial=True, **ASKED)
    assert made.report.proof.passed and made.report["achieved"]["macs"] <= 0.4
    assert made.extent is not None and made.extent.left == (8,)
    plan = tmp_path / "plan.json"
    plan.write_text(made.plan_json)
    again = onnxprune.apply(model, plan, latency=False)
    sizes = [{t.name: list(t.dims) for t in r.model.graph.initializer} for r in (made, again)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"calib": None}, "spatial measures what is missed: give calib"),
        ({"compensate": False}, "spatial measures what is missed"),
    ],
)
def test_what_it_needs(change: dict[str, Any], why: str):
    with pytest.raises(InputError, match=why):
        onnxprune.prune(MODEL, {"macs": 0.6}, spatial=True, **{**ASKED, **change})


def test_targets_that_it_does_not_serve():
    with pytest.raises(InputError, match="saves work, and neither parameters nor bytes"):
        onnxprune.prune(MODEL, {"params": 0.6}, spatial=True, **ASKED)
    with pytest.raises(TargetError):
        onnxprune.prune(MODEL, {"macs": 1e-4}, spatial=True, **ASKED)


def test_outputs_that_keep_space_are_refused_with_the_reason():
    n = Net(x=("N", 3, 16, 16))
    model = n.model(n.conv(n.relu(n.conv("x", 3, 8)), 8, 2))
    with pytest.raises(InputError, match="spatial: output 'conv2_0' keeps space"):
        onnxprune.prune(model, {"macs": 0.6}, spatial=True, **ASKED)


def test_what_few_samples_say_of_changed_weights_is_doubted(monkeypatch: pytest.MonkeyPatch):
    """A gain that one sample in four makes is no reason to change weights."""
    analysis = analyze(MODEL, biases=True)
    options = Settings(**ASKED)
    data = calibration(options.calib, analysis.original, options, analysis.nodes)
    measured = measured_groups(analysis, data, options)
    groups = analysis.groups
    widths = np.array([max(1, group.channels // 2) for group in groups])
    rows = iter([np.array([1.0, 0.5, 0.5, 0.5]), np.full(4, 0.5)])
    judge: Any = SimpleNamespace(agreement=lambda _model: next(rows))
    candidate = choosing.Candidate(None, widths, 0.1, 0.5)
    score = choosing._score(candidate, measured, data, judge, options)
    assert score == pytest.approx(0.5 + 0.125 - 0.125)
    whole = choosing.Candidate(None, np.array([group.channels for group in groups]), 0, 0.5)
    assert choosing._score(whole, measured, data, judge, options) == 0.5


def test_the_report_says_why_no_other_extent_runs(monkeypatch: pytest.MonkeyPatch):
    def agreement(_judge: object, model: onnx.ModelProto) -> np.ndarray:
        if model.graph.node[0].op_type in ("Slice", "Resize"):
            raise InputError("node 'shuffle' states its sizes: leave spatial out")
        return np.ones(2)

    monkeypatch.setattr(choosing._Judge, "agreement", agreement)
    made = onnxprune.prune(MODEL, {"macs": 0.6}, spatial=True, **ASKED)
    assert made.extent is None and made.report.proof.passed
    assert any("is looked at: node 'shuffle' states" in note for note in made.report.notes)


def test_latency_goes_with_what_is_looked_at(monkeypatch: pytest.MonkeyPatch):
    """Models take as long as they multiply and add."""

    def macs(content: Any) -> float:
        return 1 + float(analyze(onnx.ModelProto.FromString(content)).cost.full[0])

    def timed(base: TimedModel, jobs: list[TimedModel], _device: object) -> list[float]:
        return [macs(job.model) / macs(base.model) for job in jobs]

    def ratio(base: bytes, other: bytes, *_rest: object) -> float:
        return macs(other) / macs(base)

    monkeypatch.setattr(timer, "timed", timed)
    monkeypatch.setattr(timer, "ratio", ratio)
    extent, stage, _ = choose_extent(
        analyze(MODEL, biases=True), {"latency": 0.6}, Settings(**ASKED)
    )
    assert extent is not None and stage is not None and extent.axes == (3,)
    sides = graph.model_bytes(MODEL), graph.model_bytes(stage.model)
    wanted = search.relative({"latency": 0.6}, stage.model, analyze(MODEL), Settings())
    assert wanted["latency"] == pytest.approx(0.6 / ratio(*sides))
