"""What outputs are compared by: the form of each, and the tensor that stands in for it."""

from typing import Any

import numpy as np
import pytest
from lessons import batch_of
from numpy.typing import NDArray

from onnxprune import InputError
from onnxprune.training.compared import Losses, Seen, losses_of, objectives_for
from onnxprune.training.options import Training

RNG = np.random.default_rng(0)
SCORES = RNG.standard_normal((6, 3)).astype(np.float32)
SHARES = np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)
SURE = 1 / (1 + np.exp(-SCORES))


def seen(value: NDArray[Any], behind: NDArray[Any] | None = None, normalised: bool = False) -> Seen:
    batch = batch_of({"x": np.zeros((6, 4), np.float32)})
    values = {"y": value} if behind is None else {"y": value, "s": behind}
    return Seen(
        batch, values, ["y"], {} if behind is None else {"y": "s"}, "y" if normalised else ""
    )


def found(what: Seen, labels: NDArray[Any] | None = None, kind: str = "") -> tuple[str, str, bool]:
    arrays = {"x": np.zeros((6, 4), np.float32)}
    batches = [] if labels is None else [batch_of({**arrays, "labels": labels}, "y")]
    losses = Losses(1.0 if batches else 0.0, kind, 0.0 if batches else 1.0, 0.0)
    (one,) = objectives_for(what, losses, batches)
    return one.form, one.tensor, one.scores


NUMBERS = np.array([0, 1, 2, 0, 1, 2])


def test_class_numbers():
    assert found(seen(SCORES), NUMBERS) == ("classes", "y", True)
    assert found(seen(SHARES, SCORES, True), NUMBERS) == ("classes", "s", True)
    assert found(seen(SHARES), NUMBERS) == ("classes", "y", False)


def test_yes_or_no():
    labels = (SCORES > 0).astype(np.int64)
    assert found(seen(SCORES), labels) == ("binary", "y", True)
    assert found(seen(SURE, SCORES), labels) == ("binary", "s", True)
    assert found(seen(SURE), labels) == ("binary", "y", False)


def test_numbers():
    assert found(seen(SCORES), 3 * SCORES) == ("numbers", "y", True)
    assert found(seen(SURE, SCORES), SURE / 2, "mse") == ("numbers", "y", True)


def test_a_teacher_alone():
    assert found(seen(SCORES)) == ("classes", "y", True)
    assert found(seen(SURE[:, :1], SCORES[:, :1])) == ("binary", "s", True)
    assert found(seen(SCORES[:, :1])) == ("numbers", "y", True)


def test_refusals():
    with pytest.raises(InputError, match="hold 2, but the output has 2 classes"):
        found(seen(SCORES[:, :2]), NUMBERS)
    with pytest.raises(InputError, match="without an axis for classes: choose --loss bce or"):
        found(seen(SCORES[:, 0]), NUMBERS, "ce")
    with pytest.raises(InputError, match="no output of floating point has labels or a teacher"):
        objectives_for(seen(SCORES), Losses(1.0, "", 0.0, 0.0), [])


@pytest.mark.parametrize(
    ("loss", "labelled", "taught", "message"),
    [
        ({"ce": 1.0}, False, True, "loss ce needs labels: give --data"),
        ({"ce": 1.0, "kl": 1.0}, True, False, "loss kl needs a teacher: give --teacher"),
        ({"ce": 1.0, "inside": 1.0}, True, False, "loss inside needs a teacher"),
        ({"inside": 1.0}, True, True, "nothing to learn from"),
        (None, False, False, "nothing to learn from: give labels"),
    ],
)
def test_losses_that_lack_something(loss: Any, labelled: bool, taught: bool, message: str):
    with pytest.raises(InputError, match=message):
        losses_of(Training(loss=loss), labelled, taught)


def test_losses_by_default():
    assert losses_of(Training(), True, True) == Losses(1.0, "", 1.0, 0.0)
    assert losses_of(Training(), True, False) == Losses(1.0, "", 0.0, 0.0)
    assert losses_of(Training(loss={"mse": 2.0}), True, True) == Losses(2.0, "mse", 0.0, 0.0)
