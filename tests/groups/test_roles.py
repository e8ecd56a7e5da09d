"""What the axes of stored weights do, and the parameters that belong to each channel."""

import numpy as np
from text_models import perceptron, seeded, text_model

from onnxprune.groups.analysis import analyze
from onnxprune.groups.roles import biases_of, group_matrices, group_name, roles, rows_of
from onnxprune.types import Axis, Group, Site


def test_a_layer_makes_channels_along_one_axis_and_reads_along_another() -> None:
    known = roles(analyze(perceptron()).nodes)
    assert known.makes == {Axis("a", 0): "n0", Axis("c", 0): "n2"}
    assert known.reads == {Axis("a", 1): "n0", Axis("c", 1): "n2"}
    assert known.data == {Axis("a", 1): Axis("x", 1), Axis("c", 1): Axis("r", 1)}
    assert known.scales == {}


def test_depthwise_weights_read_nothing_of_their_own_and_normalisations_scale() -> None:
    text = """
    net (float[1, 4, 5, 5] x) => (float[1, 4, 3, 3] y) {
        h = Conv <group = 4> (x, w)
        y = BatchNormalization (h, scale, shift, mean, var)
    }
    """
    four = dict.fromkeys(("scale", "shift", "mean", "var"), (4,))
    known = roles(analyze(text_model(text, w=(4, 1, 3, 3), **four)).nodes)
    assert known.makes == {Axis("w", 0): "n0"} and known.reads == {}
    assert known.scales == {Axis("scale", 0): "n1"}


def test_a_computed_weight_passes_its_role_on_to_what_is_stored() -> None:
    """The transposed weight is never stored: rows become columns on the way."""
    text = """
    net (float[N, 3] x) => (float[N, 2] y) {
        t = Transpose (a)
        h = MatMul (x, t)
        y = MatMul (h, c)
    }
    """
    known = roles(analyze(text_model(text, a=(4, 3), c=(4, 2))).nodes)
    assert known.makes == {Axis("a", 0): "n1", Axis("c", 1): "n2"}
    assert known.reads == {Axis("a", 1): "n1", Axis("c", 0): "n2"}
    assert known.data[Axis("a", 1)] == Axis("x", 1)


def test_a_weight_put_together_from_parts_passes_its_role_to_all_of_them() -> None:
    text = """
    net (float[N, 3] x) => (float[N, 2] y) {
        t = Concat <axis = 0> (a, b)
        h = Gemm <transB = 1> (x, t)
        y = MatMul (h, c)
    }
    """
    known = roles(analyze(text_model(text, a=(2, 3), b=(3, 3), c=(5, 2))).nodes)
    assert known.makes == {Axis("a", 0): "n1", Axis("b", 0): "n1", Axis("c", 1): "n2"}
    assert known.reads == {Axis("a", 1): "n1", Axis("b", 1): "n1", Axis("c", 0): "n2"}


def test_a_product_of_two_activations_has_no_weight() -> None:
    text = """
    net (float[4, 3] x) => (float[4, 4] y) {
        t = Transpose (x)
        y = MatMul (x, t)
    }
    """
    known = roles(analyze(text_model(text)).nodes)
    assert not known.makes and not known.reads and not known.data


def test_biases_are_what_operators_add_as_such() -> None:
    assert biases_of(analyze(perceptron()).nodes) == {"b", "d"}


def test_the_stored_integers_behind_a_bias_are_a_bias() -> None:
    text = """
    net (float[N, 3] x) => (float[N, 4] y) {
        b = DequantizeLinear (whole, step)
        y = Gemm <transB = 1> (x, a, b)
    }
    """
    whole, step = np.arange(4, dtype=np.int32), np.array(0.5, np.float32)
    analysis = analyze(text_model(text, a=(4, 3), whole=whole, step=step))
    assert biases_of(analysis.nodes) == {"whole"}
    assert analysis.cost.full[1] == 4 * 3 + 4 + 1


def test_a_group_is_named_after_the_first_weight_that_makes_it() -> None:
    name = group_name(roles(analyze(perceptron()).nodes))
    assert name((Axis("h", 1), Axis("c", 0), Axis("a", 0))) == "c"
    assert name((Axis("h", 1), Axis("b", 0))) is None


def test_rows_hold_everything_at_a_channel_s_positions() -> None:
    values = np.arange(24).reshape(2, 4, 3)
    assert rows_of(values, 1, np.arange(4)[:, None]).tolist() == [
        [*values[0, k], *values[1, k]] for k in range(4)
    ]
    pairs = rows_of(values, 1, np.array([[3, 0], [1, 2]]))
    assert pairs[0].reshape(2, 2, 3).tolist() == [values[:, 3].tolist(), values[:, 0].tolist()]


def test_matrices_are_those_of_the_wanted_axes_that_are_stored() -> None:
    weight, bias = seeded(4, 3), seeded(4)
    axes = (Axis("w", 0), Axis("b", 0), Axis("h", 1))
    group = Group("w", 2, (Site(axes, np.array([[0], [2]]), 4),))
    read = {"w": weight, "b": bias}.get
    (matrix,) = group_matrices(group, {Axis("w", 0), Axis("h", 1)}, read)
    assert np.array_equal(matrix, weight[[0, 2]])
    both = list(group_matrices(group, set(axes), read))
    assert np.array_equal(both[1], bias[[0, 2], None])
