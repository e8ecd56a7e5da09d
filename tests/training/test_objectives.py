"""Losses of outputs: their values, and their gradients against finite differences."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx_text import parsed

from onnxprune.compensation.distillation.backward import TARGET, differentiated
from onnxprune.groups.analysis import analyze
from onnxprune.training.objectives import Objective, loss_of, seed_of, shares, target_of

Array = NDArray[Any]
RNG = np.random.default_rng(0)


def objective(**changes: Any) -> Objective:
    return Objective("y", "y", **{"form": "classes", "labels": 0.5, "teacher": 1.5, **changes})


def soft(shape: tuple[int, ...], axis: int) -> Array:
    drawn = RNG.random(shape) + 0.1
    return drawn / drawn.sum(axis, keepdims=True)


CASES = {
    "scores": (objective(), (5, 3), 17),
    "scores of images": (objective(), (2, 3, 4, 5), 17),
    "scores of images, an old version": (objective(), (2, 3, 4, 5), 11),
    "scores of words": (objective(axis=2), (2, 4, 3), 17),
    "probabilities": (objective(scores=False), (5, 3), 17),
    "yes or no": (objective(form="binary"), (5, 2), 17),
    "probability of yes": (objective(form="binary", scores=False), (5, 2), 17),
    "numbers": (objective(form="numbers", spread=4.0), (5, 2), 17),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_loss(name: str):
    """Central differences of a loss in double precision, to 1e-3 of the largest gradient."""
    one, shape, opset = CASES[name]
    sizes = ", ".join(map(str, shape))
    text = f"net (float[{sizes}] x) => (float[{sizes}] y) {{ y = Mul (x, w) }}"
    model = parsed(text, opset)
    w = np.ones(shape, np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    x = soft(shape, one.axis) if not one.scores else RNG.standard_normal(shape)
    x = x.astype(np.float32)
    numbers = one.form == "numbers"
    target = RNG.standard_normal(shape) if numbers else soft(shape, one.axis)
    found = differentiated(analyze(model), ["w"], {"y": seed_of(one, shape)}, w.dtype)
    assert found is not None
    got = found.run({"x": x, "w": w, f"{TARGET}y": target.astype(np.float32)})["w"] / x

    def loss(y: Array) -> float:
        return one.weight * float(loss_of(one, shares(one, y), target).mean())

    flat, step = x.astype(np.float64), 1e-5
    expected = np.zeros(shape)
    for at in np.ndindex(*shape):
        bump = np.zeros(shape)
        bump[at] = step
        expected[at] = (loss(flat + bump) - loss(flat - bump)) / (2 * step)
    np.testing.assert_allclose(got, expected, atol=1e-3 * np.abs(expected).max())


def test_losses_are_zero_at_the_target():
    for one, shape, _ in CASES.values():
        target = soft(shape, one.axis)
        assert np.abs(loss_of(one, target, target)).max() < 1e-9
        assert loss_of(one, target, soft(shape, one.axis)).mean() > 1e-3


def test_labels_and_teacher_mix_by_their_weights():
    labels, taught = np.eye(3)[[0, 1]], np.full((2, 3), 1 / 3)
    mixed = target_of(objective(), labels, taught)
    np.testing.assert_allclose(mixed, 0.25 * labels + 0.75 * taught)
    assert target_of(objective(), labels, None) is labels
    assert target_of(objective(), None, taught) is taught
