import numpy as np
import pytest
from oracle import Case, build, case, check_rule, described, freed, ints, w

from onnxprune.groups.dependency import Constraints
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import rewrite

CENTRED = "m = ReduceMean<axes=[-1]>(x); c = Sub(x, m)"
SPREAD = "v = ReduceMean<axes=[-1]>(q); f = Add(v, e); d = Sqrt(f)"
EPSILON = w(1)
CASES = [
    case(f"{CENTRED}; y = Mul(c, s)", 2 + 3 + 9, x=(2, 3, 9), s=w(9)),
    case("m = ReduceMean(x, k); c = Sub(x, m); y = Mul(c, s)", 2 + 3 + 9, opset=18,
         x=(2, 3, 9), k=ints(-1), s=w(9)),
    # its mean is asked for as well: that is the sum over the old width
    case(f"{CENTRED}; y = Mul(c, s); z = Neg(m)", 2 + 3 + 9, x=(2, 3, 9), s=w(9)),
    # normalisations as they are spelt out
    case(f"{CENTRED}; q = Mul(c, c); {SPREAD}; n = Div(c, d); o = Mul(n, s); y = Add(o, b)",
         2 + 3 + 9, x=(2, 3, 9), s=w(9), b=w(9), e=EPSILON),
    case("m = ReduceMean<axes=[1]>(x); c = Sub(x, m); q = Pow(c, two);"
         "v = ReduceMean<axes=[1]>(q); f = Add(v, e); d = Sqrt(f); n = Div(c, d); y = Mul(n, s)",
         2 + 9 + 3 + 4, x=(2, 9, 3, 4), s=w(9, 1, 1), e=EPSILON, two=2 * w(1) / w(1)),
    # the last two means are not only subtracted from what they are taken of
    case("m = ReduceMean<axes=[-1]>(x); c = Sub(m, x); y = Mul(c, s)", 2 + 3 + 9,
         x=(2, 3, 9), s=w(9)),
    case("m = ReduceMean<axes=[-1]>(x); c = Sub(z, m); y = Mul(c, s)", 2 + 3 + 18,
         x=(2, 3, 9), z=(2, 3, 9), s=w(9)),
]  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)


def test_only_means_that_are_subtracted_from_their_data_centre_it() -> None:
    means = [next(n for n in described(build(c)) if n.op == "ReduceMean") for c in CASES]
    assert [mean.centres for mean in means] == [True, True, False, True, True, False, False]


def test_a_normalisation_that_is_spelt_out_keeps_its_operators() -> None:
    model, nodes = build(CASES[3]), described(build(CASES[3]))
    groups = freed(nodes, Constraints())
    kept = [np.arange(group.channels) % 2 * (group.channels == 9) == 0 for group in groups]
    small = rewrite(model, nodes, plan_of(groups, kept))
    assert [n.op_type for n in small.graph.node] == [n.op_type for n in model.graph.node]
