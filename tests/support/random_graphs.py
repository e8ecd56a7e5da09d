"""Random valid graphs, as a hypothesis strategy: `@given(graphs())`.

A graph starts from one or two inputs, takes up to a dozen steps, each from a value made so far, and
ends in one to three outputs. Shapes agree by construction and values keep their size, so that
whatever comes out must be prunable, exactly. Weights are seeded, everything else is drawn, and
failing graphs shrink. A new step is a function in one of the SOURCES.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import random_blocks
import random_bodies
import random_cases
import random_moves
import random_quantised
import random_steps
from hypothesis import strategies as st
from onnx import TensorProto, helper
from random_cases import OPSETS
from random_maker import STEPS, Maker, Size, Value, image
from random_steps import plain_conv

from onnxprune import ops
from onnxprune.ir import graph

__all__ = ["Random", "around", "graphs"]

#: Where the steps come from.
SOURCES = (
    random_steps,
    random_moves,
    random_blocks,
    random_quantised,
    random_bodies,
    random_cases,
)
#: How often steps are drawn that stand for many operators; others once.
SHARES = {"case_on_reals": 6, "case_on_integers": 4}
KINDS = (np.float32,) * 6 + (np.float16, np.float64)


@dataclass(frozen=True)
class Random:
    """A model, sizes of its inputs to try it at, and what its outputs then look like."""

    model: onnx.ModelProto
    sizes: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    seed: int = 0

    def __repr__(self) -> str:
        bare = onnx.ModelProto()
        bare.CopyFrom(self.model)
        for t in self.model.graph.initializer:
            if len(t.dims) and t.data_type not in (
                TensorProto.INT64,
                TensorProto.BOOL,
            ):  # only its shape is of interest
                bare.graph.initializer.remove(t)
                bare.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, t.dims))
        return f"\n{onnx.printer.to_text(bare)}\nat {self.sizes}, seed {self.seed}"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(repr(self))

    def operators(self) -> Counter[str]:
        """How often each operator occurs, in bodies too."""
        return Counter(map(graph.op_key, _nodes(self.model.graph)))

    def quantised(self) -> set[str]:
        """Operators that read what was decoded from integers, or integers themselves."""
        nodes = list(_nodes(self.model.graph))
        made = {name: graph.op_key(node) for node in nodes for name in node.output}
        sources = ops.ENCODERS | ops.DECODERS
        reading = (n for n in nodes if any(made.get(name) in sources for name in n.input))
        return {graph.op_key(node) for node in reading}


def _nodes(inner: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in inner.node:
        yield node
        for attr in node.attribute:
            yield from _nodes(attr.g)


@st.composite
def graphs(
    draw: Callable[..., Any], most: int = 10, kinds: tuple[type, ...] = KINDS, favour: str = ""
) -> Random:
    """Graphs of up to `most` steps beside inputs and outputs; one step may be favoured."""
    m = Maker(draw, draw(st.sampled_from(OPSETS)), draw(st.sampled_from(kinds)))
    m.encodes = m.kind is np.float32 and m.opset >= 10 and not m.often()
    batch = Size(m.upto(2), m.pick(["", "N"]))
    inputs = {f"x{k}": _input(m, f"x{k}", batch) for k in range(m.pick([1, 1, 2]))}
    for value in list(m.live):
        _widen(m, value)
    for _ in range(m.upto(most, 2)):
        x = m.live[-1] if m.half() else m.pick(m.live[::-1])
        fitting = [
            name
            for name, (fits, _) in STEPS.items()
            if fits(m, x)
            for _ in range(SHARES.get(name, 1))
        ]
        STEPS[favour if favour in fitting and m.half() else m.pick(fitting)][1](m, x)
    read = {name for node in m.nodes for name in node.input}
    leaves = [v for v in m.live if v.name not in read][-3:]
    ends = [_narrow(m, leaf) for leaf in leaves]
    model = m.finished(ends, {n: (k, d) for n, (k, d, _) in inputs.items()})
    _store(m, model)
    sizes = {n: s for n, (*_, s) in inputs.items()}
    return Random(model, sizes, {end.name: end.shape for end in ends}, m.upto(99, 0))


@st.composite
def around(draw: Callable[..., Any], op: str, encodes: bool = False) -> Random:
    """Small graphs that hold an operator, by one of its cases; with `encodes` many integers."""
    opset, cases = draw(st.sampled_from(sorted(random_cases.cases_of(op).items())))
    m = Maker(draw, opset, np.float32)
    m.encodes = encodes and opset >= 10
    kind, declared, sizes = _input(m, "x0", Size(2))
    _widen(m, m.live[-1])
    random_cases.written(m, m.live[-1], m.pick(cases))
    ends = [_narrow(m, value) for value in m.live[-3:]]
    model = m.finished(ends, {"x0": (kind, declared)})
    return Random(model, {"x0": sizes}, {end.name: end.shape for end in ends}, m.upto(99, 0))


def _input(m: Maker, name: str, batch: Size) -> tuple[Any, tuple[int | str, ...], tuple[int, ...]]:
    """Type, declared shape and sample sizes of an input, which becomes live."""
    shapes = [[3, 5, 4], [4, 6], [5], [2, 4], [2, 4, 3, 2]]  # image, sequence, row, signal, volume
    if m.kind is np.float64:
        shapes = shapes[1:3]
    own = [Size(n) for n in m.pick(shapes)]
    if len(own) > 1 and m.seldom():
        first = 0 if own == [Size(4), Size(6)] else 1  # the length of a sequence, or space
        own[first:] = [Size(s.n, f"{name}S{k}") for k, s in enumerate(own[first:])]
        if first == 0:
            own[1] = Size(own[1].n)
    sizes = (batch, *own)
    m.live.append(Value(name, sizes))
    return m.kind, tuple(s.symbol or s.n for s in sizes), tuple(s.n for s in sizes)


def _widen(m: Maker, x: Value) -> None:
    """A first weight, whose channels are free; further steps seldom start from the input."""
    fits, matmul = STEPS["matmul"]
    if image(m, x) and m.often():
        plain_conv(m, x, m.width())
    elif fits(m, x):
        matmul(m, x)
    if m.live[-1] is not x and m.often():
        m.live.remove(x)


def _narrow(m: Maker, x: Value) -> Value:
    """Most outputs lie behind a last weight; the channels of the others are not free."""
    end = m.pick(["flatten", "conv", "matmul", "both", ""])
    if end == "conv" and image(m, x):
        return plain_conv(m, x, m.upto(3))
    steps = {"flatten": ("flatten", "gemm"), "both": ("matmul_from_the_left", "matmul")}
    for name in steps.get(end, ("matmul",)) if end else ():
        fits, end_step = STEPS[name]
        if fits(m, x):
            end_step(m, x)
            x = m.live[-1]
    return x


def _store(m: Maker, model: onnx.ModelProto) -> None:
    """Some models keep their weights in Constant nodes, or list them among the inputs."""
    if m.seldom():
        nodes = [helper.make_node("Constant", [], [t.name], value=t)
                 for t in model.graph.initializer]  # fmt: skip
        nodes += model.graph.node
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.extend(nodes)
    elif m.seldom():
        for t in model.graph.initializer:
            info = helper.make_tensor_value_info(t.name, t.data_type, t.dims)
            model.graph.input.append(info)
        branches = {"If", "Loop"} & {node.op_type for node in model.graph.node}
        model.ir_version = m.pick([8] if branches else [8, 3])  # 3: bodies store nothing
