"""Two models compared on data, on seeded inputs, or on outputs that are known already."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import NETWORKS
from setting_values import by_size

from onnxprune import Settings
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph
from onnxprune.ir.inputs import Data
from onnxprune.pipeline import compare
from onnxprune.pipeline.compare import (
    ModelPair,
    SeededInputs,
    compare_models,
    files_of,
    is_slower,
)

QUIET = Settings(latency=False)
X = np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def pair() -> ModelPair:
    """A classifier, and the same with another bias at the end."""
    model = NETWORKS["residual_spine"]()
    other = onnx.ModelProto.FromString(model.SerializeToString())
    bias = model.graph.node[-1].input[2]
    for tensor in other.graph.initializer:
        if tensor.name == bias:
            value = np.arange(10, dtype=np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, bias))
    return ModelPair(model, other)


def test_on_seeded_inputs(pair: ModelPair):
    found = compare_models(pair, SeededInputs({"x": X}), None, QUIET)
    assert found.latency is None and not found.notes
    assert (found.drift.samples, found.drift.data) == (8, "seeded inputs")
    assert found.drift.cosine < 0.99
    same = compare_models(
        ModelPair(pair.original, pair.original), SeededInputs({"x": X}), None, QUIET
    )
    assert same.drift.sqnr_db is None


def test_known_outputs_are_taken_without_a_run(pair: ModelPair):
    """They need not come from the models."""
    known = {"y": np.array([3.0, 4])}, {"y": np.array([4.0, 3])}
    found = compare_models(pair, SeededInputs({}, known), None, QUIET)
    assert found.drift.cosine == pytest.approx(24 / 25)


def test_data_counts_more_than_known_outputs(pair: ModelPair):
    known = {"y": np.ones(2)}, {"y": np.ones(2)}
    labels = np.zeros(8, np.int64)
    shares: list[tuple[str, float]] = []
    options = Settings(latency=False, progress=lambda *told: shares.append(told))
    found = compare_models(pair, SeededInputs({"x": X}, known), Data({"x": X}, labels), options)
    assert (found.drift.samples, found.drift.data) == (8, "the given data")
    assert found.drift.accuracy is not None and found.drift.accuracy[1] == 0  # all say class 9
    ((stage, share),) = shares
    assert stage == "comparing" and share == pytest.approx(0.8)


@pytest.mark.parametrize("known", [False, True])
def test_both_are_timed_in_turns(pair: ModelPair, known: bool):
    outputs = ({"y": np.ones(2)}, {"y": np.ones(2)}) if known else None
    found = compare_models(pair, SeededInputs({"x": X[:1]}, outputs), None, Settings())
    assert found.latency is not None and all(one.median_ms > 0 for one in found.latency)
    assert (found.drift.sqnr_db is None) == known


def test_large_models_are_timed_from_files_alone(
    pair: ModelPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(compare, "TIMED", 0)
    seeded = SeededInputs({"x": X[:1]})
    untimed = compare_models(pair, seeded, None, Settings())
    assert untimed.latency is None and "latency was not measured" in untimed.notes[0]
    assert compare_models(pair, seeded, None, QUIET).notes == []
    paths = [tmp_path / f"{k}.onnx" for k in range(2)]
    for path, model in zip(paths, pair[:2], strict=True):
        onnx.save(model, path)
    timed = compare_models(pair._replace(files=files_of(*paths)), seeded, None, Settings())
    assert timed.latency is not None and not timed.notes
    assert timed.drift.cosine == pytest.approx(untimed.drift.cosine, abs=1e-6)


def test_files_are_known_where_both_models_lie_in_one(pair: ModelPair):
    assert files_of("a.onnx", Path("b.onnx")) == ("a.onnx", "b.onnx")
    assert files_of("a.onnx", pair.pruned) is None


def test_the_original_s_latency_and_what_is_said_of_a_model(pair: ModelPair):
    analysis = analyze(pair.original)
    assert compare.median_latency_ms(analysis, Settings()) > 0
    said = compare.measured(np.array([3.0, 2, 7.9, 0]), pair.original, None, 0.5)
    assert (said.macs, said.params, said.bytes, said.accuracy) == (3, 2, 7, 0.5)
    assert said.nodes == len(pair.original.graph.node)


def test_a_timer_elsewhere_measures_in_place_of_sessions(pair: ModelPair):
    """Also where the outputs are known already, so that no model is opened here at all."""
    elsewhere = Settings(timer=by_size)
    seconds = by_size([graph.model_bytes(model) for model in pair[:2]], None, 1.0)
    first = compare_models(pair, SeededInputs({"x": X}), None, elsewhere)
    known = SeededInputs({"x": X}, ({"y": X}, {"y": X}))
    for found in (first, compare_models(pair, known, None, elsewhere)):
        assert found.latency is not None
        assert [one.median_ms / 1e3 for one in found.latency] == pytest.approx(seconds)
    analysis = analyze(pair.original)
    assert compare.median_latency_ms(analysis, elsewhere) == pytest.approx(1e3 * seconds[0])


@pytest.mark.parametrize(
    ("share", "slower"), [(0.7, False), (1.0, False), (1.1, True), (1.8, True)]
)
def test_chance_makes_no_model_slower(share: float, slower: bool):
    """Runs differ by a fifth, and another program takes the processor for a while."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        times = np.array([1.0, share]) * (1 + 0.1 * rng.standard_normal((400, 2)) ** 2)
        times[100:150, 1] *= 2
        assert is_slower(times) == slower


def test_few_rounds_are_enough():
    assert is_slower(np.tile([1.0, 1.5], (3, 1))) and not is_slower(np.ones((1, 2)))
