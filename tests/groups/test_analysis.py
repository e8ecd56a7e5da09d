"""An analysis is one frozen value: what replaces a part of it leaves the others alone."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from networks import NETWORKS
from onnx import ModelProto
from text_models import PERCEPTRON_SHAPES, perceptron, stored_array, text_model

from onnxprune.errors import InputError
from onnxprune.groups.analysis import Analysis, analyze, blocked
from onnxprune.groups.cost import METRICS
from onnxprune.groups.head_units import reordered
from onnxprune.settings import Settings
from onnxprune.types import Axis

NO_BIASES = """
net (float[N, 3] x) => (float[N, 2] y) {
    h = MatMul (x, a)
    r = Relu (h)
    y = MatMul (r, c)
}
"""


def changed(before: Analysis, after: Analysis) -> set[str]:
    """Fields that are not the very same value."""
    names = [f.name for f in fields(Analysis)]
    return {name for name in names if getattr(before, name) is not getattr(after, name)}


def test_new_weights_change_the_model_and_what_reads_it() -> None:
    analysis = analyze(perceptron())
    old = stored_array(analysis.model, "a")
    after = analysis.with_weights({"a": np.zeros((4, 3), np.float32)})
    assert changed(analysis, after) == {"model", "read"}
    read = after.read("a")
    assert read is not None and not read.any()
    assert np.array_equal(stored_array(analysis.model, "a"), old)
    assert np.array_equal(stored_array(after.model, "c"), stored_array(analysis.model, "c"))


def test_groups_arranged_anew_change_nothing_else() -> None:
    analysis = analyze(NETWORKS["chain"]())
    turned = [reordered(g, np.arange(g.channels)[::-1, None]) for g in analysis.groups]
    after = analysis.with_groups(turned)
    assert changed(analysis, after) == {"groups"}
    assert after.groups == tuple(turned)
    assert after.readers[0].group is turned[0] and analysis.readers[0].group is analysis.groups[0]


def test_what_is_worked_out_later_is_worked_out_once() -> None:
    analysis = analyze(NETWORKS["residual_spine"]())
    assert analysis.layers is analysis.layers
    assert analysis.readers is analysis.readers
    assert analysis.blocks is analysis.blocks and analysis.blocks
    assert analysis.stored is analysis.stored


def without_biases() -> ModelProto:
    return text_model(NO_BIASES, a=(3, 4), c=(4, 2))


MODELS = [without_biases, *map(NETWORKS.__getitem__, ["llama", "channels_last"])]


@pytest.mark.parametrize("make", MODELS)
def test_added_biases_do_not_count_in_what_the_original_costs(
    make: Callable[[], ModelProto],
) -> None:
    model = make()
    plain, biased = analyze(model), analyze(model, biases=True)
    assert np.array_equal(plain.original_cost, plain.cost.full)
    assert np.array_equal(biased.original_cost, plain.cost.full)
    assert (biased.cost.full > plain.cost.full).tolist() == [False, True, True, False]


def test_added_biases_count_in_the_cost_of_the_model() -> None:
    model = without_biases()
    plain, biased = analyze(model), analyze(model, biases=True)
    params = METRICS.index("params")
    assert plain.cost.full[params] == 3 * 4 + 4 * 2
    assert biased.cost.full[params] == 3 * 4 + 4 + 4 * 2 + 2
    assert [node.op for node in biased.nodes] == ["MatMul", "Add", "Relu", "MatMul", "Add"]
    assert [node.op for node in plain.nodes] == ["MatMul", "Relu", "MatMul"]


def test_groups_do_not_depend_on_what_weights_hold() -> None:
    """Another checkpoint of the same graph has the same groups, so that plans can be replayed."""
    model = NETWORKS["residual_spine"]()
    before = analyze(model)
    for tensor in model.graph.initializer:
        tensor.raw_data = bytes(len(tensor.raw_data))
    after = analyze(model)
    assert not stored_array(after.model, "c0").any()
    assert [g.name for g in after.groups] == [g.name for g in before.groups]
    for old, new in zip(before.groups, after.groups, strict=True):
        sites = zip(old.axes(), new.axes(), strict=True)
        assert all(a == b and np.array_equal(p, q) for (a, p), (b, q) in sites)


def test_weights_that_cannot_be_cut_are_blocked_with_node_reason_and_count() -> None:
    ((axis, node, why, count, size),) = blocked(analyze(perceptron()))
    assert (axis, node, count, size) == (Axis("c", 0), "n2", 2, 2)
    assert why.reason == "'y' is an output of the model" and why.axis == Axis("y", 1)
    excluded = analyze(perceptron(), Settings(exclude=["^n0$"]))
    assert excluded.groups == () and {row[2].reason for row in blocked(excluded)} == {
        "excluded by the user",
        "'y' is an output of the model",
    }


def test_the_model_given_stays_as_it_is() -> None:
    model = NETWORKS["shared_zero_bias"]()
    before = model.SerializeToString(deterministic=True)
    analysis = analyze(model, biases=True)
    assert model.SerializeToString(deterministic=True) == before
    assert set(analysis.copies.values()) == {"zero"} and len(analysis.copies) == 2


def test_sizes_that_no_input_has_are_refused() -> None:
    with pytest.raises(InputError, match="the model has no input 'z'"):
        analyze(perceptron(), Settings(input_shapes={"z": (1, 3)}))
    assert analyze(perceptron(), Settings(input_shapes={"x": (7, 3)})).sample == {"x": (7, 3)}
    assert set(PERCEPTRON_SHAPES) == set(analyze(perceptron()).stored)
