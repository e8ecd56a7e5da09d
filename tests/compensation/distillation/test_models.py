"""Which tensors of teacher and student are compared, and what the teacher gives for them."""

import numpy as np
import pytest
from networks import NETWORKS, Net, samples_of

from onnxprune.compensation.distillation.models import Student, open_models
from onnxprune.groups.analysis import analyze
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import rewrite


def cut_chain():
    """A chain, and the same with half the channels of both groups gone."""
    analysis = analyze(NETWORKS["chain"]())
    kept = [np.arange(group.channels) % 2 == 0 for group in analysis.groups]
    plan = plan_of(analysis.groups, kept)
    return analysis, Student(analyze(rewrite(analysis.model, analysis.nodes, plan)), plan)


def test_tensors_of_a_cut_model_are_compared_at_the_positions_that_it_has():
    teacher, student = cut_chain()
    feeds = samples_of(teacher.model, np.random.default_rng(0), 4)
    models = open_models(teacher, student, feeds)
    assert models is not None
    relus = [node.outputs[0].name for node in teacher.nodes if node.op == "Relu"]
    assert set(models.compared) == {*relus, teacher.model.graph.output[0].name}
    whole = open_models(teacher, Student(teacher), feeds)
    assert whole is not None
    given, full = models.teacher.values(feeds), whole.teacher.values(feeds)
    for name in relus:
        np.testing.assert_array_equal(given[name], full[name][:, ::2])
    assert list(models.teacher.output_values(feeds)) == [teacher.model.graph.output[0].name]


def test_the_student_runs_on_weights_that_are_fed():
    teacher, student = cut_chain()
    feeds = samples_of(teacher.model, np.random.default_rng(0), 4)
    models = open_models(teacher, student, feeds)
    assert models is not None
    fed = {name: student.stored(name) for name in models.fed}
    (name,) = models.teacher.outputs
    plain = models.forward.run(feeds, fed)[name]
    *_, last = models.layers
    fed[last.names[1]] = fed[last.names[1]] + 2
    np.testing.assert_allclose(models.forward.run(feeds, fed)[name], plain + 2, atol=1e-4)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_layers_that_gradients_reach_are_tuned(kind):
    net = Net(x=("N", 8))
    net.kind = kind
    early = net.gemm("x", 8, 6)
    late = net.gemm(net.op("Mul", early, net.op("ReduceProd", early, axes=[1])), 6, 4)
    analysis = analyze(net.model(late))
    feeds = {"x": np.random.default_rng(0).standard_normal((5, 8)).astype(kind)}
    models = open_models(analysis, Student(analysis), feeds)
    assert models is not None
    nodes = [tuned.layer.node.outputs[0].name for tuned in models.layers]
    assert nodes == [late]  # nothing passes ReduceProd
    assert len(models.fed) == 4
