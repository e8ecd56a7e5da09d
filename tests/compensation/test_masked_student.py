"""The model in the making gives what the cut model will give."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from cuts import drawn_masks
from networks import NETWORKS, samples_of
from numpy.typing import NDArray
from onnx_text import run

from onnxprune.calibration.segment import open_model
from onnxprune.compensation.masked_student import masked_student
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import skeleton
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import masked_weights, rewrite

Feeds: TypeAlias = Mapping[str, NDArray[Any]]


def result(model: Analysis, feeds: Feeds, patches: Feeds) -> NDArray[np.float32]:
    """What a model gives with other content of stored tensors."""

    def read(name: str) -> NDArray[np.float32] | None:
        return patches[name] if name in patches else model.read(name)

    (output,) = (value.name for value in model.model.graph.output)
    bare = skeleton.without_constant_nodes(model.model)
    found: NDArray[np.float32] = open_model(bare, [output], feeds, read).run(feeds)[output]
    return found


def test_removed_positions_are_where_the_cut_finds_them():
    """With zeros alone the normalisations would subtract another mean."""
    analysis = analyze(NETWORKS["layer_normalised"]())
    plan = plan_of(analysis.groups, drawn_masks(analysis))
    feeds = samples_of(analysis.model, np.random.default_rng(0))
    student, living = masked_student(analysis, plan)
    weights = masked_weights(analysis.read, analysis.nodes, plan)

    whole = result(analysis, feeds, {})
    np.testing.assert_allclose(result(student, feeds, {}), whole, rtol=1e-4, atol=1e-5)
    (expected,) = run(rewrite(analysis.model, analysis.nodes, plan), **feeds).values()
    told = result(student, feeds, weights | living)
    np.testing.assert_allclose(told, expected, rtol=1e-4, atol=1e-5)  # sums in another order
    assert not np.allclose(result(analysis, feeds, weights), expected, rtol=1e-2)


def test_without_a_mean_the_model_is_as_it_was():
    analysis = analyze(NETWORKS["chain"]())
    plan = plan_of(analysis.groups, drawn_masks(analysis))
    assert masked_student(analysis, plan) == (analysis, {})
