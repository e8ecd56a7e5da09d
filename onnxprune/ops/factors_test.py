from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from oracle import build, case, described, w

from onnxprune.ops.factors import Passed, passed

Array = NDArray[np.float32]
#: An operator on x beside a stored s, the input that is multiplied by 4, and what becomes of that.
FOUND: Mapping[str, tuple[int, Passed | None]] = {
    "y = Add(x, s)": (0, Passed(4.0, {1: 0.25})),
    "y = Sub(s, x)": (1, Passed(4.0, {0: 0.25})),
    "y = Sum(s, x, s)": (1, Passed(4.0, {0: 0.25, 2: 0.25})),
    "y = Sqrt(x)": (0, Passed(2.0)),
    "y = Reciprocal(x)": (0, Passed(0.25)),
    "y = Pow(x, half)": (0, Passed(0.5)),
    "y = Div(x, s)": (0, Passed(4.0)),
    "y = Div(s, x)": (1, Passed(0.25)),
    "y = Mul(s, x)": (1, Passed(1.0, {0: 4.0})),
    "y = Mul(x, x2)": (0, Passed(4.0)),
    "y = Cast<to=11>(x)": (0, Passed(4.0)),
    "y = Transpose(x)": (0, Passed(4.0)),
    "y = Add(x, x2)": (0, None),
    "y = Concat<axis=0>(x, x2)": (0, None),
    "y = Exp(x)": (0, None),
    "y = Pow(s, x)": (1, None),
    "y = Pow(x, s)": (0, None),
}


@pytest.mark.parametrize("text", FOUND)
def test_a_factor_passes_as_the_operator_computes(text: str) -> None:
    """Where it passes, onnxruntime gives with the factor what it gives with the others' factors."""
    index, expected = FOUND[text]
    used: dict[str, Any] = {
        "x": (2, 3),
        "x2": (2, 3),
        "s": w(2, 3),
        "half": np.array([-0.5], np.float32),
    }
    c = case(text, 0, **{name: v for name, v in used.items() if name in names(text)})
    (node,) = described(build(c))
    assert passed(node, index, 4.0) == expected
    if expected is not None:
        x = np.random.default_rng(0).uniform(0.5, 2, (2, 3)).astype(np.float32)
        given: dict[str, Any] = {**used, "x": x, "x2": x + 1}
        one = computed(text, [given[n] for n in names(text)], {index: 4.0})
        other = computed(text, [given[n] for n in names(text)], expected.times)
        np.testing.assert_allclose(one, expected.factor * other, rtol=1e-5)


def names(text: str) -> list[str]:
    """The inputs of an operator."""
    return [name.strip() for name in text.split("(")[1].rstrip(")").split(",")]


def computed(text: str, given: list[Array], times: Mapping[int, float]) -> Array:
    """What the operator gives, with inputs multiplied."""
    inputs = {f"x{k}": np.float32(times.get(k, 1)) * v for k, v in enumerate(given)}
    shapes = {name: value.shape for name, value in inputs.items()}
    model = build(case(f"{text.split('(')[0]}({', '.join(inputs)})", 0, **shapes))
    (result,) = ReferenceEvaluator(model).run(None, inputs)
    return np.asarray(result)
