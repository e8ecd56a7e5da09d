"""The pass that measures units, with a kind of unit made for the test."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from networks import NETWORKS, samples_of
from text_models import PERCEPTRON_SHAPES, text_model

from onnxprune.calibration.moments import Statistics
from onnxprune.calibration.samples import calibration
from onnxprune.errors import INTERNAL
from onnxprune.groups.analysis import analyze
from onnxprune.groups.units import Unit
from onnxprune.importance.output_divergence import Demand, divergence_samples
from onnxprune.importance.sensitivity import (
    Measurable,
    Measured,
    Response,
    interpolated,
    measure_sensitivities,
)
from onnxprune.importance.stored_layer import name_of, stored_layer
from onnxprune.pipeline.prune import prune
from onnxprune.settings import Settings

LEVELS = np.arange(5.0)
ERRORS = np.array([10.0, 6.0, 3.0, 1.0, 0.0])


@pytest.fixture(scope="module")
def chain():
    model = NETWORKS["chain"]()
    analysis = analyze(model)
    feeds = samples_of(model, np.random.default_rng(3))
    return analysis, calibration(feeds, model, Settings(), analysis.nodes)


def unmeasured(why: str) -> Measured:
    return Measured(np.zeros(5), {}, 0, why)


def scaled_unit(analysis, layer, seen: list[str]) -> Measurable[Measured]:
    """A lever that is no lever: at level k of 4 a layer's weight counts k quarters."""
    stored = stored_layer(layer, analysis)

    def respond(statistics: Mapping[str, Statistics]) -> Response[Measured]:
        mean = statistics[name_of(layer)].mean_x
        seen.append(name_of(layer))

        def weights(stays: float):
            return stored.changed(stored.matrix * stays / 4, mean)

        return Response(ERRORS, weights, lambda measured: measured)

    unit = Unit(layer.weight.name, "quarters", LEVELS)
    return Measurable(
        unit, lambda _runs: [3, 1], respond, unmeasured, (layer,), [layer.weight.name]
    )


def test_a_kind_of_unit_needs_no_more_than_its_response(chain):
    analysis, data = chain
    layers, seen = analysis.layers, list[str]()
    units = [scaled_unit(analysis, layer, seen) for layer in layers]
    shares: list[float] = []
    table = measure_sensitivities(analysis, units[::-1], data, shares.append)
    assert seen == [name_of(layer) for layer in layers]  # in the order of the graph
    assert shares == sorted(shares) and shares[-1] == 1
    for unit, row in zip(units[::-1], table, strict=True):
        assert list(row.measured) == [4, 3, 1] and row.measured[4] == 0
        assert 0 < row.measured[3] < row.measured[1]
        assert row.samples == table[0].samples <= data.samples
        np.testing.assert_allclose(row.errors[[1, 3, 4]], [row.measured[k] for k in (1, 3, 4)])
        assert (np.diff(row.errors) <= 0).all()
        assert row.errors[0] > row.errors[1]
        assert unit.changed


def test_a_change_behind_which_all_is_run_is_that_from_its_layer_on(chain):
    analysis, data = chain
    layer = analysis.layers[-1]
    alone = scaled_unit(analysis, layer, [])
    whole = replace(alone, changed=())
    one, other = measure_sensitivities(analysis, [alone, whole], data)
    for level in (3, 1):
        assert one.measured[level] == pytest.approx(other.measured[level], rel=1e-5)


def test_what_needs_no_statistics_is_measured_too(chain):
    analysis, data = chain
    layer = analysis.layers[0]
    stored = stored_layer(layer, analysis)
    name = layer.weight.name
    response = Response(
        ERRORS, lambda stays: {name: stored.weight * np.float32(stays / 4)}, lambda found: found
    )
    whole = Unit(name, "quarters", LEVELS)
    unit = Measurable(whole, lambda _runs: [2], lambda _: response, unmeasured)
    (row,) = measure_sensitivities(analysis, [unit], data)
    samples = divergence_samples(analysis, data, [Demand((), [1] * 5)])
    assert row.measured[2] == samples.divergence({name: stored.weight * np.float32(0.5)})


def test_between_measurements_divergence_follows_the_layer_error():
    found = interpolated(LEVELS, ERRORS, {4: 0.0, 3: 2.0, 1: 12.0})
    # 2 per unit of error up to 1, then 10 for 5 units, and beyond in proportion to all: 12 for 6
    np.testing.assert_allclose(found, [20.0, 12.0, 6.0, 2.0, 0.0], rtol=1e-9)


def test_a_measurement_between_two_levels():
    found = interpolated(LEVELS, ERRORS, {4: 0.0, 2.5: 4.0})  # the layer error there is 2
    np.testing.assert_allclose(found, 2 * ERRORS, rtol=1e-9)


def test_divergence_never_rises_with_what_stays():
    found = interpolated(LEVELS, ERRORS, {4: 0.0, 3: 2.0, 2: 1.0, 1: 5.0})
    assert (np.diff(found) <= 0).all() and found[3:1:-1] == pytest.approx([2.0, 2.0])
    bumpy = interpolated(LEVELS, np.array([5.0, 2.0, 3.0, 1.0, 0.0]), {4: 0.0, 3: 1.0})
    assert (np.diff(bumpy) <= 0).all()


def test_nothing_measured_is_no_divergence():
    assert not interpolated(LEVELS, ERRORS, {4: 0.0}).any()


def test_a_failure_costs_one_unit(chain):
    """What happens to one unit changes no other, and is told with it."""
    analysis, data = chain
    layers = analysis.layers
    units = [scaled_unit(analysis, layer, []) for layer in layers]

    def broken(_statistics: Mapping[str, Statistics]) -> Response[Measured]:
        raise ValueError("of one unit")

    def endless(_statistics: Mapping[str, Statistics]) -> Response[Measured]:
        name = layers[1].weight.name
        content = np.full(analysis.stored[name], np.nan, np.float32)
        return Response(ERRORS, lambda stays: {name: content}, lambda found: found)

    wrong = [replace(units[0], respond=broken), replace(units[1], respond=endless), *units[2:]]
    good, table = (measure_sensitivities(analysis, u, data) for u in (units, wrong))
    assert table[0].unmeasured == f"{INTERNAL}of one unit"
    assert table[1].unmeasured == "its divergence is no finite number"
    for one, other in zip(good[2:], table[2:], strict=True):
        assert not other.unmeasured and one.measured == other.measured


@pytest.mark.parametrize("error", [MemoryError, OSError])
def test_what_the_machine_lacks_is_no_failure_of_a_unit(chain, error: type[Exception]):
    analysis, data = chain

    def lacking(_statistics: Mapping[str, Statistics]) -> Response[Measured]:
        raise error

    unit = replace(scaled_unit(analysis, analysis.layers[0], []), respond=lacking)
    with pytest.raises(error):
        measure_sensitivities(analysis, [unit], data)


def test_samples_without_finite_numbers_say_nothing_of_a_layer(chain):
    analysis, data = chain
    (feeds,) = data.batches
    nothing = {name: np.full_like(values, np.inf) for name, values in feeds.items()}
    endless = replace(data, batches=(nothing,))
    units = [scaled_unit(analysis, layer, []) for layer in analysis.layers]
    table = measure_sensitivities(analysis, units, endless)
    assert all("no sample gives finite numbers" in row.unmeasured for row in table)


def test_a_layer_whose_result_nobody_reads_is_no_obstacle():
    text = """
    net (float[N, 3] x) => (float[N, 2] y) {
        h = Gemm <transB = 1> (x, a, b)
        r = Relu (h)
        z = Gemm <transB = 1> (r, e, f)
        y = Gemm <transB = 1> (r, c, d)
    }
    """
    model = text_model(text, **PERCEPTRON_SHAPES, e=(5, 4), f=(5,))
    calib = {"x": np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)}
    result = prune(model, {"macs": 0.7}, calib=calib, distill=False, latency=False)
    assert result.report.achieved["macs"] <= 0.7
