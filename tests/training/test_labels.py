"""Labels: which loss fits, what they become, and what is refused."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxprune import InputError
from onnxprune.training.labels import check_labels, class_axis, label_target, loss_for, shape_for
from onnxprune.training.objectives import Objective

CLASSES = Objective("y", "y", "classes", labels=1.0)
BINARY = Objective("y", "y", "binary", labels=1.0)
NUMBERS = Objective("y", "y", "numbers", labels=1.0)


@pytest.mark.parametrize(
    ("shape", "labels", "axis"),
    [
        ((5, 3), (5,), 1),
        ((5, 3, 8, 8), (5, 8, 8), 1),
        ((5, 7, 3), (5, 7), 2),
        ((5, 1), (5,), None),
        ((5, 3), (4,), None),
    ],
)
def test_axis_of_classes(shape: tuple[int, ...], labels: tuple[int, ...], axis: int | None):
    assert class_axis(shape, labels) == axis


@pytest.mark.parametrize(
    ("labels", "shape", "loss"),
    [
        (np.array([0, 2, 1]), (3, 4), "ce"),
        (np.array([0, 1, 1]), (3, 1), "bce"),
        (np.array([0.0, 1.0, 1.0]), (3, 1), "bce"),
        (np.array([[0.2, 0.8], [0.5, 0.5]]), (2, 2), "ce"),
        (np.array([[0.2], [7.0]]), (2, 1), "mse"),
        (np.array([3, 7]), (2, 1), "mse"),
    ],
)
def test_loss_that_fits(labels: NDArray[Any], shape: tuple[int, ...], loss: str):
    assert loss_for([labels], np.zeros(shape, np.float32)) == loss


def test_class_numbers_become_ones():
    got = label_target(CLASSES, np.array([2, 0]), (7, 3))
    np.testing.assert_array_equal(got, [[0, 0, 1], [1, 0, 0]])
    words = Objective("y", "y", "classes", axis=2)
    assert label_target(words, np.array([[2, 0, 1, 1]]), (7, 9, 3)).shape == (1, 4, 3)
    assert shape_for(NUMBERS, np.zeros(4), (7, 1)) == (4, 1)
    np.testing.assert_array_equal(label_target(NUMBERS, np.ones(2), (7, 1)), [[1], [1]])


@pytest.mark.parametrize(
    ("objective", "labels", "shape", "message"),
    [
        (CLASSES, np.array([0, 3]), (2, 3), "hold 3, but the output has 3 classes: give numbers"),
        (CLASSES, np.array([0, -1]), (2, 3), "hold -1, but the output has 3 classes"),
        (CLASSES, np.array([0.0, 1.0]), (2, 3), "give class numbers as integers, from 0 to 2"),
        (CLASSES, np.array([0, 1, 2]), (2, 3), "give one class number for each row of 3 scores"),
        (CLASSES, np.array([[0.5, 0.6, 0]]), (1, 3), "must add up to 1"),
        (BINARY, np.array([0, 2]), (2, 1), "leave the range 0 to 1"),
        (NUMBERS, np.array([0.0, np.nan]), (2, 1), "hold NaN or infinity: leave"),
        (NUMBERS, np.array([0.0, 1.0]), (2, 3), "give a number for each"),
    ],
)
def test_refusals(objective: Objective, labels: NDArray[Any], shape: tuple[int, ...], message: str):
    with pytest.raises(InputError, match=message) as caught:
        check_labels(objective, labels, shape, "training data")
    assert str(caught.value).startswith("training data: labels of 'y' are ")


def test_labels_that_fit():
    check_labels(CLASSES, np.array([0, 2]), (2, 3), "data")
    check_labels(CLASSES, np.array([[0.5, 0.5, 0]]), (1, 3), "data")
    check_labels(BINARY, np.array([0, 1]), (2, 1), "data")
    check_labels(NUMBERS, np.array([-4.0, 7.0]), (2, 1), "data")
