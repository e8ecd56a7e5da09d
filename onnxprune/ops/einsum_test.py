from typing import Any

import numpy as np
import pytest
from oracle import Case, build, case, check_rule, w

from onnxprune import ops
from onnxprune.ir.shape_inference import describe
from onnxprune.types import Kernel, Node, Work


def einsum(equation: str, free: int, **tensors: Any) -> Case:
    return case(f'y = Einsum<equation="{equation}">({", ".join(tensors)})', free, **tensors)


CASES = [
    einsum("ij,jk->ik", 2 + 3 + 4, a=(2, 3), b=w(3, 4)),
    einsum("ij,jk", 2 + 3 + 4, a=(2, 3), b=w(3, 4)),
    einsum("ba , bc", 2 + 3 + 4, a=(3, 2), b=w(3, 4)),
    # two activations: what they share must be zero where it dies
    einsum("bhid,bhjd->bhij", 2 + 3 + 4 + 5 + 6, q=(2, 3, 4, 6), k=(2, 3, 5, 6)),
    einsum("bij,bjd->bid", 2 + 3 + 4 + 5, p=(2, 3, 4), v=(2, 4, 5)),
    # heads in the weight
    einsum("bsd,dhk->bshk", 2 + 3 + 6 + 4 + 5, x=(2, 3, 6), k=w(6, 4, 5)),
    einsum("bshk,hkd->bsd", 2 + 3 + 4 + 5 + 6, x=(2, 3, 4, 5), k=w(4, 5, 6)),
    # ellipsis: in one operand, in both, broadcast, implicit
    einsum("...j,jk->...k", 2 + 5 + 3 + 4, x=(2, 5, 3), k=w(3, 4)),
    einsum("...j,jk", 2 + 5 + 3 + 4, x=(2, 5, 3), k=w(3, 4)),
    einsum("...ij,...jk->...ik", 2 + 5 + 3 + 4 + 6, x=(6, 2, 5, 3), k=w(6, 2, 3, 4)),
    einsum("...ij,...jk->...ik", 2 + 5 + 3 + 4 + 6, x=(6, 2, 5, 3), k=w(1, 2, 3, 4)),
    # one operand: transposes, sums, diagonals, traces
    einsum("ijk->kij", 2 + 3 + 4, x=(2, 3, 4)),
    einsum("ijk->ik", 2 + 3 + 4, x=(2, 3, 4)),
    einsum("bii->bi", 2 + 3, x=(2, 3, 3)),
    einsum("bii->b", 2 + 3, x=(2, 3, 3)),
    # a letter of one operand that the result lacks; outer product; three operands
    einsum("ij,kl->ik", 2 + 3 + 4 + 5, a=(2, 3), b=w(4, 5)),
    einsum("i,j->ij", 2 + 3, a=(2,), b=w(3)),
    einsum("bi,bj,ij->b", 2 + 3 + 4, a=(2, 3), b=(2, 4), k=w(3, 4)),
    einsum("Bi,iC->BC", 2 + 3 + 4, a=(2, 3), k=w(3, 4)),
    # a size of one is broadcast
    einsum("bi,bi->bi", 2 + 3, a=(2, 3), b=(2, 3)),
]


@pytest.mark.parametrize("c", CASES, ids=str)
def test_rule(c: Case) -> None:
    check_rule(c)


def node(c: Case) -> Node:
    return describe(build(c), ops.traits())[0]


def test_what_is_summed_without_a_weight() -> None:
    assert list(ops.SUMS["Einsum"](node(CASES[3]))) == [(0, 3), (1, 3)]
    assert list(ops.SUMS["Einsum"](node(CASES[0]))) == []
    assert list(ops.SUMS["Einsum"](node(einsum("ijk->ik", 0, x=(2, 3, 4))))) == [(0, 1)]


def test_kernel_and_macs() -> None:
    find = ops.KERNELS["Einsum"]
    c = einsum("bsd,dhk->bshk", 0, x=(2, 3, 6), k=w(6, 4, 5))
    assert find(node(c)) == (Kernel(1, 2, 0, channel=3, source=2, more_out=(1,)),)
    work = ops.MACS["Einsum"](node(c))
    assert isinstance(work, Work) and work.amount == 2 * 3 * 6 * 4 * 5
    c = einsum("hkd,bshk->bsd", 0, k=w(4, 5, 6), x=(2, 3, 4, 5))
    assert find(node(c)) == tuple(Kernel(0, 2, k, channel=2, source=k + 2) for k in (0, 1))
    assert find(node(einsum("ij,jk->ik", 0, a=(2, 3), b=(3, 4)))) == ()
    assert ops.MACS["Einsum"](node(einsum("ijk->ik", 0, x=(2, 3, 4)))) is None


def test_an_equation_that_does_not_fit_frees_nothing() -> None:
    c = einsum("ij,jk->ik", 0, a=(2, 3), b=np.ones((3, 4, 1), np.float32))
    assert list(ops.COUPLINGS["Einsum"](node(c))) == []
