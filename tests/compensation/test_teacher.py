"""Which values of another model layers may aim at, and at which positions."""

import numpy as np
import pytest

from onnxprune.calibration.samples import Calibration
from onnxprune.compensation.teacher import Teacher
from onnxprune.ir.graph import ModelProto
from onnxprune.types import Axis, Plan


def teacher_with(plan: Plan) -> Teacher:
    return Teacher(ModelProto(), lambda name: None, Calibration((), (), "", ""), plan)


def test_a_teacher_gives_the_positions_that_are_left():
    cut = teacher_with(Plan({Axis("t", 1): np.array([0, 2])}, {Axis("t", 1): 3}))
    values = np.arange(12).reshape(2, 3, 2)
    np.testing.assert_array_equal(cut.value("t", values), values[:, [0, 2]])
    assert cut.value("other", values) is values


@pytest.mark.parametrize(
    ("keep", "nominal", "mixed", "knows"),
    [
        ({}, (), (), True),
        ({Axis("t", 1)}, (), (), True),
        ({Axis("t", 1)}, (), ("t",), False),  # positions are mixtures now
        ({}, (), ("t",), True),  # of which none went
        ({Axis("t", 1)}, (Axis("t", 1),), (), False),  # which position is which is not known
    ],
)
def test_which_values_a_teacher_knows(keep, nominal, mixed, knows: bool):
    plan = Plan({a: np.array([0]) for a in keep}, dict.fromkeys(keep, 3), frozenset(nominal))
    assert teacher_with(plan).knows("t", {"t"}, mixed) == knows
    assert not teacher_with(plan).knows("t", set(), mixed)
