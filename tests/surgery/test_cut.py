"""One cut: what comes out, what it is proved on, and what is refused."""

from collections.abc import Sequence

import numpy as np
import pytest
from cuts import cut_to, drawn_masks, masks_without, softmax_over_channels, wrongly_analyzed
from networks import NETWORKS, Net
from onnx import ModelProto
from text_models import bottleneck, perceptron, seeded, stored_array

import onnxprune
from onnxprune import ops
from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import analyze
from onnxprune.settings import Settings
from onnxprune.surgery.cut import cut_lossless, equal, narrowed, running
from onnxprune.surgery.plan import plan_of
from onnxprune.types import Edit


def test_a_stage_holds_the_cut_the_plan_and_both_models_outputs() -> None:
    analysis = analyze(perceptron())
    kept = masks_without(analysis, a=[1, 3])
    stage = cut_to(analysis, kept)
    assert stage.analysis is analysis and stage.kept is kept
    assert stored_array(stage.model, "a").shape == (2, 3)
    plan = plan_of(analysis.groups, kept)
    assert stage.plan.keep.keys() == plan.keep.keys() and stage.plan.size == plan.size
    assert stage.proof.passed and stage.proof.reference == "masked original"
    assert stage.original["y"].shape == stage.pruned["y"].shape == (2, 2)
    assert not np.allclose(stage.original["y"], stage.pruned["y"])
    assert (stage.spared, stage.notes, stage.told, stage.counted) == ((), (), "", None)


def test_the_model_that_is_cut_stays_as_it_is() -> None:
    model = NETWORKS["residual_spine"]()
    analysis = analyze(model)
    before = analysis.model.SerializeToString(deterministic=True)
    cut_to(analysis, drawn_masks(analysis))
    assert analysis.model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("first", "given", "samples"),
    [("N", None, 2), ("N", (3, 3), 3), ("N", (1, 3), 1), (4, None, 4)],
)
def test_the_proof_runs_two_samples_where_that_is_not_said_otherwise(
    first: int | str, given: Sequence[int] | None, samples: int
) -> None:
    n = Net(x=(first, 3))
    analysis = analyze(n.model(n.gemm(n.relu(n.gemm("x", 3, 4)), 4, 2)))
    settings = Settings(input_shapes=None if given is None else {"x": given})
    stage = cut_to(analyze(analysis.original, settings), masks_without(analysis, c0=[0]), settings)
    assert stage.inputs["x"].shape == (samples, 3)


def test_the_seed_draws_the_inputs_of_the_proof() -> None:
    analysis = analyze(perceptron())
    kept = masks_without(analysis, a=[0])
    first, again, other = (cut_to(analysis, kept, Settings(seed=s)).inputs["x"] for s in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_group_that_is_no_block_must_keep_a_channel() -> None:
    analysis = analyze(perceptron())
    with pytest.raises(InputError, match="group 'a' must keep a channel"):
        cut_to(analysis, masks_without(analysis, a=range(4)))
    half = analyze(bottleneck())
    with pytest.raises(InputError, match="group 'w2' must keep a channel"):
        narrowed(half, masks_without(half, w2=range(5)), None)


def test_a_wrong_rule_is_caught_and_named() -> None:
    analysis = wrongly_analyzed()
    with pytest.raises(ProofError, match="group 'c0' is cut wrongly") as error:
        cut_to(analysis, masks_without(analysis, c0=[0, 1], c2=[3]))
    assert error.value.group == 0
    assert cut_to(analysis, masks_without(analysis, c2=[3])).proof.passed
    right = analyze(softmax_over_channels())
    assert [group.name for group in right.groups] == ["c2"]


def test_a_model_that_does_not_even_run_is_caught_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shrink function that forgets to move a slice: nothing wrong is handed out."""
    monkeypatch.setitem(ops.SHRINKS, "Pad", lambda node, kept: Edit())
    analysis = analyze(NETWORKS["pad_shortcut"]())
    with pytest.raises(ProofError, match=r"relative error inf .* is cut wrongly"):
        cut_to(analysis, drawn_masks(analysis, share=0.3))
    with pytest.raises(ProofError, match="is cut wrongly"):
        onnxprune.prune(NETWORKS["pad_shortcut"](), {"ratio": 0.2}, latency=False, round_to=1)


def test_inputs_that_the_original_itself_does_not_take_are_no_proof_error() -> None:
    n = Net(x=("N", 3, "L"))
    y = n.relu(n.op("Conv", "x", n.weight(4, 3, 5)))
    model = n.model(n.conv(y, 4, 2, rank=1))
    analysis = analyze(model)
    short = Settings(input_shapes={"x": (1, 3, 2)})
    with pytest.raises(InputError, match=r"onnxruntime cannot run the model on x \[1, 3, 2\]"):
        cut_to(analyze(model, short), masks_without(analysis, c0=[0]), short)


def planted() -> ModelProto:
    """Rows 1 and 2 of the first layer and their biases are zero."""
    model = perceptron()
    for tensor in model.graph.initializer:
        if tensor.name in ("a", "b"):
            values = seeded(*tensor.dims)
            values[[1, 2]] = 0
            tensor.raw_data = values.tobytes()
    return model


def test_lossless_removal_is_compared_with_the_original_itself() -> None:
    analysis, settings = analyze(planted()), Settings()
    with running(analysis, settings) as original:
        stage = cut_lossless(analysis, settings, original)
    assert [mask.tolist() for mask in stage.kept] == [[True, False, False, True]]
    assert stage.proof.passed and stage.proof.reference == "original"
    assert stage.told.startswith(
        "first 2 channels went without loss; that model equals the original"
    )
    np.testing.assert_allclose(stage.pruned["y"], stage.original["y"], rtol=1e-6)


def test_a_model_equals_the_original_only_if_it_computes_the_same() -> None:
    analysis = analyze(planted())
    with running(analysis, Settings()) as original:
        same, outputs = equal(analysis, analysis.model, original)
        dead = narrowed(analysis, masks_without(analysis, a=[1]), None)
        alive = narrowed(analysis, masks_without(analysis, a=[0]), None)
        assert same.passed and same.max_relative_error == 0 and outputs.keys() == {"y"}
        assert equal(analysis, dead, original)[0].passed
        proof = equal(analysis, alive, original)[0]
    assert not proof.passed and proof.reference == "original"
