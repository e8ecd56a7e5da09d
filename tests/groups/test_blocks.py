"""Residual blocks that go whole: what is left is exactly the shortcut and a bias."""

from typing import Any

import numpy as np
import onnx
import pytest
from cuts import cut_to, fewer
from networks import NETWORKS, Net
from running import outputs, samples

import onnxprune
from onnxprune.allocation.allocate import allocate
from onnxprune.allocation.problem import problem_of
from onnxprune.errors import InputError
from onnxprune.groups.analysis import analyze
from onnxprune.groups.units import channel_rows


def normalised_bottleneck(shared: bool = False) -> onnx.ModelProto:
    """A branch of three layers, two groups inside, with a normalisation and a scale behind it.

    `shared`: something else reads the last hidden channels.
    """
    n = Net(opset=9, x=(1, 3, 8, 8))
    x = n.relu(n.conv("x", 3, 12))
    hidden = n.relu(n.conv(n.relu(n.conv(x, 12, 8, k=1)), 8, 10))
    branch = n.bn(n.conv(hidden, 10, 12, k=1), 12)
    scaled = n.op("Mul", branch, n.weight(12, 1, 1))
    y = n.relu(n.op("Add", x, scaled))
    z = n.conv(y, 12, 6)
    model = n.model(n.op("Add", z, n.conv(hidden, 10, 6)) if shared else z)
    model.ir_version = 3  # every constant is an input as well
    for tensor in model.graph.initializer:
        info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(info)
    return model


def test_a_block_of_several_layers_goes_with_what_stands_behind_it():
    analysis = analyze(normalised_bottleneck())
    ((_, block),) = analysis.blocks.items()
    assert len(block.inside) == 2 and len(block.chain) == 2
    stage = cut_to(analysis, fewer(analysis, block.inside, np.random.default_rng(1)))
    assert [node.op_type for node in stage.model.graph.node] == [
        "Conv", "Relu", "Add", "Relu", "Conv"
    ]  # fmt: skip
    onnx.checker.check_model(stage.model, full_check=True)


def test_only_what_nothing_else_reads_can_go():
    assert not analyze(normalised_bottleneck(shared=True)).blocks
    analysis = analyze(NETWORKS["chain"]())
    assert not analysis.blocks
    kept = fewer(analysis, [0], np.random.default_rng(0))
    with pytest.raises(InputError, match=r"group '.*' must keep a channel"):
        cut_to(analysis, kept)


def test_of_two_branches_that_meet_one_stays():
    n = Net(x=(1, 3, 8, 8))
    x = n.relu(n.conv("x", 3, 8))
    left, right = (n.conv(n.relu(n.conv(x, 8, 6)), 6, 8) for _ in range(2))
    analysis = analyze(n.model(n.conv(n.op("Add", left, right), 8, 4)))
    assert len(analysis.groups) == 4 and len(analysis.blocks) == 1


def rows(analysis, cheap):
    """Errors that grow linearly as channels go, but stay low for the block of group `cheap`."""
    blocks = {g: block.inside for g, block in analysis.blocks.items()}
    errors = []
    for g, group in enumerate(analysis.groups):
        lost = np.arange(group.channels, -1, -1.0)
        errors.append(1e-3 * np.minimum(lost, 1) if g in cheap else lost)
    made = channel_rows(analysis.groups, errors, blocks)
    return [row.offering(row.unit.levels[1:]) for row in made]


@pytest.mark.parametrize("name", ["residual_spine", "vision_transformer", "gpt_with_tied_head"])
def test_the_cheapest_block_goes_first_at_its_true_cost(name):
    analysis = analyze(NETWORKS[name]())
    for root, block in analysis.blocks.items():
        widths = analysis.cost.channels.copy()
        widths[list(block.inside)] = 0
        share = analysis.cost.at(widths)[0]
        result = allocate(
            problem_of(analysis.cost, {"macs": share * 1.001}, rows(analysis, [root]))
        )
        assert result.met
        assert np.array_equal(np.flatnonzero(result.widths == 0), sorted(block.inside))
        assert np.array_equal(result.widths, widths)


def test_without_a_block_the_allocator_keeps_a_channel():
    analysis = analyze(NETWORKS["residual_spine"]())
    made = [row.alone() for row in rows(analysis, analysis.blocks)]
    assert (allocate(problem_of(analysis.cost, {"macs": 1.0}, made)).widths > 0).all()


def idle_block() -> onnx.ModelProto:
    """Of three residual blocks the second adds next to nothing but a constant."""
    n = Net(x=("N", 3, 8, 8))
    x = n.relu(n.conv("x", 3, 16))
    for scale in (1.0, 1e-3, 1.0):
        y = n.conv(n.relu(n.conv(x, 16, 16)), 16, 16)
        x = n.relu(n.op("Add", x, n.op("Mul", y, n.const(np.float32(scale)))))
    pooled = n.op("Flatten", n.op("GlobalAveragePool", x))
    return n.model(n.op("Gemm", pooled, n.weight(16, 5), n.weight(5)))


def test_what_adds_next_to_nothing_goes_first():
    model = idle_block()
    feeds = samples(model)
    options: dict[str, Any] = {"calib": feeds, "latency": False}
    result = onnxprune.prune(model, {"macs": 0.68}, **options)
    rows = {row["name"]: row["kept"] for row in result.report.groups}
    assert [kept == 0 for kept in rows.values()].count(True) == 1
    assert any("1 residual block went whole" in note for note in result.report.notes)
    assert sum(node.op_type == "Conv" for node in result.model.graph.node) == 5
    held = onnxprune.prune(model, {"macs": 0.68}, min_channels=2, **options)
    assert all(row["kept"] >= 2 for row in held.report.groups)
    base = outputs(model, feeds)
    errors = [np.square(outputs(r.model, feeds) - base).mean() for r in (result, held)]
    assert errors[0] < errors[1]


def test_so_many_blocks_go():
    model = NETWORKS["residual_spine"]()
    feeds = samples(model)
    result = onnxprune.prune(model, {"blocks": 1}, calib=feeds, latency=False)
    before, after = (sum(n.op_type == "Conv" for n in m.graph.node) for m in (model, result.model))
    assert result.report.proof.passed and after < before
    assert any("1 residual block went whole" in note for note in result.report.notes)
    with pytest.raises(onnxprune.TargetError, match="only"):
        onnxprune.prune(model, {"blocks": 99}, calib=feeds, latency=False)
    for target, message in (({"blocks": 0}, "how many"), ({"blocks": 1, "macs": 0.5}, "alone"),
                            ({"blocks": "x"}, "how many")):  # fmt: skip
        with pytest.raises(onnxprune.InputError, match=message):
            onnxprune.prune(model, target, calib=feeds, latency=False)
    with pytest.raises(onnxprune.InputError, match="give calib"):
        onnxprune.prune(model, {"blocks": 1}, latency=False)
