"""Make shortcuts of slices and pads convolutions, so that a model stays in the runtime's layout.

onnxruntime's fast convolutions keep channels in blocks of 8 or 16, and what stands between them in
that layout costs little: the sum with a shortcut is computed by the convolution before it. A
shortcut that takes every second place and puts channels of zeros beside those there are (He et al.,
CVPR 2016, option A) leaves the layout; each sum behind it is then computed alone, and tensors are
brought into blocks and back. A convolution with a window of one place and weights of zeros and ones
gives the same numbers inside the layout.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from onnxprune import ops
from onnxprune.errors import InputError, ProofError
from onnxprune.groups.analysis import Analysis
from onnxprune.ir import selection, zero_biases
from onnxprune.ir.selection import Selection
from onnxprune.settings import RunSettings
from onnxprune.surgery.cut import Stage, equal, running
from onnxprune.types import Ints, Node, Plan, Tensor

__all__ = ["convolved", "selections"]

#: Multiply-accumulates that all of them may add, in shares of the model's.
MOST_MACS = 0.03
#: Operators that follow one another in a shortcut, at most.
LONGEST = 8


def convolved(
    analysis: Analysis, options: RunSettings, wanted: Collection[str] | None = None
) -> Stage | None:
    """Write shortcuts as convolutions, and prove that nothing changes; None without any.

    Args:
        analysis: the model.
        options: the user's settings.
        wanted: names of the tensors that must be made so; None for all that can.

    Raises:
        InputError: a wanted one cannot.
        ProofError: the model does not compute what it did.
    """
    found = selections(analysis)
    if wanted is not None:
        found = [one for one in found if one.result in wanted]
        missing = set(wanted).difference(one.result for one in found)
        if missing:
            raise InputError(
                f"the plan makes '{min(missing)}' by a convolution; in this model it is no sum's "
                "shortcut of slices and pads. Plans fit other checkpoints of the same graph only."
            )
    if not found:
        return None
    model = zero_biases.unbiased(selection.selecting(analysis.model, found))
    with running(analysis, options) as original:
        proof, made = equal(analysis, model, original)
        outputs = original.outputs
    if not proof.passed:
        raise ProofError(
            f"shortcuts written as convolutions changed output '{proof.output}' by "
            f"{proof.max_relative_error:.2g}; nothing was written. Report the model."
        )
    kept = [np.ones(group.channels, bool) for group in analysis.groups]
    told = (
        f"first {len(found)} shortcuts of slices and pads became convolutions, which keep the "
        "runtime's layout; that model equals the original, relative error "
        f"{proof.max_relative_error:.1e}"
    )
    names = tuple(one.result for one in found)
    return Stage(
        *(analysis, kept, Plan({}, {}), model, proof, original.inputs, outputs, made),
        told=told,
        convolved=names,
    )


def selections(analysis: Analysis) -> list[Selection]:
    """Every shortcut that is added to what a convolution makes, if all together cost little."""
    found, macs = list[Selection](), 0.0
    for node in analysis.nodes:
        if node.op in ops.PLACES and _added(analysis, node.outputs[0]):
            one = _selection(analysis, node)
            if one is not None:
                found.append(one)
                macs += one.weight.size * np.prod(node.outputs[0].sample[2:])  # type: ignore[index]
    return found if macs <= MOST_MACS * analysis.cost.full[0] else []


def _added(analysis: Analysis, result: Tensor) -> bool:
    """Whether a tensor is added to what a convolution of single precision makes, and no more."""
    readers = analysis.index.readers.get(result.name, [])
    if len(readers) != 1 or not ops.adds(readers[0].op) or result.rank < 3 or not result.sample:
        return False
    others = [t for t in readers[0].inputs if t is not None and t.name != result.name]
    shown = {name for made in analysis.model.graph.node for name in made.output}
    return len(others) == 1 and result.name in shown and _is_convolved(analysis, others[0])


def _is_convolved(analysis: Analysis, tensor: Tensor) -> bool:
    """Whether a convolution makes a tensor, with a normalisation or none behind it."""
    maker = analysis.index.makers.get(tensor.name)
    while maker is not None and maker.op in ops.AFFINE and maker.inputs[0] is not None:
        maker = analysis.index.makers.get(maker.inputs[0].name)
    if maker is None or not ops.convolves(maker.op):
        return False
    weight = maker.inputs[1]
    stored = None if weight is None else analysis.read(weight.name)
    return stored is not None and stored.dtype == np.float32


def _selection(analysis: Analysis, last: Node) -> Selection | None:
    """What the operators that end with one pick; None where no convolution does that."""
    chain = list(_chain(analysis, last))
    source, result = chain[-1].inputs[0] if chain else None, last.outputs[0]
    if source is None or source.constant or source.rank != result.rank:
        return None
    places = dict[int, Ints]()
    for node in reversed(chain):
        for axis, at in (ops.PLACES[node.op](node) or {}).items():
            before = places.get(axis)
            places[axis] = at if before is None else np.where(at < 0, -1, before[at])
    strides = [_stride(places.get(axis), source.size(axis)) for axis in range(2, source.rank)]
    channels, count = places.get(1), source.size(1)
    if 0 in places or channels is None or count is None or None in strides:
        return None
    if (channels >= 0).all():  # what only leaves channels out is small beside a convolution
        return None
    weight = (channels[:, None] == np.arange(count)).astype(np.float32)
    return Selection(source.name, result.name, tuple(s for s in strides if s is not None), weight)


def _chain(analysis: Analysis, last: Node) -> Iterator[Node]:
    """The operators with known places that end with one, backwards."""
    node: Node | None = last
    for _ in range(LONGEST):
        if node is None or node.op not in ops.PLACES or ops.PLACES[node.op](node) is None:
            return
        yield node
        x = node.inputs[0]
        node = None if x is None else analysis.index.makers.get(x.name)


def _stride(at: Ints | None, size: int | None) -> int | None:
    """The step with which a whole axis is taken; None where something else is."""
    if at is None:
        return 1
    step = int(at[1] - at[0]) if len(at) > 1 else size
    if size is None or not step or step < 1:
        return None
    return step if np.array_equal(at, np.arange(0, size, step)) else None
