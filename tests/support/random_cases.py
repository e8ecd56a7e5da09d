"""Steps of a random graph that take an operator from the cases beside the rules.

Every rule has a case that states its shapes (`onnxprune/ops/*_test.py`). Such a case is written
into the graph: what it reads is made from a value of the graph by a weight, and what it gives is
read by later steps. So every operator with a rule occurs, whatever its shapes must be.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from oracle import KINDS, Case, build
from random_bodies import rename
from random_maker import Maker, Size, Value, both, single, step

from onnxprune import ops
from onnxprune.errors import InputError
from onnxprune.ir import graph, runtime

__all__ = ["NEVER", "OPSETS", "cases_of", "pool"]

#: Opsets of random graphs; failing ones shrink towards the first.
OPSETS = (17, 13, 11, 18, 21, 23, 9, 24, 27)
#: The newest opset of which onnxruntime runs all that it runs of older ones.
SETTLED = 24
#: Operators that no random graph can hold, and why.
NEVER: Mapping[str, str] = {
    "SwiGLU": "onnxruntime does not run it, so nothing can be proved",
}
#: Operators that are drawn elsewhere: their bodies are random as well.
WITH_BODIES = frozenset({"If", "Loop"})
#: Cases whose results onnxruntime gives other ranks when it infers them than when it computes them.
MISJUDGED = frozenset({"y, nk, nv, s = Attention<is_causal=0>(q, k, v, m, pk, pv)"})
#: Operators that are not defined, or not finite, everywhere.
POSITIVE = frozenset(
    "Acosh Log Sqrt Reciprocal Pow Div Mod ReduceLogSum ReduceProd ReduceLogSumExp".split()
)


@dataclass(frozen=True)
class Ready:
    """A case with what it gives: type, shape and largest number of every result by name."""

    case: Case
    results: Mapping[str, tuple[np.dtype[Any], tuple[int, ...], float]]

    def fits(self, opset: int) -> bool:
        """Whether all operators mean at this opset what they mean at that of the case."""
        nodes = build(self.case).graph.node
        if opset == self.case.opset:
            return True
        same = all(_since(node, opset) == _since(node, self.case.opset) for node in nodes)
        return same and (opset <= SETTLED or _results(replace(self.case, opset=opset)) is not None)


def _since(node: onnx.NodeProto, opset: int) -> int | None:
    """The opset that an operator of the standard came with; 0 for operators of other domains."""
    if node.domain:
        return 0
    try:
        return int(onnx.defs.get_schema(node.op_type, opset, "").since_version)
    except onnx.defs.SchemaError:  # contrib operators that onnxruntime keeps in ONNX's domain
        return 0 if not onnx.defs.has(node.op_type) else None


@cache
def _ready(text: str, family: str, number: int) -> Ready | None:
    """Run a case once; None where onnxruntime does not, or a size depends on the values."""
    case = importlib.import_module(f"{family}_test").CASES[number]
    assert case.text == text
    found = _results(case)
    results = {
        name: (value.dtype, value.shape, float(np.abs(value.astype(np.float64)).max(initial=0.0)))
        for name, value in (found or {}).items()
        if 0 not in value.shape
    }
    return Ready(case, results) if results else None


def _results(case: Case) -> Mapping[str, Any] | None:
    """What onnxruntime makes of a case; None where it does not run it."""
    feeds = {name: _sample(name, shape) for name, shape in _inputs(case).items()}
    try:
        session = runtime.open_session(graph.model_bytes(build(case)), optimize=False)
        return runtime.run(session, feeds)
    except InputError:
        return None


def _inputs(case: Case) -> dict[str, tuple[int, ...]]:
    return {name: value for name, value in case.tensors.items() if isinstance(value, tuple)}


def _sample(name: str, shape: Sequence[int]) -> Any:
    kind = next((k for prefix, k in KINDS.items() if name.startswith(prefix)), TensorProto.FLOAT)
    return np.ones(shape, onnx.helper.tensor_dtype_to_np_dtype(kind))


@cache
def pool(integers: bool, opset: int) -> Mapping[str, tuple[Ready, ...]]:
    """Cases by operator that a graph of an opset can hold, on integers that stand for reals or not.

    Where several operators belong to a case it counts for each.
    """
    found: dict[str, list[Ready]] = {}
    for family in (family.__name__ for family in ops.FAMILIES):
        for number, case in enumerate(importlib.import_module(f"{family}_test").CASES):
            on_integers = bool(case.ops & (ops.QUANTIZED.keys() | set(ops.ENCODERS)))
            if on_integers != integers or not _drawable(case):
                continue
            ready = _ready(case.text, family, number)
            axes = _encoded(case) and any(np.ndim(case.tensors.get(part, 0)) for part in "st")
            if ready is not None and ready.fits(opset) and (opset >= 13 or not axes):
                for op in case.ops:
                    found.setdefault(op, []).append(ready)
    return {op: tuple(found[op]) for op in sorted(found)}


def _drawable(case: Case) -> bool:
    """Whether a case can stand in a graph whose values are drawn."""
    chosen = any(not shape for shape in _inputs(case).values())  # an axis, or a condition
    blocked = _encoded(case) and any(np.ndim(case.tensors.get(part, 0)) > 1 for part in "st")
    return not (chosen or blocked or case.ops & WITH_BODIES or case.text in MISJUDGED)


def _encoded(case: Case) -> list[str]:
    """Inputs that are integers which stand for reals."""
    return [name for name in _inputs(case) if name.startswith(("byte", "signed"))]


def cases_of(op: str) -> dict[int, tuple[Ready, ...]]:
    """The cases of an operator by the opset of the graph that can hold them."""
    found = {
        n: (*pool(False, n).get(op, ()), *(pool(True, n).get(op, ()) if n >= 10 else ()))
        for n in OPSETS
    }
    return {n: cases for n, cases in found.items() if cases}


@step(single)
def case_on_reals(m: Maker, x: Value) -> None:
    """An operator on real numbers, by its case."""
    known = pool(False, m.opset)
    written(m, x, m.pick(known[m.pick(list(known))]))


@step(both(single, lambda m, x: m.opset >= 10))
def case_on_integers(m: Maker, x: Value) -> None:
    """An operator on integers that stand for reals, by its case."""
    known = pool(True, m.opset)
    written(m, x, m.pick(known[m.pick(list(known))]))


def written(m: Maker, x: Value, ready: Ready) -> None:
    """Write a case into the graph, which reads what a weight makes of `x`."""
    case, mark = ready.case, f"case{len(m.nodes)}_"
    row = _row(m, x)
    new = {name: m.const(value) for name, value in case.tensors.items()
           if not isinstance(value, tuple)}  # fmt: skip
    for name, shape in _inputs(case).items():
        new[name] = _operand(m, row, name, shape, case)
    nodes = list(build(case).graph.node)
    new |= {name: f"{mark}{name}" for node in nodes for name in node.output if name}
    read = {name for node in nodes for name in node.input}
    rename(nodes, new)
    for node in nodes:
        node.name = f"n{len(m.nodes)}"
        m.nodes.append(node)
    for name, result in ready.results.items():
        if name not in read:
            _result(m, new[name], result, case, new)


def _row(m: Maker, x: Value) -> str:
    """One row of features of a value, whose number never changes."""
    varying = [k for k, size in enumerate(x.sizes) if size.symbol]
    name = x.name
    if varying:
        more, attrs = m.axes_of("ReduceMean", varying, 18)
        name = m.op("ReduceMean", name, *more, keepdims=1, **attrs)
    n = prod(size.n for size in x.sizes if not size.symbol)
    flat, width = m.op("Reshape", name, m.ints(1, n)), m.width()
    return m.op("MatMul", flat, m.matrix(n, width, fan=n))


def _operand(m: Maker, row: str, name: str, shape: tuple[int, ...], case: Case) -> str:
    """A tensor of a shape, and of the type that the beginning of its name stands for."""
    n_in, n = _width(m, row), prod(shape)
    y = m.op("MatMul", row, m.matrix(n_in, n, fan=n_in))
    whole = name.startswith("whole")
    if case.ops & POSITIVE or whole or m.half():
        y = m.op("Mul", m.op("Sigmoid", y), m.number(3.0))
        y = m.op("Add", y, m.number(1.0))
    y = m.op("Reshape", y, m.ints(*shape))
    if name.startswith("flag"):
        return m.op("Greater", y, m.number(0.123))
    if whole:
        return m.op("Cast", y, to=TensorProto.INT64)
    return _integers(m, y, name, shape, case) if name in _encoded(case) else m.coded(y)


def _integers(m: Maker, y: str, name: str, shape: tuple[int, ...], case: Case) -> str:
    """Reals as integers, with the scale and zero point that the operator decodes them with."""
    kind = np.uint8 if name.startswith("byte") else np.int8
    scale, zero = (case.tensors.get(part) for part in ("tu" if name.endswith("2") else "sz"))
    scale = np.float32(0.05) if scale is None else np.asarray(scale, np.float32)
    zero = np.zeros(np.shape(scale), kind) if zero is None else np.asarray(zero, kind)
    along = {"axis": shape.index(len(scale))} if np.ndim(scale) else {}
    return str(m.op("QuantizeLinear", y, m.const(scale), m.const(zero), **along))


def _width(m: Maker, row: str) -> int:
    """Columns of a row that a stored matrix made."""
    weight = next(node.input[1] for node in reversed(m.nodes) if row in node.output)
    return int(next(t.dims[-1] for t in m.weights if t.name == weight))


def _result(
    m: Maker,
    name: str,
    result: tuple[np.dtype[Any], tuple[int, ...], float],
    case: Case,
    new: Mapping[str, str],
) -> None:
    """A result as a value of the graph: real numbers of middling size."""
    kind, shape, largest = result
    scale: Any = case.tensors.get("r", 1.0)
    if kind.itemsize == 1 and kind != np.bool_ and np.ndim(scale) == 0 and "o" in case.tensors:
        name = m.op("DequantizeLinear", name, new["r"], new["o"])
        largest *= float(scale)
    elif kind != np.float32:
        name = m.op("Cast", name, to=TensorProto.FLOAT)
    if largest > 2:  # Tanh leaves differences
        name = m.op("Mul", name, m.number(1 / largest))
    m.live.append(Value(m.op("Tanh", name), tuple(map(Size, shape))))
