"""How much goes of each layer."""

import joblib
import numpy as np
import pytest
from sparse_networks import SparseCase, sparse_case

from onnxprune.groups.units import Row, Unit
from onnxprune.settings import Settings
from onnxprune.sparsity.shares import Competing, best_shares, measured_shares
from onnxprune.sparsity.units_weights import SHARES


def row(size: int, errors) -> Row:
    """A weight of which every share may go, with a function for the error."""
    levels = size - (SHARES * size)[::-1]
    return Row(Unit("w", "numbers", levels), errors(SHARES)[::-1])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.65, 0.9])
def test_as_many_go_as_asked_for(share: float):
    rows = [row(1000, lambda s: s**3), row(200, lambda s: 0.1 * s**2), row(3000, lambda s: 2 * s)]
    shares = best_shares(rows, share * 4200)
    assert np.dot(shares, [1000, 200, 3000]) == pytest.approx(share * 4200, rel=1e-9)
    assert all(0 <= s <= SHARES[-1] + 1e-12 for s in shares)


def test_slopes_are_equal_at_the_best_shares():
    """Of s² / 2 and 2 s² over the same size the first loses four times the share of the other."""
    shares = best_shares([row(1000, lambda s: s**2 / 2), row(1000, lambda s: 2 * s**2)], 1000)
    assert shares[0] == pytest.approx(0.8, abs=0.03) and sum(shares) == pytest.approx(1.0)


def test_more_than_may_go_takes_all_that_may():
    shares = best_shares([row(100, lambda s: s), row(50, lambda s: s)], 149.9)
    assert shares == pytest.approx([SHARES[-1]] * 2)


@pytest.fixture(scope="module")
def case() -> SparseCase:
    return sparse_case()


def test_shares_follow_from_what_was_measured(case: SparseCase):
    told: list[float] = []
    competing = Competing(case.weights, case.layers, 0.6)
    found = measured_shares(case.analysis, competing, case.data, Settings(), told.append)
    assert set(found.of) == {weight.name for weight in case.weights}
    total = sum(weight.size for weight in case.weights)
    gone = sum(found.of[weight.name] * weight.size for weight in case.weights)
    assert gone == pytest.approx(0.6 * total)
    assert len(set(found.of.values())) > 1 and told[-1] == 1
    assert "shares of 3 layers follow from divergences measured on" in found.notes[0]


def test_what_is_no_layer_loses_as_much_as_all(case: SparseCase):
    some = dict(list(case.layers.items())[:2])
    two, none = (Competing(case.weights, known, 0.5) for known in (some, {}))
    found = measured_shares(case.analysis, two, case.data, Settings())
    assert found.of[case.weights[2].name] == 0.5 and "shares of 2 layers" in found.notes[0]
    alone = measured_shares(case.analysis, none, case.data, Settings())
    assert set(alone.of.values()) == {0.5} and alone.notes == ()


def test_several_jobs_find_the_same_shares(case: SparseCase):
    competing = Competing(case.weights, case.layers, 0.6)
    with joblib.parallel_config("threading"):
        found = measured_shares(case.analysis, competing, case.data, Settings(jobs=2))
    assert found == measured_shares(case.analysis, competing, case.data, Settings())
