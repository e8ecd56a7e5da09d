"""Gradients of Einsum: for each operand an Einsum of dy and all others.

A letter that only this operand has is summed over by the operator, so dy is repeated along it.
"""

from __future__ import annotations

from onnxprune.ops.builder import Builder
from onnxprune.ops.gradients import Gradients, need, tensor_of
from onnxprune.types import Dim, Node, Tensor

__all__ = ["einsum"]


def einsum(t: Builder, node: Node, dy: str) -> Gradients:
    """Every operand in turn; the equation must be written out, without ellipsis."""
    equation = node.attrs["equation"]
    text = equation.decode() if isinstance(equation, bytes) else str(equation)
    left, arrow, result = text.replace(" ", "").partition("->")
    terms = left.split(",")
    need(arrow and "." not in text and len(set(result)) == len(result))
    operands = [tensor_of(node, k) for k in range(len(terms))]
    need(_equal_sizes(operands, terms))
    found: Gradients = []
    for k, (term, x) in enumerate(zip(terms, operands, strict=True)):
        need(len(set(term)) == len(term))
        others = [j for j in range(len(terms)) if j != k]
        present = {*result, *(letter for j in others for letter in terms[j])}
        kept = "".join(letter for letter in term if letter in present)
        given = ",".join([result, *(terms[j] for j in others)])
        names = [dy, *(operands[j].name for j in others)]
        made = t.emit("Einsum", *names, equation=f"{given}->{kept}")
        alone = [axis for axis, letter in enumerate(term) if letter not in present]
        found.append(t.spread(t.along("Unsqueeze", made, alone), x) if alone else made)
    return found


def _equal_sizes(operands: list[Tensor], terms: list[str]) -> bool:
    """Whether a letter has the same size everywhere: none of one is repeated."""
    sizes: dict[str, set[Dim]] = {}
    for x, term in zip(operands, terms, strict=True):
        if x.shape is None or x.rank != len(term):
            return False
        for letter, size in zip(term, x.shape, strict=True):
            sizes.setdefault(letter, set()).add(size)
    return all(len(each) == 1 for each in sizes.values())
