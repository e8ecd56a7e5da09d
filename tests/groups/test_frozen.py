"""What must stay whole from the start, and what an exclusion that fits nothing says."""

import pytest
from text_models import perceptron, text_model

from onnxprune.errors import InputError
from onnxprune.groups.analysis import analyze
from onnxprune.groups.frozen import excluded_axes, interface_axes
from onnxprune.types import Axis

SCALAR = """
net (float[N, 3] x, float s) => (float[N, 3] y) {
    y = Mul (x, s)
}
"""


def test_every_axis_of_inputs_and_outputs_is_named() -> None:
    analysis = analyze(perceptron())
    assert interface_axes(analysis.model, analysis.nodes) == {
        Axis("x", 0): "'x' is an input of the model",
        Axis("x", 1): "'x' is an input of the model",
        Axis("y", 0): "'y' is an output of the model",
        Axis("y", 1): "'y' is an output of the model",
    }


def test_a_scalar_has_no_axis() -> None:
    analysis = analyze(text_model(SCALAR))
    assert {axis.tensor for axis in interface_axes(analysis.model, analysis.nodes)} == {"x", "y"}


def test_a_weight_is_excluded_by_its_name_on_all_its_axes() -> None:
    frozen = excluded_axes(analyze(perceptron()).nodes, ["^c$"])
    assert [(why.axis, why.node) for why in frozen] == [(Axis("c", 0), "n2"), (Axis("c", 1), "n2")]
    assert {(why.reason, why.hint) for why in frozen} == {
        ("excluded by the user", "drop --exclude")
    }


def test_a_node_is_excluded_with_all_its_constants() -> None:
    frozen = excluded_axes(analyze(perceptron()).nodes, ["n0"])
    assert [why.axis for why in frozen] == [Axis("a", 0), Axis("a", 1), Axis("b", 0)]


def test_without_patterns_nothing_is_excluded() -> None:
    assert excluded_axes(analyze(perceptron()).nodes, []) == []


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["n0", "nothing"], "exclude 'nothing': matches no node and no weight"),
        (["n0", "["], r"exclude '\[': not a regular expression: unterminated"),
        (["Relu"], "exclude 'Relu': matches no node"),  # an operator is no name
    ],
)
def test_a_pattern_that_fits_nothing_is_refused(patterns: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        excluded_axes(analyze(perceptron()).nodes, patterns)
