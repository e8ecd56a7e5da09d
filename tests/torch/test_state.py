"""A checkpoint that is cut and then exported is the export that is cut: names, values, folds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from exported_networks import (
    State,
    convolutional,
    drawn,
    exported_convolutional,
    exported_normalised,
    exported_recurrent,
    normalised,
    recurrent,
    with_stored,
)
from onnx_text import stored

import onnxprune
from onnxprune.errors import InputError
from onnxprune.surgery.plan_file import PlanFile
from onnxprune.torch import slice_state_dict
from onnxprune.torch.cuts import Cut
from onnxprune.torch.planned import planned, read_plan
from onnxprune.torch.state import arrays_of, with_aliases
from onnxprune.types import Axis, Plan

Export = Callable[[State], onnx.ModelProto]
NETWORKS = {
    "folded": (convolutional, exported_convolutional),
    "normalised": (normalised, exported_normalised),
    "recurrent": (recurrent, exported_recurrent),
}


def plan_for(model: onnx.ModelProto) -> PlanFile:
    """Half of the channels of every group."""
    result = onnxprune.prune(
        model, {"ratio": 0.5}, latency=False, compensate=False, round_to=1, importance="l1"
    )
    return read_plan(result)


@pytest.fixture(scope="module")
def folded() -> tuple[State, onnx.ModelProto, PlanFile]:
    state = convolutional()
    model = exported_convolutional(state)
    return state, model, plan_for(model)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cut_checkpoint_exports_to_the_cut_model(name: str) -> None:
    make, export = NETWORKS[name]
    model = export(make())
    saved = plan_for(model)
    expected = stored(planned(model, saved).model)
    found = stored(export(slice_state_dict(make(), saved, model)))
    weights = [n for n, values in expected.items() if values.dtype == np.float32]
    assert len(weights) >= 4
    smaller = [n for n in weights if expected[n].size < stored(model)[n].size]
    assert len(smaller) >= 3
    for n in weights:
        np.testing.assert_allclose(found[n], expected[n], rtol=1e-5, atol=1e-6, err_msg=n)


def test_the_checkpoint_given_stays_as_it_is(
    folded: tuple[State, onnx.ModelProto, PlanFile],
) -> None:
    state, model, saved = folded
    before = {name: values.copy() for name, values in state.items()}
    slice_state_dict(state, saved, model)
    assert all(np.array_equal(state[n], values) for n, values in before.items())


def test_another_checkpoint_is_cut_by_what_was_exported(
    folded: tuple[State, onnx.ModelProto, PlanFile],
) -> None:
    state, model, saved = folded
    other = convolutional(seed=5)
    found = slice_state_dict(other, saved, model, exported=state)
    expected = stored(planned(exported_convolutional(other), saved).model)
    cut = stored(exported_convolutional(found))
    for name in ("onnx::Conv_2", "onnx::Conv_3", "onnx::Conv_4", "onnx::MatMul_5"):
        np.testing.assert_allclose(cut[name], expected[name], rtol=1e-5, atol=1e-6)


def test_values_of_another_checkpoint_explain_no_renamed_tensor(
    folded: tuple[State, onnx.ModelProto, PlanFile],
) -> None:
    _, model, saved = folded
    with pytest.raises(InputError, match=r"'onnx::\w+\[\d\]'.*give the checkpoint that was export"):
        slice_state_dict(convolutional(seed=5), saved, model)


def test_a_checkpoint_of_other_shapes_is_refused(
    folded: tuple[State, onnx.ModelProto, PlanFile],
) -> None:
    state, model, saved = folded
    other = {**state, "fc.weight": state["fc.weight"][:, :3]}
    with pytest.raises(InputError, match=r"'fc\.weight' has another shape.*of one module"):
        slice_state_dict(other, saved, model, exported=state)


def test_what_holds_no_tensors_is_refused_and_other_entries_stay(
    folded: tuple[State, onnx.ModelProto, PlanFile],
) -> None:
    state, model, plan = folded
    whole: tuple[Any, ...] = ({"model": state, "epoch": 3}, {}, None)
    for one in whole:
        with pytest.raises(InputError, match=r"holds no tensors .*give the mapping from names to"):
            slice_state_dict(one, plan, model)
    found = slice_state_dict({**state, "note": "kept"}, plan, model)
    assert found["note"] == "kept" and found["fc.weight"].shape[1] < state["fc.weight"].shape[1]


def test_entries_in_one_place_are_cut_alike() -> None:
    tied = np.ones((4, 3), np.float32)
    state = {"a": tied, "b": tied, "c": tied.copy()}
    cuts = {"a": Cut({0: np.arange(2)})}
    assert with_aliases(cuts, {}, state).keys() == {"a", "b"}


def test_unless_they_are_tensors_of_their_own_in_the_model() -> None:
    """A table of words that is also, transposed, the head: one parameter, but two tensors."""
    state = drawn(words=(9, 8), out__weight=(8, 8))
    state["head.weight"] = state["words"]
    stored_ones = {
        "words": state["words"],
        "val_1": state["out.weight"].T,
        "val_2": state["words"].T,
    }
    model = with_stored(
        """net (int64[5] i) => (float[5, 9] y) {
            a = Gather ("words", i)
            b = MatMul (a, "val_1")
            y = MatMul (b, "val_2")
        }""",
        stored_ones,
    )
    keep = {
        ("words", 1): [0, 2],
        ("val_1", 0): [0, 2],
        ("val_1", 1): [1, 4, 5],
        ("val_2", 0): [1, 4, 5],
    }
    plan = Plan({Axis(*a): np.array(k) for a, k in keep.items()}, {Axis(*a): 8 for a in keep})
    found = slice_state_dict(state, plan, model)
    np.testing.assert_array_equal(found["words"], state["words"][:, [0, 2]])
    np.testing.assert_array_equal(found["head.weight"], state["words"][:, [1, 4, 5]])
    np.testing.assert_array_equal(found["out.weight"], state["out.weight"][[1, 4, 5]][:, [0, 2]])


def test_numbers_stay_where_they_are() -> None:
    values = np.ones(3, np.float32)
    assert np.shares_memory(arrays_of({"a": values})["a"], values)


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        (PlanFile(Plan({}, {}), "", extent={}), "without --spatial"),
        (PlanFile(Plan({}, {}), "", rotations=({},)), "leave them as they are by --no-rotate"),
        (PlanFile(Plan({}, {}), "", convolved=("add",)), "'add' by a convolution.*--round-to"),
        (
            PlanFile(Plan({Axis("w", 0): np.arange(5)}, {Axis("w", 0): 4}), ""),
            r"zeros to 'w' axis 0: use --round-to 1",
        ),
        (3, "give the file of --plan"),
    ],
)
def test_plans_that_no_module_can_follow_are_refused(saved: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_plan(saved)


def test_a_result_and_a_file_hold_the_same_plan(
    folded: tuple[State, onnx.ModelProto, PlanFile], tmp_path_factory: pytest.TempPathFactory
) -> None:
    result = onnxprune.prune(folded[1], {"ratio": 0.5}, latency=False, compensate=False, round_to=1)
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    path.write_text(result.plan_json)
    assert read_plan(path).plan.keep.keys() == read_plan(result).plan.keep.keys()
