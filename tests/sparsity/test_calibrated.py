"""A model made sparse on samples: what goes, in how many steps, and what stays untouched."""

import numpy as np
import onnx
import pytest
from onnx_text import parsed
from present import present
from sparse_networks import SparseCase, sparse_case

from onnxprune.ir import graph
from onnxprune.settings import Settings
from onnxprune.sparsity.calibrated import calibrated
from onnxprune.sparsity.options import Sparsity


@pytest.fixture(scope="module")
def case() -> SparseCase:
    return sparse_case()


def made(case: SparseCase, what: Sparsity, **changes):
    feeds = {"x": np.concatenate([batch["x"] for batch in case.data.batches])}
    options = Settings(calib=feeds, distill=False, **changes)
    names = [weight.name for weight in case.weights]
    found = calibrated(case.analysis.original, names, what, options)
    read = graph.reader(found.model)
    return found, {name: read(name) for name in names}


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    "what",
    [
        Sparsity(sparsity=0.5),
        Sparsity(sparsity=0.5, scope="layer"),
        Sparsity(sparsity=0.5, criterion="magnitude"),
        Sparsity(sparsity=0.5, criterion="random"),
        Sparsity(sparsity=0.5, criterion="wanda", scope="layer"),
        Sparsity(sparsity=0.5, pattern="4x1"),
    ],
    ids=str,
)
def test_the_share_goes_in_any_number_of_steps(case: SparseCase, what: Sparsity, steps: int):
    _, weights = made(case, what, steps=steps)
    zeros = sum(int((values == 0).sum()) for values in weights.values())
    total = sum(values.size for values in weights.values())
    assert zeros == pytest.approx(0.5 * total, abs=30)


def test_measured_shares_are_told(case: SparseCase):
    found, weights = made(case, Sparsity(sparsity=0.6))
    assert found.notes[0].startswith("calibrated on ")
    assert found.notes[1].startswith("shares of 3 layers follow from divergences measured on ")
    densities = {round(float((values != 0).mean()), 3) for values in weights.values()}
    assert len(densities) > 1
    plain, weights = made(case, Sparsity(sparsity=0.6, scope="layer"))
    assert len(plain.notes) == 1
    assert {round(float((v != 0).mean()), 2) for v in weights.values()} == {0.4}


def test_excluded_weights_keep_their_bits(case: SparseCase):
    last = case.weights[-1].name
    _, weights = made(case, Sparsity(sparsity=0.5, scope="layer"), exclude=[f"^{last}$"])
    np.testing.assert_array_equal(weights[last], case.analysis.read(last))


def test_a_threshold_is_taken_layer_by_layer(case: SparseCase):
    _, weights = made(case, Sparsity(threshold=0.1))
    first = case.weights[0].name
    before = present(case.analysis.read(first))
    np.testing.assert_array_equal(weights[first] == 0, np.abs(before) < 0.1)


def test_a_bias_that_layers_share_is_stored_once_unless_it_changed():
    model = parsed("""
        g (float[N,8] x) => (float[N,8] y) {
            a = Gemm(x, v, b)
            h = Relu(a)
            c = Gemm(h, v, b)
            y = Gemm(c, v, b)
        }""")
    draw = np.random.default_rng(0)
    stored = {"v": draw.normal(size=(8, 8)), "b": draw.normal(size=8)}
    for name, values in stored.items():
        tensor = onnx.numpy_helper.from_array(values.astype(np.float32), name)
        model.graph.initializer.append(tensor)
    feeds = {"x": draw.normal(size=(32, 8)).astype(np.float32)}
    options = Settings(calib=feeds, distill=False)
    found = calibrated(model, ["v"], Sparsity(pattern="2:4"), options)
    assert {tensor.name for tensor in found.model.graph.initializer} == set(stored)
