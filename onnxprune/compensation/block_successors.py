"""Say what takes the place of residual blocks that go whole.

A block adds its branch to a shortcut x. Without the branch a bias b is left, and x + b costs a pass
over all numbers outside of the convolutions. Where nothing but the block reads x, the layer that
makes x can add b itself, and nothing of the block is left. Over a Relu, x = max(z, 0), the layer
makes z, and the next Relu must read the sum alone: max(x + b, 0) = max(z + b, 0) for b ≤ 0. What is
above zero no Relu of z can give; it is the same everywhere, so that the biases of layers behind,
which are refitted too, make up for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from onnxprune import ops
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.blocks import Block
from onnxprune.groups.layers import other_operand
from onnxprune.types import Floats

__all__ = ["Successors", "block_successors"]


@dataclass(frozen=True)
class Successors:
    """What takes the place of blocks that go.

    Attributes:
        sums: by tensor the sum of the block behind it: what makes the tensor makes the sum instead.
        ends: by result of a block's last layer the tensor of `sums` that stands for the block.
        idle: results of all other nodes in these blocks, which nothing reads when they are gone.
        channels: the axis of channels of each of `sums`.
        rectified: those among `sums` that a Relu follows.
        added: (o,) by tensor of `sums` what its layer is to add for the block.
    """

    sums: dict[str, str] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)
    idle: set[str] = field(default_factory=set)
    channels: dict[str, int] = field(default_factory=dict)
    rectified: set[str] = field(default_factory=set)
    added: Mapping[str, Floats] = field(default_factory=dict)

    def sum_for(self, tensor: str) -> str:
        """What is made in place of a tensor: itself, or the sum of the last block behind it."""
        while tensor in self.sums:
            tensor = self.sums[tensor]
        return tensor

    def replaces(self, layer: str, fitted: Collection[str]) -> bool:
        """Whether what stands for a block was fitted, so that its last layer need give nothing."""
        return layer in self.ends and self.ends[layer] in fitted


def block_successors(analysis: Analysis, blocks: Iterable[Block]) -> Successors:
    """Find what makes each block's shortcut; blocks where that has other readers are left out."""
    found = Successors()
    for block in blocks:
        source = None if block.chain else _source(analysis, block)
        if source is not None:
            found.sums[source] = block.junction
            found.ends[block.layer] = source
            found.channels[source] = block.channel
            if source not in _operands(analysis, block.junction):
                found.rectified.add(source)
        found.idle.update(block.branch - {block.layer, *block.chain})
    return found


def _operands(analysis: Analysis, name: str) -> set[str]:
    """What the operator reads that makes a tensor."""
    return {t.name for t in analysis.index.makers[name].inputs if t is not None}


def _source(analysis: Analysis, block: Block) -> str | None:
    """The tensor in whose place the block's sum may stand."""
    makers, readers = analysis.index.makers, analysis.index.readers
    total = makers[block.junction]
    addend = makers[block.layer].outputs[0]
    shortcut = other_operand(total, addend)
    ends = {value.name for value in analysis.model.graph.output}
    if shortcut is None or len(total.inputs) != 2 or shortcut.shape != total.outputs[0].shape:
        return None
    others = {node.outputs[0].name for node in readers[shortcut.name]} - {block.junction}
    maker = makers.get(shortcut.name)
    if maker is None or shortcut.name in ends or not others <= block.branch:
        return None
    if not ops.rectifies(maker.op):
        return shortcut.name
    before = maker.inputs[0]
    alone = before is not None and len(readers[before.name]) == 1 and before.name not in ends
    behind = readers.get(block.junction, [])
    clipped = behind and all(ops.rectifies(node.op) for node in behind)
    if before is None or not (alone and clipped) or block.junction in ends:
        return None
    return before.name
