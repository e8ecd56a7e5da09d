"""What blocks that go add on average, from a model that gives their sums."""

import numpy as np
import onnx
from residual_blocks import residual
from running import samples
from text_models import bottleneck

from onnxprune.calibration.batches import growths
from onnxprune.calibration.samples import Calibration
from onnxprune.compensation.block_biases import with_biases
from onnxprune.compensation.block_successors import Successors, block_successors
from onnxprune.compensation.teacher import own_teacher
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import graph, runtime


def measured(analysis: Analysis, feeds, first: int) -> Successors:
    """The model is its own teacher, and all blocks from `first` on go."""
    data = Calibration((feeds,), (len(feeds["x"]),), "", "")
    found = block_successors(analysis, list(analysis.blocks.values())[first:])
    return with_biases(found, own_teacher(analysis, data), growths(analysis.nodes))


def shown(model: onnx.ModelProto, feeds, names: list[str]) -> list[np.ndarray]:
    """Values of tensors inside."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    values = runtime.run(runtime.open_session(graph.model_bytes(copy)), feeds)
    return [values[name] for name in names]


def test_a_layer_adds_the_mean_of_the_branch():
    model = bottleneck()
    feeds = {"x": np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)}
    (branch,) = shown(model, feeds, ["l"])
    found = measured(analyze(model), feeds, 0)
    assert found.added.keys() == {"s"}
    np.testing.assert_allclose(found.added["s"], branch.mean(0), rtol=1e-5)


def test_over_a_relu_it_adds_what_is_below_zero_for_all_blocks_behind():
    analysis = residual()
    feeds = samples(analysis.original)
    sums = [block.junction for block in analysis.blocks.values()]
    means = [np.maximum(x, 0).mean((0, 2, 3)) for x in shown(analysis.model, feeds, sums)]
    found = measured(analysis, feeds, 1)
    assert found.added.keys() == {sums[0], sums[1]}
    for k in (0, 1):
        expected = np.minimum(means[2] - means[k], 0)
        np.testing.assert_allclose(found.added[sums[k]], expected, rtol=1e-4, atol=1e-6)
    assert (found.added[sums[0]] < 0).any()


def test_without_blocks_nothing_runs():
    analysis = residual()
    assert measured(analysis, samples(analysis.original), 3) == Successors()
