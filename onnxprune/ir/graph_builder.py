"""New operators written down one by one behind a graph, and what of them is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from onnxprune.ir import subgraphs

__all__ = ["GraphBuilder", "leading"]


class GraphBuilder:
    """Operators and constants behind a graph, for operators of one version."""

    def __init__(self, opset: int, dtype: np.dtype[Any], prefix: str = "onnxprune") -> None:
        self.opset, self.dtype, self.prefix = opset, dtype, prefix
        self.nodes: list[NodeProto] = []
        self.names = 0
        self.constants: dict[str, NDArray[Any]] = {}
        self.kind = int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def emit(self, op: str, *inputs: str, **attrs: Any) -> str:
        """Add an operator with one output, whose name is returned."""
        return self.results(op, *inputs, shown=(True,), **attrs)[0]

    def results(self, op: str, *inputs: str, shown: Sequence[bool], **attrs: Any) -> list[str]:
        """Add an operator, and return the names of its outputs; those not `shown` are left out."""
        names = [self._name() if show else "" for show in shown]
        self.nodes.append(onnx.helper.make_node(op, list(inputs), names, **attrs))
        return names

    def loop(
        self,
        op: str,
        body: Callable[[list[str], list[str]], tuple[list[str], list[str]]],
        states: Sequence[str],
        scanned: Sequence[str],
        reverse: bool = False,
    ) -> tuple[list[str], list[str]]:
        """Run operators for one position of the first axis after the other.

        Args:
            op: that holds them as its body.
            body: writes them, from the states and what is scanned at a position to the states
                after it, and what is collected; all of them matrices.
            states: at the first position.
            scanned: tensors that are run through.
            reverse: whether from the last position to the first.

        Returns:
            The last states, and what was collected along a first axis.
        """
        outside, self.nodes = self.nodes, []
        given = [self._name() for _ in (*states, *scanned)]
        after, collected = body(given[: len(states)], given[len(states) :])
        inside, self.nodes = self.nodes, outside
        made = [*after, *collected]
        # onnxruntime wants to know how many axes results have
        info = partial(onnx.helper.make_tensor_value_info, elem_type=self.kind, shape=[None, None])
        graph = onnx.helper.make_graph(
            inside, "step", [info(name) for name in given], [info(name) for name in made]
        )
        names = self.results(
            op,
            *states,
            *scanned,
            shown=[True] * len(made),
            body=graph,
            num_scan_inputs=len(scanned),
            scan_input_directions=[int(reverse)] * len(scanned),
            scan_output_directions=[int(reverse)] * len(collected),
        )
        return names[: len(after)], names[len(after) :]

    def _name(self) -> str:
        self.names += 1
        return f"{self.prefix}/gradient/{self.names}"

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a stored value, of the type of the weights where none is given."""
        name = f"{self.prefix}/constant/{len(self.constants)}"
        self.constants[name] = np.asarray(value, self.dtype if dtype is None else dtype)
        return name


def leading(nodes: Sequence[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """Find the operators that lead to wanted tensors, in order."""
    kept, wanted = list[NodeProto](), set(wanted)
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(subgraphs.needs(node))
    return kept[::-1]
