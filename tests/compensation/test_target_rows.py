"""What a teacher gives at drawn places: as many rows as a layer needs, failures apart."""

import numpy as np
import pytest
from networks import NETWORKS, samples_of
from present import present

from onnxprune.calibration.batches import growths
from onnxprune.calibration.samples import Calibration
from onnxprune.compensation import target_rows
from onnxprune.compensation.layer_targets import LayerTarget
from onnxprune.compensation.target_rows import Look, TargetRows, positions_of
from onnxprune.compensation.teacher import own_teacher
from onnxprune.groups.analysis import Analysis, analyze
from onnxprune.groups.layers import POSITIONS, Layer


@pytest.fixture(scope="module")
def setting() -> tuple[Analysis, Calibration]:
    model = NETWORKS["residual_spine"]()
    feeds = samples_of(model, np.random.default_rng(0), 6)
    batches = tuple({"x": feeds["x"][k : k + 3]} for k in (0, 3))
    return analyze(model), Calibration(batches, (3, 3), "", "")


def rows_of(setting: tuple[Analysis, Calibration], looks: dict[int, Look]) -> TargetRows:
    analysis, data = setting
    return TargetRows(own_teacher(analysis, data), data, looks, growths(analysis.nodes))


def looks_of(analysis: Analysis, positions: int) -> dict[int, Look]:
    targets = [LayerTarget(layer.node.outputs[0].name, None) for layer in analysis.layers]
    pairs = zip(analysis.layers, targets, strict=True)
    return {k: Look(layer, target, positions) for k, (layer, target) in enumerate(pairs)}


def test_values_are_those_of_the_layer_at_its_places(setting):
    """From a layer's input, its places and its weight follow the rows that were kept."""
    analysis, data = setting
    layer = analysis.layers[0]
    rows = rows_of(setting, looks_of(analysis, 5))
    weight = present(analysis.read(layer.weight.name))
    bias = 0 if layer.bias is None else present(analysis.read(layer.bias.name))
    for feeds, (values, out, places) in zip(data.batches, rows.rows(0), strict=True):
        inputs = layer.inputs(feeds["x"], out, places, weight.shape)
        assert len(values) == 3 * 5
        result = inputs @ layer.matrix(weight) + bias
        np.testing.assert_allclose(values, result, rtol=1e-4, atol=1e-4)


def test_places_are_the_same_each_time_and_differ_from_batch_to_batch(setting):
    rows = rows_of(setting, looks_of(setting[0], 5))
    first, again = ([np.array(places) for _, _, places in rows.rows(0)] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])


def test_a_failure_costs_one_layer(setting, monkeypatch):
    outputs = Layer.outputs

    def failing(self, y, places):
        if self is setting[0].layers[1]:
            raise ArithmeticError("no rows")
        return outputs(self, y, places)

    monkeypatch.setattr(Layer, "outputs", failing)
    rows = rows_of(setting, looks_of(setting[0], 5))
    assert len(list(rows.rows(0))) == 2
    with pytest.raises(ArithmeticError, match="no rows"):
        list(rows.rows(1))


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device")])
def test_what_the_machine_lacks_ends_the_run(setting, monkeypatch, error: Exception):
    def failing(*_):
        raise error

    monkeypatch.setattr(Layer, "outputs", failing)
    with pytest.raises(type(error)):
        rows_of(setting, looks_of(setting[0], 5))


def test_wide_layers_get_rows_by_their_width(setting):
    layer = next(la for la in setting[0].layers if not la.dense and not la.depthwise)
    few, wide = (8, 4, 3, 3), (8, 4096, 3, 3)
    assert positions_of(layer, few, 64) == POSITIONS  # all that are of use
    samples = 2**16
    assert positions_of(layer, few, samples) == -(-target_rows.ELEMENTS // 36 // samples)
    assert positions_of(layer, wide, samples) == target_rows.ROWS_PER_INPUT * 4096 * 9 // samples
    assert positions_of(layer, few, 2**22) == target_rows.LEAST_POSITIONS
