"""How kernels of convolutions and pools slide over their input."""

from __future__ import annotations

from onnxprune.ops.gradients import need, tensor_of, text_of
from onnxprune.types import Node, Tensor

__all__ = ["Window"]


class Window:
    """How a kernel slides over data, with static sizes per spatial axis.

    A transposed convolution slides over its result, and makes its data from it.
    """

    def __init__(self, node: Node, kernel: tuple[int, ...], transposed: bool = False) -> None:
        x, y = tensor_of(node), node.outputs[0]
        x, y = (y, x) if transposed else (x, y)
        self.kernel, self.rank = kernel, len(kernel)
        need(x.rank == y.rank == self.rank + 2)
        self.sizes, self.out = _spatial(x), _spatial(y)
        self.strides = list(node.attrs.get("strides") or [1] * self.rank)
        self.dilations = list(node.attrs.get("dilations") or [1] * self.rank)
        reach = zip(self.out, self.strides, kernel, self.dilations, strict=True)
        #: positions that the windows span, from the first padded one
        self.span = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in reach]
        self.begin, self.end = self._pads(node, transposed)
        ends = zip(self.sizes, self.begin, self.span, strict=True)
        #: how far the windows reach beyond the input's end; below zero where they do not get there
        self.rest = [s - n - b for n, b, s in ends]

    def _pads(self, node: Node, transposed: bool) -> tuple[list[int], list[int]]:
        auto = text_of(node, "auto_pad", "NOTSET")
        if auto == "NOTSET":
            need(not transposed or not node.attrs.get("output_shape"))
            pads = list(node.attrs.get("pads") or [0] * 2 * self.rank)
            return pads[: self.rank], pads[self.rank :]
        need(not transposed or auto == "VALID")
        total = [max(s - n, 0) for n, s in zip(self.sizes, self.span, strict=True)]
        total = [0] * self.rank if auto == "VALID" else total
        less, more = [n // 2 for n in total], [n - n // 2 for n in total]
        return (less, more) if auto == "SAME_UPPER" else (more, less)

    def back(self) -> dict[str, list[int]]:
        """Attributes of the transposed convolution that gives the input's gradient.

        What the windows span may end before the input does; those positions get zeros.
        """
        end = [max(r, 0) for r in self.rest]
        missing = [max(-r, 0) for r in self.rest]
        steps = zip(missing, self.strides, self.dilations, strict=True)
        need(all(m < max(s, d) for m, s, d in steps))
        return {
            "strides": self.strides,
            "dilations": self.dilations,
            "pads": [*self.begin, *end],
            "output_padding": missing,
        }


def _spatial(tensor: Tensor) -> tuple[int, ...]:
    """Sizes behind samples and channels, which must be static."""
    sizes = tuple(tensor.size(k) or 0 for k in range(2, tensor.rank))
    need(all(sizes))
    return sizes
