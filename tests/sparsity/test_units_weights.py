"""The numbers of a weight as a unit: its levels, its error, the weights where it is measured."""

from dataclasses import replace

import numpy as np
import pytest
from sparse_networks import sparse_case

from onnxprune.importance.sensitivity import measure_sensitivities
from onnxprune.sparsity.units_weights import SHARES, weight_unit


@pytest.fixture(scope="module")
def measured():
    case = sparse_case()
    units = [weight_unit(case.analysis, w, case.layers[w.name], 0.5) for w in case.weights]
    return case, units, measure_sensitivities(case.analysis, units, case.data)


def test_levels_are_numbers_that_stay(measured):
    case, units, _ = measured
    for weight, unit in zip(case.weights, units, strict=True):
        assert unit.unit.kind == "numbers" and unit.unit.levels[-1] == weight.size
        np.testing.assert_allclose(unit.unit.levels[0], 0.02 * weight.size)
        assert len(unit.unit.levels) == len(SHARES) and (np.diff(unit.unit.levels) > 0).all()


def test_a_weight_is_measured_at_the_share_asked_for(measured):
    case, _, table = measured
    for weight, found in zip(case.weights, table, strict=True):
        assert list(found.measured) == [weight.size, weight.size / 2]
        assert found.errors.shape == SHARES.shape and (np.diff(found.errors) <= 0).all()
        half = np.interp(weight.size / 2, weight.size - (SHARES * weight.size)[::-1], found.errors)
        assert found.errors[-1] == 0
        assert half == pytest.approx(found.measured[weight.size / 2], rel=1e-6)


def test_there_so_many_numbers_are_zero(measured):
    """About as many: the sweep takes a twentieth of the layer at a time."""
    case, units, _ = measured
    seen = {}

    def noticed(unit, statistics):
        response = unit.respond(statistics)
        seen[unit.unit.name] = response.weights(unit.stays(1)[0])[unit.unit.name]
        return response

    spied = [replace(u, respond=lambda s, u=u: noticed(u, s)) for u in units]
    measure_sensitivities(case.analysis, spied, case.data)
    for weight in case.weights:
        share = (seen[weight.name] == 0).mean()
        assert share == pytest.approx(0.5, abs=0.05)
