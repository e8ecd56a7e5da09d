"""Two models side by side: what arrives at a layer, and what should come out."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from networks import NETWORKS, samples_of
from present import present

from onnxprune.calibration.samples import Calibration
from onnxprune.compensation.paired_run import PairedRun, refusal
from onnxprune.compensation.teacher import Teacher, own_teacher
from onnxprune.errors import INTERNAL
from onnxprune.groups.analysis import analyze
from onnxprune.types import Axis, Plan


def changed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with the weights of its layers half as large, and biases as they were."""
    other = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in other.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.ndim > 1:
            tensor.CopyFrom(onnx.numpy_helper.from_array(value / 2, tensor.name))
    return other


@pytest.fixture(scope="module")
def pair():
    model = NETWORKS["residual_spine"]()
    feeds = samples_of(model, np.random.default_rng(0), 8)
    batches = tuple({"x": feeds["x"][k : k + 4]} for k in (0, 4))
    data = Calibration(batches, (4, 4), "", "")
    teacher = analyze(model)
    return analyze(changed(model)), Teacher(teacher.model, teacher.read, data, Plan({}, {}))


def test_the_model_s_own_weights_explain_its_own_values(pair):
    """Inputs times weight plus bias are the target, where the model is its own teacher."""
    student, teacher = pair
    run = PairedRun(student, own_teacher(student, teacher.data), student.layers, {})
    run.look_at(range(len(run.layers)))
    for k, layer in enumerate(run.layers):
        run.advance(k)
        _, bias = run.bias(layer)
        batches = list(run.rows(k))
        assert len(batches) == 2
        for rows in batches:
            result = rows.inputs @ layer.matrix(run.stored(layer)) + present(bias)
            np.testing.assert_allclose(result, rows.target, rtol=1e-3, atol=1e-3)


def test_layers_see_what_the_changed_model_gives_and_aim_at_the_teacher(pair):
    """Only the first reads the same in both: there the teacher's weight gives the target."""
    student, teacher = pair
    run = PairedRun(student, teacher, student.layers, {})
    run.look_at(range(len(run.layers)))
    for k, layer in enumerate(run.layers[:2]):
        run.advance(k)
        _, bias = run.bias(layer)
        halved = layer.matrix(run.stored(layer))
        for rows in run.rows(k):
            own, original = (
                np.abs(rows.inputs @ weight + present(bias) - rows.target).max()
                for weight in (halved, 2 * halved)
            )
            assert own > 0.1 and (original < 1e-4 if k == 0 else original > 0.1)


def test_new_weights_count_from_the_next_layer_on(pair):
    """With the teacher's weights taken layer after layer the models agree."""
    student, teacher = pair
    run = PairedRun(student, teacher, student.layers, {})
    run.look_at(range(len(run.layers)))
    for k, layer in enumerate(run.layers):
        run.advance(k)
        _, bias = run.bias(layer)
        run.store(layer, 2 * run.stored(layer), present(bias).astype(np.float64))
        for rows in run.rows(k):
            result = rows.inputs @ layer.matrix(run.stored(layer)) + present(bias)
            np.testing.assert_allclose(result, rows.target, rtol=1e-3, atol=1e-3)


def test_a_weight_without_a_bias_stays():
    model = NETWORKS["chain"]()
    for node in model.graph.node:
        if node.op_type == "Conv":
            del node.input[2:]
    analysis = analyze(model)
    feeds = samples_of(model, np.random.default_rng(0), 2)
    data = Calibration((feeds,), (2,), "", "")
    run = PairedRun(analysis, own_teacher(analysis, data), analysis.layers, {})
    layer = run.layers[0]
    assert run.bias(layer) == ("", None)
    run.store(layer, 2 * run.stored(layer), np.ones(16))
    assert run.patches == {}


def test_a_teacher_that_does_not_know_the_targets_is_replaced(pair):
    student, teacher = pair
    unclear = Plan(
        {}, {}, frozenset({Axis(name, 1) for n in student.nodes for name in [n.outputs[0].name]})
    )
    run = PairedRun(student, replace(teacher, plan=unclear), student.layers, {})
    own = PairedRun(student, own_teacher(student, teacher.data), student.layers, {})
    for one in (run, own):
        one.look_at([0])
        one.advance(0)
    for a, b in zip(run.rows(0), own.rows(0), strict=True):
        np.testing.assert_array_equal(a.target, b.target)


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device")])
def test_what_the_machine_lacks_ends_the_run(error: Exception) -> None:
    with pytest.raises(type(error)):
        refusal(error)


def test_numbers_without_a_solution_are_no_failure_of_ours() -> None:
    assert refusal(np.linalg.LinAlgError("singular")) == "singular"
    assert refusal(KeyError("x")).startswith(INTERNAL)
