"""The frozen values that flow between the stages; numpy and the standard library only.

An *axis* is one dimension of one named tensor; its *positions* are 0 … size - 1. A *channel* is
a set of positions, over any number of axes, that must live and die together. A *group* is a set
of channels that run through the same axes. Start reading at `Coupling`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Axis",
    "Body",
    "Choice",
    "Coupling",
    "Detour",
    "Dim",
    "Edit",
    "Fact",
    "Floats",
    "Free",
    "Frozen",
    "Group",
    "Ints",
    "Kept",
    "Kernel",
    "Mask",
    "Masks",
    "Node",
    "Option",
    "Pairs",
    "Plan",
    "Quantized",
    "Read",
    "Site",
    "Tensor",
    "Traits",
    "Work",
]

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
#: The content of a stored tensor by name, None where there is none.
Read: TypeAlias = Callable[[str], NDArray[Any] | None]
#: For every group (n_channels,) which channels stay.
Masks: TypeAlias = Sequence[NDArray[np.bool_]]
#: A size that never changes, or a symbol: two equal symbols are two equal sizes.
Dim: TypeAlias = int | str


class Axis(NamedTuple):
    """Dimension `axis` (never negative) of the tensor called `tensor`."""

    tensor: str
    axis: int

    def __str__(self) -> str:
        return f"{self.tensor}[{self.axis}]"


@dataclass(frozen=True)
class Tensor:
    """What is known of one tensor before it is computed.

    `shape` is None where even the rank is unknown; `sample` holds the sizes under the sample
    input. `value` is the content of a small constant, None where unknown; where only some
    entries are the same for every input, `known` marks them. `constant`: depends on no input.
    """

    name: str
    shape: tuple[Dim, ...] | None = None
    sample: tuple[int, ...] | None = None
    value: NDArray[Any] | None = None
    known: NDArray[np.bool_] | None = None
    constant: bool = False

    @property
    def rank(self) -> int:
        """Number of axes, -1 where unknown."""
        return -1 if self.shape is None else len(self.shape)

    def size(self, axis: int) -> int | None:
        """Static size of `axis` (negative counts from the end), None if it may vary."""
        if self.shape is None or not -self.rank <= axis < self.rank:
            return None
        dim = self.shape[axis]
        return dim if isinstance(dim, int) else None

    def at(self, axis: int) -> Axis:
        """The axis as a key; negative counts from the end."""
        return Axis(self.name, axis % max(self.rank, 1))

    def ints(self) -> tuple[int | None, ...] | None:
        """The entries of a small integer tensor, None for each that may vary; None if unknown."""
        if self.value is None:
            return None
        flat = np.atleast_1d(self.value).ravel().tolist()
        known = [True] * len(flat) if self.known is None else np.atleast_1d(self.known).ravel()
        return tuple(int(v) if k else None for v, k in zip(flat, known, strict=True))


class Body(NamedTuple):
    """A graph inside If, Loop or Scan: its attribute's name, what goes in, what comes out."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Node:
    """One operator as its rule sees it; an omitted optional input is None.

    `slots` are the places of `outputs` among all. Nodes of its `bodies` stand before it. `captured`
    is what graphs not looked into may read. `centres`: its result, a mean, is only subtracted.
    """

    name: str
    op: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    opset: int = 0
    captured: tuple[Tensor, ...] = ()
    bodies: tuple[Body, ...] = ()
    centres: bool = False
    slots: tuple[int, ...] = ()

    @property
    def tensors(self) -> Iterator[Tensor]:
        """Everything that the operator touches."""
        yield from (tensor for tensor in self.inputs if tensor is not None)
        yield from (*self.outputs, *self.captured)
        for body in self.bodies:
            yield from (*body.inputs, *body.outputs)

    def input(self, index: int) -> Tensor | None:
        """Input `index`, None where it is omitted."""
        return self.inputs[index] if index < len(self.inputs) else None


class Coupling(NamedTuple):
    """Position `a_at[i]` of `a` and `b_at[i]` of `b` live and die together.

    `a_at` and `b_at` are (n,) integers; None for both means: every position, in order.
    `inexact`: what removal changes for the positions that stay ("the statistics of …"); empty
    where they compute what they did.
    """

    a: Axis
    b: Axis
    a_at: Ints | None = None
    b_at: Ints | None = None
    inexact: str = ""


class Option(NamedTuple):
    """Couplings that hold together, and how many channels they would leave to choose from."""

    couplings: tuple[Coupling, ...]
    width: int

    @property
    def axes(self) -> set[Axis]:
        """Every axis that the option speaks of."""
        return {axis for c in self.couplings for axis in (c.a, c.b)}


class Choice(NamedTuple):
    """Options that share an axis exclude each other; the outermost factor comes first.

    An axis (heads × width) that is left without an option is frozen for `reason`.
    """

    options: tuple[Option, ...]
    reason: str


class Free(NamedTuple):
    """The operator does not mind what happens to the positions of `axis`."""

    axis: Axis


@dataclass(frozen=True)
class Frozen:
    """`axis` cannot be pruned: `reason` says why, `hint` what would unblock it.

    `node` blocks it, at the axis `at` where that is another one.
    """

    axis: Axis
    reason: str
    node: str = ""
    hint: str = ""
    at: Axis | None = None


Fact: TypeAlias = Coupling | Choice | Free | Frozen


@dataclass(frozen=True)
class Kernel:
    """Where an operator keeps its weight: input `index`, its output and input channel axes.

    `in_axis` is None where each output channel reads one input channel only (depthwise).
    `bias` is the input index of the bias; `channel` the axis of data and result that carries
    the channels, `source` that of the data where it is another. `more_out` are further axes that
    make channels of their own (heads beside the width of each head). The output axis holds `blocks`
    blocks (gates) of all channels. A `recurrent` kernel reads the node's own result of the step
    before. Other kernels read input `data`, by default the other one of 0 and 1.
    """

    index: int
    out_axis: int
    in_axis: int | None
    bias: int | None = None
    channel: int = 1
    source: int | None = None
    more_out: tuple[int, ...] = ()
    blocks: int = 1
    recurrent: bool = False
    data: int | None = None

    @property
    def reads(self) -> int:
        """The axis of the data that carries the channels."""
        return self.channel if self.source is None else self.source

    def operand(self, node: Node) -> Tensor | None:
        """What the weight is multiplied with."""
        index = 1 - self.index if self.data is None else self.data
        return node.outputs[0] if self.recurrent else node.input(index)


class Quantized(NamedTuple):
    """Input `input` stands for (input - zero point) · scale, element by element.

    `scale` and `zero_point` are input indices, None where there is none. Either holds one number,
    one for each position of `axis`, or one for each block along it, or one for each position of all
    other axes. With `bits` > 0 the input is bytes (rows, blocks, bytes per block) that hold numbers
    of so many bits, low bits first, and a missing zero point is the middle of their range.
    """

    input: int
    scale: int | None
    zero_point: int | None
    axis: int = 0
    bits: int = 0


#: A product of bytes: the factor that may be signed, and its data; None: reals, made unsigned.
Pairs: TypeAlias = tuple[Quantized, Quantized | None]


class Traits(NamedTuple):
    """What a graph is told of operators, as `Op` or `domain:Op`, to be looked into before any rule.

    `deciding`: which inputs must be equal for two samples so that equal results are no coincidence.
    `random` ones differ from run to run, `moving` ones compute no number, `fills` make one number
    everywhere. `biases`: the input of a layer that takes a bias.
    """

    deciding: Mapping[str, tuple[int, ...]]
    random: frozenset[str]
    moving: frozenset[str]
    fills: frozenset[str]
    biases: Mapping[str, int]


class Work(NamedTuple):
    """`amount` at full size, proportional to the size of each axis in `axes`."""

    amount: float
    axes: tuple[Axis, ...]


#: Kept positions of an axis of a tensor, as (n_kept,) integers in ascending order.
Kept: TypeAlias = Callable[[Tensor, int], Ints]


@dataclass(frozen=True)
class Edit:
    """What a node needs beside sliced weights; an entry None keeps what the graph computes.

    `attrs`: new attribute values (None deletes). `inputs`: new entries of shape-bearing inputs.
    `outputs`: entries of a computed shape that must keep reporting the original size. `times` and
    `results_times`: what inputs and results are multiplied with, to divide by an old width.
    """

    attrs: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[int, tuple[int | None, ...]] = field(default_factory=dict)
    outputs: Mapping[int, tuple[int | None, ...]] = field(default_factory=dict)
    times: Mapping[int, float] = field(default_factory=dict)
    results_times: Mapping[int, float] = field(default_factory=dict)


class Mask(NamedTuple):
    """A place where the reference sets dead positions to zero: what `node` reads as `axis`.

    `node` is the name of its first output, `input` its number, `rank` and `size` those of `axis`.
    `centred`: to the mean of the others.
    """

    node: str
    input: int
    axis: Axis
    rank: int
    size: int
    centred: bool = False

    @property
    def feed(self) -> str:
        """Name of the input that says which positions live."""
        return f"alive/{self.axis.tensor}/{self.axis.axis}"


class Detour(NamedTuple):
    """A node, by its first output, that the reference runs on the kept positions only.

    `cut`: input, axis, (n_kept,) positions to pick. `back`: output, axis, (size,) where each
    position of the full axis lies among the kept ones. `attrs` as in `Edit`.
    """

    node: str
    cut: tuple[tuple[int, int, Ints], ...]
    back: tuple[tuple[int, int, Ints], ...]
    attrs: Mapping[str, Any]


@dataclass(frozen=True)
class Site:
    """Axes of `size` that all see a group's channels at the same `positions` (n_channels, k).

    `nominal`: which position is which channel differs from head to head, only the count holds.
    """

    axes: tuple[Axis, ...]
    positions: Ints
    size: int
    nominal: bool = False


@dataclass(frozen=True)
class Group:
    """Channels coupled through the same sites; `name` is the first weight that makes them.

    With `heads` > 1 the columns of `positions` fall into as many equal blocks, and a channel may
    take its block from any channel: each head keeps the same count, of its own choice.
    `inexact` says what removal changes for the channels that stay.
    """

    name: str
    channels: int
    sites: tuple[Site, ...]
    heads: int = 1
    inexact: str = ""

    def axes(self) -> Iterable[tuple[Axis, Ints]]:
        """Every axis with the positions (n_channels, k) of this group's channels on it."""
        return ((axis, site.positions) for site in self.sites for axis in site.axes)


class HeadChoice(NamedTuple):
    """Which positions of an axis are `alive` (heads, size); `heads` is the axis beside it."""

    heads: int
    alive: NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """What remains: kept positions of every axis that loses some, and the axes' full sizes.

    Positions from the full size on are zeros that are added.
    On `nominal` axes only the count holds, see `Site`; `chosen` says what each head keeps there.
    """

    keep: Mapping[Axis, Ints]
    size: Mapping[Axis, int]
    nominal: frozenset[Axis] = frozenset()
    chosen: Mapping[Axis, HeadChoice] = field(default_factory=dict)

    @property
    def beyond(self) -> set[Axis]:
        """Axes that get positions which they do not have."""
        return {axis for axis, keep in self.keep.items() if (keep >= self.size[axis]).any()}

    def dead(self, axis: Axis) -> Ints:
        """Removed positions of `axis`, ascending."""
        alive = np.zeros(self.size[axis], bool)
        alive[self.keep[axis]] = True
        return np.flatnonzero(~alive)
