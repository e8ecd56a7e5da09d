"""Show the weights of a group to criteria: matrices with one row per channel.

Weights are looked up and sliced when they are asked for, one at a time, so that a criterion
costs one pass over the model's bytes and no second copy of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration.activation_statistics import ActivationStatistics
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.roles import Roles, group_matrices, rows_of
from onnxprune.ops.dequantize import as_real
from onnxprune.types import Axis, Floats, Group, Ints

__all__ = ["FanOut", "GroupWeights", "weights_of"]


def weights_of(
    analysis: Analysis,
    seed: int,
    groups: Sequence[Group] | None = None,
    activations: Mapping[Axis, ActivationStatistics] | None = None,
) -> list[GroupWeights]:
    """Every group as a criterion sees it, with statistics of calibration data if there are any."""
    read = as_real(analysis.nodes, analysis.read)
    return [
        GroupWeights(
            group,
            analysis.roles,
            read,
            np.random.default_rng([seed, *group.name.encode()]),
            activations,
        )
        for group in groups or analysis.groups
    ]


@dataclass(frozen=True)
class FanOut:
    """A weight that reads the group, and what calibration data it is multiplied with.

    Attributes:
        weight: (n_channels, k, m) parameters that read each of a channel's k positions.
        positions: (n_channels, k) positions of the channels on the data's axis.
        profile: statistics along that axis.
        matching: the weight has k positions for each channel too, else k is 1 in `weight`.
    """

    weight: NDArray[Any]
    positions: Ints
    profile: ActivationStatistics
    matching: bool

    def at_channels(self, statistic: Floats) -> Floats:
        """(n_channels, k) one statistic at each channel's positions, as `weight` has them."""
        there: Floats = statistic[self.positions]
        return there if self.matching else there.mean(1, keepdims=True)


@dataclass(frozen=True)
class GroupWeights:
    """One group as a criterion sees it: matrices with one row per channel.

    `read` gives weights as real numbers, also those that are stored as integers. `rng` is seeded
    by the user's seed and the group's name. `activations` has what calibration data looks like
    along the axes that weights read, None without data.
    """

    group: Group
    roles: Roles
    read: Callable[[str], NDArray[Any] | None]
    rng: np.random.Generator
    activations: Mapping[Axis, ActivationStatistics] | None = None

    @property
    def rows(self) -> Iterator[NDArray[Any]]:
        """(n_channels, m) parameters of each filter, for every weight that makes the channels."""
        return self._matrices(self.roles.makes)

    @property
    def columns(self) -> Iterator[NDArray[Any]]:
        """(n_channels, m) parameters that read each channel, for every weight that does."""
        return self._matrices(self.roles.reads)

    @property
    def scales(self) -> Iterator[NDArray[Any]]:
        """(n_channels, k) normalisation scales."""
        return self._matrices(self.roles.scales)

    @property
    def profiles(self) -> Iterator[tuple[ActivationStatistics, Ints]]:
        """Statistics of every activation that weights read the group from, (n_channels, k) where.

        None for a group that no stored weight reads, and none without data.
        """
        known, seen = self.activations or {}, set[Axis]()
        at = dict(self.group.axes())
        for axis in at:
            data = self.roles.data.get(axis)
            if data in known and data in at and data not in seen:
                seen.add(data)
                yield known[data], at[data]

    @property
    def fan_out(self) -> Iterator[FanOut]:
        """Every weight that reads the group from an activation with statistics."""
        known, at = self.activations or {}, dict(self.group.axes())
        for axis, positions in at.items():
            data = self.roles.data.get(axis)
            if data not in known or data not in at:
                continue
            values = self.read(axis.tensor)
            if values is not None:
                matching = positions.shape == at[data].shape
                n, k = positions.shape
                weight = rows_of(values, axis.axis, positions).reshape(n, k if matching else 1, -1)
                yield FanOut(weight, at[data], known[data], matching)

    @property
    def readings(self) -> Iterator[FanOut]:
        """The name of `fan_out` in earlier versions."""
        return self.fan_out

    def _matrices(self, wanted: Mapping[Axis, str]) -> Iterator[NDArray[Any]]:
        return group_matrices(self.group, wanted, self.read)
