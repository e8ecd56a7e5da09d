"""How much each number matters, one weight at a time."""

import numpy as np
import pytest
from present import present
from sparse_networks import SparseCase, sparse_case

from onnxprune.settings import Settings
from onnxprune.sparsity.criteria import magnitudes, randoms, scored_by, wanda
from onnxprune.sparsity.options import Sparsity


@pytest.fixture(scope="module")
def case() -> SparseCase:
    return sparse_case()


def test_magnitudes(case: SparseCase):
    scores = magnitudes(case.analysis.nodes, case.analysis.read)
    for weight in case.weights:
        stored = present(case.analysis.read(weight.name))
        np.testing.assert_array_equal(scores(weight), np.abs(weight.laid(stored)))


def test_random_numbers_are_those_of_seed_and_weight(case: SparseCase):
    first, second = case.weights[1:3]
    assert first.form == second.form
    np.testing.assert_array_equal(randoms(0)(first), randoms(0)(first))
    assert (randoms(0)(first) != randoms(0)(second)).any()
    assert (randoms(0)(first) != randoms(1)(first)).any()


def test_wanda_counts_what_numbers_are_multiplied_with(case: SparseCase):
    scores = wanda(case.analysis, case.weights, case.data.batches)
    plain = magnitudes(case.analysis.nodes, case.analysis.read)
    x = np.concatenate([batch["x"] for batch in case.data.batches])
    norms = np.sqrt((x.astype(np.float64) ** 2).mean((0, 2, 3)))
    first = case.weights[0]
    np.testing.assert_allclose(scores(first), plain(first) * norms, rtol=1e-5)


@pytest.mark.parametrize(
    ("criterion", "by_row"), [("auto", False), ("random", False), ("wanda", True)]
)
def test_the_criterion_that_is_asked_for(case: SparseCase, criterion: str, by_row: bool):
    options = Settings(calib={"x": np.ones((4, 3, 8, 8), np.float32)})
    what = Sparsity(sparsity=0.5, criterion=criterion)
    scored = scored_by(case.analysis.original, case.analysis.nodes, what, options)
    assert scored.by_row is by_row
    assert (scored.of(case.weights[0]) >= 0).all()
