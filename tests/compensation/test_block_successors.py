"""What takes the place of blocks that go, and that layers are refitted to it."""

from collections import Counter

import numpy as np
from cuts import emptied
from residual_blocks import residual
from running import outputs, samples
from text_models import bottleneck

from onnxprune.calibration.samples import Calibration
from onnxprune.compensation import reconstruct
from onnxprune.compensation.block_successors import Successors, block_successors
from onnxprune.compensation.reconstruct import compensate
from onnxprune.compensation.teacher import own_teacher
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.surgery.cut import narrowed


def successors(analysis: Analysis, *which: int) -> Successors:
    blocks = list(analysis.blocks.values())
    return block_successors(analysis, [blocks[k] for k in which])


def test_the_layer_before_a_relu_makes_the_sum():
    analysis = residual()
    first, second, third = analysis.blocks.values()
    found = successors(analysis, 1, 2)
    assert found.sums == {first.junction: second.junction, second.junction: third.junction}
    assert found.ends == {second.layer: first.junction, third.layer: second.junction}
    assert found.rectified == {first.junction, second.junction}
    assert found.sum_for(first.junction) == third.junction
    assert found.replaces(second.layer, {first.junction})
    assert not found.replaces(second.layer, {second.junction})
    assert second.layer not in found.idle and second.branch - found.idle == {second.layer}


def test_what_another_function_or_an_output_reads_is_made_by_nothing_else():
    assert not successors(residual(clipped=False), 1).sums
    assert not successors(residual(shown=True), 1, 2).sums


def test_a_layer_without_relu_makes_the_sum():
    analysis = analyze(bottleneck())
    found = block_successors(analysis, analysis.blocks.values())
    assert found.sums == {"s": "y"} and not found.rectified


def refitted(analysis: Analysis, feeds):
    """The model without its last two blocks, refitted."""
    kept = emptied(analysis, *(g for b in list(analysis.blocks.values())[1:] for g in b.inside))
    data = Calibration((feeds,), (len(feeds["x"]),), "", "")
    made = compensate(analysis, kept, own_teacher(analysis, data))
    return narrowed(analysis.with_weights(made.patches), made.kept, None)


def test_nothing_is_left_of_blocks_at_no_more_error_than_with_biases(monkeypatch):
    analysis = residual()
    feeds = samples(analysis.original)
    smaller = refitted(analysis, feeds)
    monkeypatch.setattr(reconstruct, "block_successors", lambda *_: Successors())
    biases = refitted(analysis, feeds)
    counts = [Counter(node.op_type for node in m.graph.node) for m in (smaller, biases)]
    assert counts == [{"Conv": 4, "Relu": 3, "Add": 1}, {"Conv": 4, "Relu": 5, "Add": 3}]
    base = outputs(analysis.original, feeds)
    error, other = (np.square(outputs(m, feeds) - base).mean() for m in (smaller, biases))
    assert error < 1.05 * other
