"""Cutting to the widths that scores ask for, and leaving whole what fails the proof."""

from collections.abc import Collection

import numpy as np
import onnx
import pytest
from cuts import WRONG, cut_to, softmax_over_channels
from networks import NETWORKS, Net
from onnx import numpy_helper
from paths import MODELS
from text_models import perceptron, stored_array

import onnxprune
from onnxprune.errors import ProofError, TargetError
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import graph, save, tensors
from onnxprune.pipeline.prune_by_scores import RETRIES, Scored, prune_by_scores, prune_dropping
from onnxprune.settings import Settings
from onnxprune.surgery.cut import Stage
from onnxprune.types import Axis, Masks

DIGITS = MODELS / "digits.onnx"
OPTIONS = Settings(latency=False, round_to=1, scope="layer")


def layers(count: int) -> Analysis:
    """So many groups of four channels."""
    n, y = Net(x=("N", 4)), "x"
    for _ in range(count + 1):
        y = n.relu(n.gemm(y, 4, 4))
    return analyze(n.model(y))


def scored(analysis: Analysis) -> Scored:
    """Channel 0 of every group matters least, the last one most."""
    scores = [np.arange(1.0, group.channels + 1) for group in analysis.groups]
    return Scored(analysis, scores, "l1")


class Cutter:
    """Cuts, but for groups that fail the proof; remembers which were cut."""

    def __init__(self, analysis: Analysis, failing: Collection[int] = ()) -> None:
        self.analysis, self.failing = analysis, failing
        self.asked = list[set[int]]()

    def __call__(self, kept: Masks) -> Stage:
        self.asked.append({g for g, mask in enumerate(kept) if not mask.all()})
        for g in sorted(self.asked[-1] & set(self.failing)):
            raise ProofError(f"group {g} is wrong", g)
        return cut_to(self.analysis, list(kept))


def test_the_channels_with_the_lowest_scores_go() -> None:
    analysis = layers(2)
    cutter = Cutter(analysis)
    stage = prune_by_scores(scored(analysis), {"ratio": 4.0}, OPTIONS, cutter)
    assert [mask.tolist() for mask in stage.kept] == [[False, False, True, True]] * 2
    assert stage.spared == () and len(cutter.asked) == 1


def test_a_group_that_fails_the_proof_stays_whole_and_the_rest_is_tried_again() -> None:
    analysis = layers(3)
    cutter = Cutter(analysis, {1})
    stage = prune_by_scores(scored(analysis), {"ratio": 9.0}, OPTIONS, cutter)
    assert [int(mask.sum()) for mask in stage.kept][1] == 4
    assert sum(int(mask.sum()) for mask in stage.kept) <= 9
    assert stage.spared == (analysis.groups[1].name,)
    assert cutter.asked == [{0, 1, 2}, {0, 2}]


def test_where_the_rest_cannot_reach_the_target_the_first_proof_error_says_why() -> None:
    """Two groups of four cannot get to three channels with one of them whole."""
    analysis = layers(2)
    with pytest.raises(ProofError, match="group 0 is wrong") as error:
        prune_by_scores(scored(analysis), {"ratio": 3.0}, OPTIONS, Cutter(analysis, {0}))
    assert isinstance(error.value.__cause__, TargetError)
    with pytest.raises(TargetError, match="ratio"):
        prune_by_scores(scored(analysis), {"ratio": 1.0}, OPTIONS, Cutter(analysis))


def test_an_error_that_blames_no_group_ends_the_run() -> None:
    analysis = layers(2)
    asked = list[Masks]()

    def cutter(kept: Masks) -> Stage:
        asked.append(kept)
        raise ProofError("no proof possible")

    with pytest.raises(ProofError, match="no proof possible"):
        prune_by_scores(scored(analysis), {"ratio": 4.0}, OPTIONS, cutter)
    assert len(asked) == 1


def test_a_group_that_is_blamed_although_it_is_whole_ends_the_run() -> None:
    analysis = layers(2)

    def cutter(kept: Masks) -> Stage:
        raise ProofError("group 0 again", 0)

    with pytest.raises(ProofError, match="group 0 again"):
        prune_by_scores(scored(analysis), {"ratio": 7.0}, OPTIONS, cutter)


def test_so_many_groups_may_fail_and_no_more() -> None:
    analysis = layers(RETRIES + 2)
    some = Cutter(analysis, range(RETRIES))
    stage = prune_by_scores(scored(analysis), {"ratio": 4.0 * RETRIES + 4}, OPTIONS, some)
    assert len(stage.spared) == RETRIES and len(some.asked) == RETRIES + 1
    many = Cutter(analysis, range(RETRIES + 1))
    with pytest.raises(ProofError, match=f"group {RETRIES} is wrong"):
        prune_by_scores(scored(analysis), {"ratio": 4.0 * RETRIES + 4}, OPTIONS, many)


def test_the_file_holds_its_size() -> None:
    analysis = analyze(NETWORKS["chain"]())
    limit = 0.6 * save.file_bytes(analysis.model)
    stage = prune_by_scores(scored(analysis), {"size": limit}, OPTIONS, Cutter(analysis))
    assert 0.9 * limit < save.file_bytes(stage.model) <= limit


def test_channels_with_the_smallest_weights_go_where_nothing_else_is_known() -> None:
    """Rows 0 and 2 are made smaller than all others."""
    model = perceptron()
    for tensor in model.graph.initializer:
        if tensor.name == "a":
            values = stored_array(model, "a") * np.array([[0.1], [1], [0.2], [1]], np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, "a"))
    analysis = analyze(model)
    stage = prune_dropping(analysis, {"ratio": 2.0}, Settings(importance="l1", round_to=1))
    assert [mask.tolist() for mask in stage.kept] == [[False, True, False, True]]
    assert np.array_equal(stored_array(stage.model, "c"), stored_array(model, "c")[:, [1, 3]])


def test_a_wrong_coupling_names_its_group() -> None:
    model = softmax_over_channels()
    with pytest.raises(ProofError, match=r"proof failed at output .* group 'c0' is cut wrongly"):
        onnxprune.prune(model, {"ratio": 0.3}, latency=False, rules=WRONG)
    spared = onnxprune.prune(model, {"ratio": 0.6}, latency=False, rules=WRONG).report
    # the other group gets there alone
    assert [row["kept"] == row["channels"] for row in spared.groups] == [True, False]
    assert any("'c0' failed the proof and stays whole" in note for note in spared.notes)
    assert onnxprune.prune(model, {"ratio": 0.5}, latency=False).report.proof.passed


def test_kept_weights_are_bit_identical() -> None:
    result = onnxprune.prune(DIGITS, {"macs": 0.6}, compensate=False, latency=False)
    before, after = (
        {name: tensors.array(tensor) for name, tensor in graph.constants(model).items()}
        for model in (onnx.load(DIGITS), result.model)
    )
    for name, values in after.items():
        expected = before[name]
        for axis in range(expected.ndim):
            kept = result.plan.keep.get(Axis(name, axis))
            expected = expected if kept is None else np.take(expected, kept, axis)
        assert np.array_equal(values, expected), name
