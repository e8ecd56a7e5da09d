"""One layer's step by hand: its direction, its length, and the numbers that do not move."""

import numpy as np
import pytest
from networks import Net

from onnxprune.compensation.distillation import optimizer
from onnxprune.compensation.distillation.optimizer import (
    State,
    preconditioner,
    start,
    step,
    tuned_layers,
)
from onnxprune.groups.analysis import analyze

RNG = np.random.default_rng(0)


def layers(masks=None):
    """A convolution, a depthwise one, a dense layer with a bias, and one without."""
    net = Net(x=("N", 3, 6, 6))
    y = net.op("Conv", "x", net.weight(4, 3, 3, 3, name="conv"), net.weight(4, name="conv_bias"))
    y = net.op("Conv", y, net.weight(4, 1, 3, 3, name="depth"), net.weight(4, name="depth_bias"),
               group=4)  # fmt: skip
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    y = net.op(
        "Gemm", y, net.weight(5, 4, name="dense"), net.weight(5, name="dense_bias"), transB=1
    )
    analysis = analyze(net.model(net.op("MatMul", y, net.weight(5, 2, name="bare"))))
    return analysis, {t.names[0]: t for t in tuned_layers(analysis, masks or {})}


def test_layers_with_a_bias_are_tuned():
    analysis, found = layers()
    assert [tuned.names for tuned in found.values()] == [
        ("conv", "conv_bias"),
        ("depth", "depth_bias"),
        ("dense", "dense_bias"),
    ]
    shapes = {"conv": (1, 28, 4), "depth": (4, 10, 1), "dense": (1, 5, 5)}
    for name, tuned in found.items():
        value = start(tuned).value
        assert value.shape == shapes[name]
        for key, array in tuned.stored(value).items():
            np.testing.assert_array_equal(array, analysis.read(key))


def test_a_mask_holds_numbers_and_the_bias_of_a_weight_that_stays():
    moves = RNG.random((5, 4)) < 0.5
    _, found = layers({"dense": moves, "conv": np.zeros((4, 3, 3, 3), bool)})
    assert found["depth"].mask is None
    mask = found["dense"].mask
    np.testing.assert_array_equal(mask[0, :-1], moves.T)
    assert mask[0, -1].all() and not found["conv"].mask.any()


def test_moments_are_those_of_the_inputs_and_the_constant():
    rows = RNG.standard_normal((200, 3))
    wide = np.hstack([rows, np.ones((200, 1))])
    found = preconditioner(rows, depthwise=False)
    np.testing.assert_allclose(found.moments[0], wide.T @ wide / 200)
    ridge = optimizer.RIDGE * np.trace(wide.T @ wide / 200) / 4 * np.eye(4)
    np.testing.assert_allclose(found.inverse[0] @ (found.moments[0] + ridge), np.eye(4), atol=1e-10)
    value = RNG.standard_normal((1, 4, 2))
    assert found.energy(value) == pytest.approx(((wide @ value[0]) ** 2).sum() / 200)


def test_wide_layers_are_scaled_by_the_diagonal(monkeypatch: pytest.MonkeyPatch):
    rows = RNG.standard_normal((200, 3)) * [1, 10, 100]
    full = preconditioner(rows, depthwise=False).moments[0]
    monkeypatch.setattr(optimizer, "WIDEST", 2)
    found = preconditioner(rows, depthwise=False)
    np.testing.assert_allclose(found.moments[0, :, 0], np.diag(full))
    gradient = np.ones((1, 4, 1))
    np.testing.assert_allclose(
        found.direction(gradient)[0, :, 0], 1 / (np.diag(full) + 1e-3 * np.diag(full).mean())
    )


def test_depthwise_channels_are_scaled_one_by_one():
    rows = RNG.standard_normal((100, 9, 2))
    found = preconditioner(rows, depthwise=True)
    for channel in range(2):
        alone = preconditioner(rows[:, :, channel], depthwise=False)
        np.testing.assert_allclose(found.inverse[channel], alone.inverse[0])


def test_a_step_changes_results_by_the_share():
    rows = RNG.standard_normal((300, 4))
    scale, wide = preconditioner(rows, depthwise=False), np.hstack([rows, np.ones((300, 1))])
    value, gradient = RNG.standard_normal((1, 5, 3)), RNG.standard_normal((1, 5, 3))
    state = step(State(value, np.zeros_like(value)), gradient, scale, None, 0.01)
    moved = wide @ (state.value - value)[0]
    assert np.sqrt((moved**2).mean() / ((wide @ value[0]) ** 2).mean()) == pytest.approx(0.01)
    assert (gradient * (state.value - value)).sum() < 0  # downhill
    np.testing.assert_allclose(state.momentum, scale.direction(gradient))
    again = step(state, gradient, scale, None, 0.01)
    np.testing.assert_allclose(again.momentum, 1.9 * state.momentum)


def test_masked_numbers_stay():
    rows = RNG.standard_normal((300, 4))
    value, mask = RNG.standard_normal((1, 5, 3)), RNG.random((1, 5, 3)) < 0.5
    state = State(value, np.zeros_like(value))
    moved = step(state, np.ones_like(value), preconditioner(rows, False), mask, 0.1).value != value
    np.testing.assert_array_equal(moved, mask)


def test_a_gradient_of_zero_moves_nothing():
    value = RNG.standard_normal((1, 5, 3))
    state = State(value, np.zeros_like(value))
    scale = preconditioner(RNG.standard_normal((30, 4)), False)
    assert step(state, np.zeros_like(value), scale, None, 0.1).value is value
