"""Streams are turned where that loses less on samples held back; plans replay it."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from transformer_networks import SEQUENCE, WIDTH, Block

import onnxprune
from onnxprune.errors import InputError
from onnxprune.ir import graph, runtime
from onnxprune.pipeline.result import Result

RNG = np.random.default_rng(3)
SAMPLES = {"ids": RNG.integers(0, 40, (32, SEQUENCE))}
ASKED: dict[str, Any] = {"calib": SAMPLES, "latency": False, "distill": False, "round_to": 1}
TARGET = {"params": 0.6}


def crooked(rank: int = 8) -> onnx.ModelProto:
    """A pre-norm transformer whose stream lies in a few directions, across its channels."""
    n = Block(ids=("N", SEQUENCE))
    across = RNG.standard_normal((rank, WIDTH)) / rank**0.5

    def mixed(*shape: int) -> str:
        return n.const((RNG.standard_normal((*shape, rank)) @ across).astype(np.float32))

    y = n.op("Add", n.op("Gather", mixed(40), "ids"), mixed(SEQUENCE))
    hidden = n.gelu(n.linear(n.norm(y), WIDTH, 40))
    y = n.op("Add", y, n.op("Add", n.op("MatMul", hidden, mixed(40)), mixed()))
    z = n.op("ReduceMean", n.norm(y), axes=[1], keepdims=0)
    return n.tokens(n.gemm(z, WIDTH, 10))


MODEL = crooked()


@cache
def first() -> Result:
    return onnxprune.prune(MODEL, TARGET, **ASKED)


@pytest.fixture
def result() -> Result:
    return first()


def shapes(result: Result) -> dict[str, tuple[int, ...]]:
    return {t.name: tuple(t.dims) for t in result.model.graph.initializer}


def test_a_stream_in_few_directions_is_turned(result: Result):
    (note,) = (note for note in result.report.notes if "principal directions" in note)
    assert "first 1 residual streams were turned" in note
    assert "equals the original" in note and "samples held back" in note
    assert result.report.proof.passed and len(result.rotations) == 1
    assert result.report["achieved"]["params"] <= 0.6
    turned = {n.output[0] for n in MODEL.graph.node if n.op_type in ("Gather", "Add")}
    assert result.layers.outputs and not turned & set(result.layers.outputs.values())
    ends = [n.op_type for n in result.model.graph.node]
    assert ends == [n.op_type for n in MODEL.graph.node]


def test_less_is_lost_than_with_channels_as_they_are(result: Result):
    plain = onnxprune.prune(MODEL, TARGET, rotate=False, **ASKED)
    assert not plain.rotations and "rotations" not in plain.plan_json
    errors = []
    for one in (result, plain):
        outputs = [
            next(iter(runtime.run(runtime.open_session(graph.model_bytes(m)), SAMPLES).values()))
            for m in (MODEL, one.model)
        ]
        errors.append(float(np.square(outputs[0] - outputs[1]).mean()))
    assert errors[0] < 0.7 * errors[1]


def test_plans_turn_before_they_cut(result: Result, tmp_path: Path):
    plan = tmp_path / "plan.json"
    plan.write_text(result.plan_json)
    replayed = onnxprune.apply(MODEL, plan, latency=False)
    assert shapes(replayed) == shapes(result)
    assert replayed.report.proof.passed
    assert json.loads(replayed.plan_json) == json.loads(result.plan_json)
    content = json.loads(result.plan_json)
    content["rotations"][0]["matrix"] = "AAAA"
    plan.write_text(json.dumps(content))
    with pytest.raises(InputError, match="rotations cannot be read"):
        onnxprune.apply(MODEL, plan, latency=False)


def test_same_bytes(result: Result):
    again = onnxprune.prune(MODEL, TARGET, **ASKED)
    assert graph.model_bytes(again.model) == graph.model_bytes(result.model)
    assert again.plan_json == result.plan_json


def test_few_samples_judge_nothing():
    few = {**ASKED, "calib": {"ids": SAMPLES["ids"][:3]}}
    found = onnxprune.prune(MODEL, TARGET, **few)
    assert not found.rotations
    assert any("fewer than 4 samples leave none to judge" in note for note in found.report.notes)


def test_streams_that_cannot_be_turned_are_named():
    n = Block(x=("N", SEQUENCE, WIDTH))
    y = n.norm(n.linear("x", WIDTH, WIDTH))
    y = n.norm(n.op("Add", y, n.mlp(y)))
    x = RNG.standard_normal((8, SEQUENCE, WIDTH)).astype(np.float32)
    model = n.model(n.linear(y, WIDTH, 10))
    found = onnxprune.prune(model, TARGET, **{**ASKED, "calib": {"x": x}})
    assert any("cannot be turned" in note and "post-norm" in note for note in found.report.notes)
