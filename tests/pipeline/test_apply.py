"""Plans are replayed: on the same model to the same bytes, on another checkpoint to its shapes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nested_networks
import numpy as np
import onnx
import pytest
from networks import NETWORKS
from onnx import ModelProto, numpy_helper
from paths import MODELS
from text_models import bottleneck, perceptron, stored_array, two_heads

import onnxprune
from onnxprune.errors import InputError
from onnxprune.groups.analysis import analyze
from onnxprune.ir import graph, runtime
from onnxprune.pipeline.apply import apply
from onnxprune.settings import Settings

DIGITS = MODELS / "digits.onnx"
NESTED = [name for name, make in NETWORKS.items() if make.__module__ == nested_networks.__name__]
QUIET = Settings(latency=False)


def axis(tensor: str, at: int, size: int, keep: list[int]) -> dict[str, Any]:
    return {"tensor": tensor, "axis": at, "size": size, "keep": keep}


def written(folder: Path, *axes: dict[str, Any]) -> Path:
    """A plan file as somebody may write it by hand."""
    path = folder / "plan.json"
    path.write_text(json.dumps({"version": 1, "model_sha256": "", "axes": list(axes)}))
    return path


def kept(*keep: int) -> list[dict[str, Any]]:
    """The plan that keeps some hidden units of the perceptron."""
    at = list(keep)
    return [axis("a", 0, 4, at), axis("b", 0, 4, at), axis("c", 1, 4, at)]


def outputs(model: ModelProto) -> np.ndarray[Any, Any]:
    x = {"x": np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)}
    (y,) = runtime.run(runtime.open_session(graph.model_bytes(model)), x).values()
    return y


def test_a_plan_written_by_hand_keeps_what_it_says(tmp_path: Path) -> None:
    result = apply(perceptron(), written(tmp_path, *kept(0, 3)), QUIET)
    assert result.report.proof.passed
    rows = {name: stored_array(perceptron(), name) for name in "abc"}
    assert np.array_equal(stored_array(result.model, "a"), rows["a"][[0, 3]])
    assert np.array_equal(stored_array(result.model, "c"), rows["c"][:, [0, 3]])
    assert result.report["groups"] == [{"name": "a", "channels": 4, "kept": 2}]
    assert json.loads(result.plan_json)["axes"] == kept(0, 3)


def test_positions_from_the_size_on_are_zeros_that_change_nothing(tmp_path: Path) -> None:
    result = apply(perceptron(), written(tmp_path, *kept(0, 1, 2, 3, 4, 5)), QUIET)
    assert stored_array(result.model, "a").shape == (6, 3)
    np.testing.assert_allclose(outputs(result.model), outputs(perceptron()), rtol=1e-6)
    assert result.report.after.macs > result.report.before.macs


def test_a_plan_may_remove_and_add_at_once(tmp_path: Path) -> None:
    result = apply(perceptron(), written(tmp_path, *kept(0, 2, 4)), QUIET)
    assert stored_array(result.model, "a").shape == (3, 3)
    again = apply(perceptron(), written(tmp_path, *kept(0, 2)), QUIET)
    np.testing.assert_allclose(outputs(result.model), outputs(again.model), rtol=1e-6)


def test_heads_may_keep_columns_of_their_own(tmp_path: Path) -> None:
    """Head 0 keeps columns 0 and 2, head 1 columns 1 and 2."""
    keep = [0, 2, 4, 5]
    plan = written(tmp_path, axis("a", 1, 6, keep), axis("c", 0, 6, keep))
    result = apply(two_heads(), plan, QUIET)
    assert result.report.proof.passed
    assert np.array_equal(stored_array(result.model, "a"), stored_array(two_heads(), "a")[:, keep])
    assert np.array_equal(stored_array(result.model, "c"), stored_array(two_heads(), "c")[keep])


def test_a_plan_that_removes_a_block_leaves_the_shortcut(tmp_path: Path) -> None:
    """All of 6 and 5 hidden units go: what led there does, too."""
    branch = [axis("w1", 0, 6, []), axis("b1", 0, 6, []), axis("w2", 1, 6, []),
              axis("w2", 0, 5, []), axis("b2", 0, 5, []), axis("w3", 1, 5, [])]  # fmt: skip
    result = apply(bottleneck(), written(tmp_path, *branch), QUIET)
    assert [node.op_type for node in result.model.graph.node] == ["Gemm", "Add", "Gemm"]
    assert {row["name"]: row["kept"] for row in result.report.groups} == {"w0": 4, "w1": 0, "w2": 0}
    with pytest.raises(InputError, match="group 'w1' must keep a channel"):
        apply(bottleneck(), written(tmp_path, *branch[:3]), QUIET)


NOTE = "the plan was made on another file: same graph, other weights"


def test_a_plan_replays_on_the_same_model_and_on_another_checkpoint(tmp_path: Path) -> None:
    result = onnxprune.prune(DIGITS, {"macs": 0.6}, compensate=False, latency=False)
    plan = tmp_path / "plan.json"
    plan.write_text(result.plan_json)
    same = apply(DIGITS, str(plan), latency=False)
    assert graph.model_bytes(same.model) == graph.model_bytes(result.model)
    other = onnx.load(DIGITS)
    for tensor in other.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1:
            tensor.CopyFrom(numpy_helper.from_array(values * np.float32(1.1), tensor.name))
    replayed = apply(other, plan, latency=False)
    assert NOTE in replayed.report.notes and NOTE not in same.report.notes
    shapes = [
        {name: tuple(tensor.dims) for name, tensor in graph.constants(r.model).items()}
        for r in (result, replayed)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", NESTED)
def test_plans_of_bodies_are_replayed(name: str, tmp_path: Path) -> None:
    model, plan = NETWORKS[name](), tmp_path / "plan.json"
    result = onnxprune.prune(model, {"ratio": 0.7}, compensate=False, latency=False)
    plan.write_text(result.plan_json)
    again = apply(model, plan, latency=False)
    assert graph.model_bytes(again.model) == graph.model_bytes(result.model)
    assert onnxprune.check(model, result.model, latency=False).before.macs > 0
    left = sum(group.channels for group in analyze(result.model).groups)
    assert left == sum(row["kept"] for row in result.report.groups)


REFUSED: list[tuple[Callable[[Path], Path], str]] = [
    (lambda folder: folder / "missing.json", r"missing\.json: cannot be read"),
    (lambda folder: written(folder, axis("c", 0, 2, [0])), "'c' axis 0 where this model cannot be"),
    (lambda folder: written(folder, axis("a", 0, 9, [0])), "to have 9 positions; the model has 4"),
    (lambda folder: written(folder, axis("z", 0, 4, [0])), "'z' axis 0; the model has none"),
    (lambda folder: written(folder, axis("d", 0, 2, [0, 1, 2])), "adds positions to 'd' axis 0"),
    (lambda folder: written(folder, *kept()), "group 'a' must keep a channel"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[m for _, m in REFUSED])
def test_a_plan_that_does_not_fit_is_refused(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        apply(perceptron(), make(tmp_path), QUIET)


def test_accuracy_is_measured_where_labelled_data_are_given(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    data: dict[str, np.ndarray[Any, Any]] = {"x": x, "labels": np.zeros(20, np.int64)}
    result = apply(perceptron(), written(tmp_path, *kept(0, 1, 2)), QUIET, data=data)
    drift = result.report.fidelity
    assert drift is not None and drift.samples == 20 and drift.accuracy is not None
