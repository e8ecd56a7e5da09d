"""One pass over the samples: the same tensors whether the model runs whole or in parts."""

from collections import defaultdict

import numpy as np
import pytest
from networks import NETWORKS, samples_of

from onnxprune.calibration import single_pass
from onnxprune.calibration.batches import growths
from onnxprune.calibration.segment import open_segment
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.ir import graph

Array = np.ndarray


@pytest.fixture(scope="module")
def traced() -> tuple[Analysis, list[dict[str, Array]]]:
    model = NETWORKS["residual_spine"]()
    feeds = samples_of(model, np.random.default_rng(0), 8)
    return analyze(model), [{"x": feeds["x"][k : k + 4]} for k in (0, 4)]


def given(traced, names) -> dict[str, list[Array]]:
    analysis, batches = traced
    asked = single_pass.Asked(names, growths(analysis.nodes))
    found: defaultdict[str, list[Array]] = defaultdict(list)
    for number, values in single_pass.single_pass(analysis.model, batches, asked, analysis.read):
        for name, array in values.items():
            assert len(found[name]) == number
            found[name].append(array)
    return found


def test_a_model_in_parts_gives_what_the_whole_gives(traced, monkeypatch):
    names = {node.outputs[0].name for node in traced[0].nodes if node.op == "Conv"}
    whole = given(traced, names)
    assert whole.keys() == names
    for module, limit in ((single_pass, "LIMIT"), (graph, "LARGE")):
        with monkeypatch.context() as patched:
            patched.setattr(module, limit, 2000)
            parts = given(traced, names)
        assert parts.keys() == names
        for name in names:
            for one, other in zip(whole[name], parts[name], strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_limits_divide_the_model(traced, monkeypatch):
    opened = []

    def counted(*arguments):
        opened.append(arguments)
        return open_segment(*arguments)

    monkeypatch.setattr(single_pass, "open_segment", counted)
    names = {node.outputs[0].name for node in traced[0].nodes if node.op == "Conv"}
    given(traced, names)
    assert len(opened) == 1
    monkeypatch.setattr(single_pass, "LIMIT", 2000)
    given(traced, names)
    assert len(opened) > 2


def test_operators_behind_the_last_tensor_do_not_run(traced, monkeypatch):
    parts = []

    def seen(bare, part, *rest):
        parts.append(part)
        return open_segment(bare, part, *rest)

    monkeypatch.setattr(single_pass, "open_segment", seen)
    first = traced[0].nodes[0].outputs[0].name
    assert list(given(traced, {first})) == [first]
    assert [len(part.nodes) for part in parts] == [1]
    assert given(traced, set()) == {}
