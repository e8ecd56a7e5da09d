"""A graph written node by node, for the corpus modules that need no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Graph", "branch"]

SEED = 11
Size = int | str


class Graph:
    """A graph written from its inputs to its outputs, with seeded weights."""

    def __init__(
        self, opset: int, ir_version: int = 8, prefix: str = "", **inputs: tuple[Size, ...]
    ) -> None:
        self.rng = np.random.default_rng(SEED)
        self.opset, self.ir_version, self.prefix = opset, ir_version, prefix
        self.inputs, self.nodes = dict(inputs), list[onnx.NodeProto]()
        self.stored, self.functions = list[TensorProto](), list[onnx.FunctionProto]()

    def store(self, values: Any, name: str = "") -> str:
        """A constant; returns its name."""
        self.stored.append(
            numpy_helper.from_array(np.asarray(values), name or f"{self.prefix}w{len(self.stored)}")
        )
        return self.stored[-1].name

    def weight(self, *shape: int, name: str = "") -> str:
        """A seeded weight whose products keep their size."""
        fan = max(int(np.prod(shape[1:] if len(shape) > 2 else shape[:1])), 1)
        values = self.rng.standard_normal(shape, np.float32) * np.float32((2 / fan) ** 0.5)
        return self.store(values, name)

    def op(self, kind: str, *inputs: str, n: int = 0, **attrs: Any) -> Any:
        """A node; returns its output, or `n` of them."""
        stem = f"{self.prefix}{kind.split(':')[-1].lower()}{len(self.nodes)}"
        names = [f"{stem}_{k}" for k in range(n or 1)]
        domain, _, op_type = kind.rpartition(":")
        self.nodes.append(
            helper.make_node(op_type, inputs, names, names[0], domain=domain, **attrs)
        )
        return names if n else names[0]

    def conv(self, x: str, a: int, b: int, k: int = 3, **attrs: Any) -> str:
        """A convolution of the same size with a bias, unless `attrs` say otherwise."""
        attrs.setdefault("pads", [k // 2] * 4)
        groups = attrs.get("group", 1)
        weights = (self.weight(b, a // groups, k, k), self.weight(b))
        return str(self.op("Conv", x, *weights, **attrs))

    def norm(self, x: str, n: int, **attrs: Any) -> str:
        """Batch normalisation with random statistics."""
        scale, var = (self.store(self.rng.uniform(0.5, 1.5, n).astype(np.float32)) for _ in "ab")
        return str(
            self.op("BatchNormalization", x, scale, self.weight(n), self.weight(n), var, **attrs)
        )

    def dense(self, x: str, a: int, b: int) -> str:
        """Product and sum in two nodes."""
        return str(self.op("Add", self.op("MatMul", x, self.weight(a, b)), self.weight(b)))

    def model(self, *outputs: str, shapes: Sequence[Sequence[Size]] | None = None,
              kind: int = TensorProto.FLOAT) -> onnx.ModelProto:  # fmt: skip
        """The finished model; inputs named id… are integers."""
        kinds = {
            k: TensorProto.INT64 if k.startswith("id") else TensorProto.FLOAT for k in self.inputs
        }
        ends = [
            helper.make_tensor_value_info(y, kind, None if shapes is None else shapes[k])
            for k, y in enumerate(outputs)
        ]
        starts = [helper.make_tensor_value_info(k, kinds[k], s) for k, s in self.inputs.items()]
        if self.ir_version < 4:
            starts += [
                helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.stored
            ]
        body = helper.make_graph(self.nodes, "graph", starts, ends, self.stored)
        domains = sorted({node.domain for node in self.nodes} - {""})
        imports = [
            helper.make_opsetid("", self.opset),
            *(helper.make_opsetid(d, 1) for d in domains),
        ]
        made = helper.make_model(
            body, opset_imports=imports, ir_version=self.ir_version, functions=self.functions
        )
        for end, known in (
            () if shapes else zip(outputs_of(made), outputs_of(_inferred(made)), strict=True)
        ):
            end.CopyFrom(known)
        return made


def outputs_of(model: onnx.ModelProto) -> Sequence[onnx.ValueInfoProto]:
    """The outputs of a model."""
    return model.graph.output


def _inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def branch(name: str, nodes: Sequence[onnx.NodeProto], output: str, rank: int,
            stored: Sequence[TensorProto] = ()) -> onnx.GraphProto:  # fmt: skip
    """A body without inputs of its own."""
    end = helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * rank)
    return helper.make_graph(nodes, name, [], [end], list(stored))
