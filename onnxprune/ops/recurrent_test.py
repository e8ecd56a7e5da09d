from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from oracle import Case, build, case, check_rule, w

from onnxprune import ops
from onnxprune.ir import runtime
from onnxprune.ir.shape_inference import describe

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def u(*shape: int) -> NDArray[np.float32]:
    """A seeded weight of both signs, small enough not to saturate a gate."""
    values: NDArray[np.float32] = w(*shape) - np.float32(1)
    return values


def layer(kind: str, n: int, h: int, dirs: int = 1) -> dict[str, Any]:
    """W, R, B of a layer with n features and h units."""
    rows = GATES[kind] * h
    return {"w": u(dirs, rows, n), "r": u(dirs, rows, h), "b": u(dirs, 2 * rows)}


X: dict[str, Any] = {"x": (5, 2, 3)}
H0: dict[str, Any] = {"h": (1, 2, 4)}
C0: dict[str, Any] = {"c": (1, 2, 4)}
TWO = 'direction="bidirectional"'
LENGTHS = np.array([5, 3], np.int32)
CASES = [
    *(case(f"y, z = {k}<hidden_size=4>(x, w, r, b)", 3 + 4, **X, **layer(k, 3, 4)) for k in GATES),
    *(
        case(f"y, z = {k}<hidden_size=4, {TWO}>(x, w, r, b)", 3 + 4, **X, **layer(k, 3, 4, 2))
        for k in GATES
    ),
    *(
        case(f"y, z = {k}<hidden_size=4>(x, w, r, b, , h)", 3 + 4, **X, **layer(k, 3, 4), **H0)
        for k in GATES
    ),
    case("y = LSTM<hidden_size=4>(x, w, r)", 3 + 4, **X, w=u(1, 16, 3), r=u(1, 16, 4)),
    case('y = LSTM<hidden_size=4, direction="reverse">(x, w, r, b)', 7, **X, **layer("LSTM", 3, 4)),
    case("y, h1, c1 = LSTM<hidden_size=4>(x, w, r, b, , h, c, p)", 3 + 4,
         **X, **layer("LSTM", 3, 4), **H0, **C0, p=u(1, 12)),
    case("y = LSTM<hidden_size=4>(x, w, r, b, s, h, c)", 3 + 4,
         **X, **layer("LSTM", 3, 4), s=LENGTHS, h=u(1, 2, 4), c=w(1, 2, 4)),
    case(f"y, h1, c1 = LSTM<hidden_size=4, {TWO}>(x, w, r, b, s, , , p)", 3 + 4,
         **X, **layer("LSTM", 3, 4, 2), s=LENGTHS, p=u(2, 12)),
    case(", h1 = LSTM<hidden_size=4>(x, w, r, b)", 3 + 4, **X, **layer("LSTM", 3, 4)),
    case(", , c1 = LSTM<hidden_size=4>(x, w, r, b)", 3 + 4, **X, **layer("LSTM", 3, 4)),
    case(", h1 = GRU<hidden_size=4>(x, w, r, b)", 3 + 4, **X, **layer("GRU", 3, 4)),
    case("y = GRU<hidden_size=4, linear_before_reset=1>(x, w, r, b, , h)", 3 + 4,
         **X, **layer("GRU", 3, 4), **H0),
    # activations that are not zero at zero, clipping and coupled gates: nobody reads the unit
    case('y = LSTM<hidden_size=4, activations=["Sigmoid","Sigmoid","HardSigmoid"]>(x, w, r, b)', 7,
         **X, **layer("LSTM", 3, 4)),
    case('y = GRU<hidden_size=4, activations=["Tanh","Softplus"]>(x, w, r, b)', 3 + 4,
         **X, **layer("GRU", 3, 4)),
    case('y = RNN<hidden_size=4, activations=["Affine","Sigmoid"], activation_alpha=[0.5],'
         f' activation_beta=[0.3], {TWO}>(x, w, r, b)', 3 + 4, **X, **layer("RNN", 3, 4, 2)),
    case("y = LSTM<hidden_size=4, clip=0.1>(x, w, r, b)", 3 + 4, **X, **layer("LSTM", 3, 4)),
    case("y = LSTM<hidden_size=4, input_forget=1>(x, w, r, b)", 7, **X, **layer("LSTM", 3, 4)),
    # a computed recurrence is read at dead columns too
    case("y = GRU<hidden_size=4>(x, w, r)", 3, **X, w=u(1, 12, 3), r=(1, 12, 4)),
    case("y = RNN<hidden_size=4>(x, w, r)", 4, **X, w=(1, 4, 3), r=u(1, 4, 4)),
    # what exporters write between two layers
    case(f"y = LSTM<hidden_size=4, {TWO}>(x, w, r, b);"
         " t = Transpose<perm=[0,2,1,3]>(y); f = Reshape(t, k);"
         f" z = GRU<hidden_size=5, {TWO}>(f, w2, r2)", 3 + 4 + 5,
         **X, **layer("LSTM", 3, 4, 2), k=np.array([0, 0, -1]), w2=u(2, 15, 8), r2=u(2, 15, 5)),
    case("y = GRU<hidden_size=4>(x, w, r, b); s = Squeeze(y, k); z = LSTM<hidden_size=5>(s, v, q)",
         3 + 4 + 5, **X, **layer("GRU", 3, 4), k=np.array([1]), v=u(1, 20, 4), q=u(1, 20, 5)),
    # an encoder's last states start the decoder
    case(", h, c = LSTM<hidden_size=4>(x, w, r, b); y = LSTM<hidden_size=4>(x, v, q, , , h, c)",
         3 + 4, **X, **layer("LSTM", 3, 4), v=-u(1, 16, 3), q=-u(1, 16, 4)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)


@pytest.mark.parametrize("dirs", [1, 2])
@pytest.mark.parametrize("kind", GATES)
def test_the_other_layout(kind: str, dirs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime does not run layout 1 on a processor; onnx's own evaluator does."""

    def run(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> dict[str, Any]:
        evaluator = ReferenceEvaluator(model)
        return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))

    monkeypatch.setattr(runtime, "open_session", lambda m, **_: onnx.load_from_string(m))
    monkeypatch.setattr(runtime, "run", run)
    way = "bidirectional" if dirs == 2 else "forward"
    check_rule(
        case(
            f'y, z = {kind}<hidden_size=4, layout=1, direction="{way}">(x, w, r, b, , h)',
            3 + 4,
            **{**X, **layer(kind, 3, 4, dirs), "h": (5, dirs, 4)},
        )
    )


@pytest.mark.parametrize("kind", GATES)
def test_macs_are_those_of_both_products(kind: str) -> None:
    c = case(f"y = {kind}<hidden_size=4, {TWO}>(x, w, r, b)", 7, **X, **layer(kind, 3, 4, 2))
    (node,) = describe(build(c), ops.traits())
    steps = 5 * 2 * 2
    assert [work.amount for work in ops.works_of(node)] == [
        steps * GATES[kind] * 4 * 3,
        steps * GATES[kind] * 4 * 4,
    ]


def test_data_of_another_rank_count_nothing() -> None:
    """No runtime takes them, but only a run says so."""
    (node,) = describe(
        build(case("y = GRU<hidden_size=4>(x, w, r)", 0, x=(5,), **layer("GRU", 3, 4))),
        ops.traits(),
    )
    assert list(ops.works_of(node)) == []
