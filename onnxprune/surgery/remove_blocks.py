"""Remove residual blocks that keep no channel: the shortcut and a bias that is not 0 are left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.groups.analysis import Analysis
from onnxprune.groups.blocks import Block
from onnxprune.ir import edit, graph, runtime, skeleton
from onnxprune.ir.graph import ModelProto
from onnxprune.surgery.zero_sums import without_zero_sums
from onnxprune.types import Read

__all__ = ["gone_blocks", "without"]


def gone_blocks(analysis: Analysis, kept: Sequence[NDArray[np.bool_]]) -> list[Block]:
    """The blocks none of whose groups keeps a channel, without those inside of others."""
    empty = {g for g, mask in enumerate(kept) if not mask.any()}
    if not empty:
        return []
    gone = [b for b in analysis.blocks.values() if empty.issuperset(b.inside)]
    return [b for b in gone if not any(set(b.inside) < set(other.inside) for other in gone)]


def without(model: ModelProto, blocks: Sequence[Block]) -> ModelProto:
    """The model with blocks replaced by what their last layer's bias adds to the shortcut."""
    makers = {name: node for node in model.graph.node for name in node.output}
    read = graph.reader(model)
    values = {}
    for block in blocks:
        known = {block.layer: _silent(makers[block.layer], block, read)}
        chain = [makers[name] for name in block.chain]
        for name in {name for node in chain for name in node.input}:
            stored = read(name)
            if stored is not None:
                known[name] = stored
        if chain:
            known |= runtime.compute(*skeleton.node_model(model, chain, known))
        values[block.addend] = known[block.addend]
    return without_zero_sums(edit.store(model, values), values.keys())


def _silent(layer: Any, block: Block, read: Read) -> NDArray[Any]:
    """What a layer gives whose inputs are all zero: its bias, in the rank of its result."""
    weight = read(layer.input[block.kernel.index])
    assert weight is not None
    width = weight.shape[block.kernel.out_axis]
    index = block.kernel.bias
    named = index is not None and index < len(layer.input) and layer.input[index]
    bias = read(layer.input[index]) if named else None
    values = np.zeros(width, weight.dtype) if bias is None else bias.ravel()
    form = [1] * block.rank
    form[block.channel] = -1
    return np.ascontiguousarray(np.broadcast_to(values, width).reshape(form))
