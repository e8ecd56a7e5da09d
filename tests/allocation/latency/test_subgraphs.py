"""Parts of a model opened as models of their own."""

import numpy as np
import pytest
from clock import divided
from networks import NETWORKS
from paths import MODELS

from onnxprune.ir import runtime

DIGITS = str(MODELS / "digits.onnx")


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_subgraphs_run_alone_at_any_width(name: str):
    analysis, subgraphs = divided(NETWORKS[name]())
    for g, group in enumerate(analysis.groups):
        subgraph = subgraphs.around(g, [1.0] * len(subgraphs.single), 0.0)
        for width in {group.channels, max(1, group.channels // 2)}:
            _, job = subgraphs.job(subgraph, {g: width})
            outputs = runtime.run(runtime.open_session(job.model, optimize=False), job.feeds)
            assert sorted(outputs) == sorted(subgraph.gives)


def test_a_short_subgraph_is_timed_with_what_lies_around_it():
    _, subgraphs = divided(DIGITS)
    times = [1.0] * len(subgraphs.single)
    alone, wider = subgraphs.around(1, times, 0.0), subgraphs.around(1, times, 100.0)
    assert len(alone.protos) < len(wider.protos)
    assert set(wider.gives) <= {output.name for output in subgraphs.bare.graph.output}


def test_narrower_groups_make_a_smaller_model():
    analysis, subgraphs = divided(DIGITS)
    part = subgraphs.around(1, [1.0] * len(subgraphs.single), 0.0)
    half = analysis.groups[1].channels // 2
    whole, narrow = (subgraphs.job(part, widths).model for widths in ({}, {1: half}))
    assert len(narrow.model) < len(whole.model)
    assert subgraphs.job(part, {1: half}).signature == subgraphs.job(part, {1: half}).signature


def test_a_small_tensor_is_fed_as_it_is_and_a_large_one_by_its_shape():
    _, subgraphs = divided(DIGITS)
    for sample in subgraphs.fed.values():
        given = sample.kept({0: np.arange(1)})
        assert given.shape == (1, *sample.shape[1:]) and given.dtype == sample.dtype
        if sample.value is not None:
            np.testing.assert_array_equal(given, sample.value[:1])
    assert {sample.value is None for sample in subgraphs.fed.values()} == {True, False}
