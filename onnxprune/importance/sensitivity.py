"""How much the outputs suffer when one group alone gets narrower: a measured table.

Every group is swept once (`obs.eliminate`) on the original's activations, which ranks its channels
and gives the layer error at every width. Layer errors cannot be compared between layers, so at a
few widths the model runs on calibration samples with only that group pruned and its readers
refitted, and the divergence of the outputs is recorded. Between those widths it follows the layer
error (Frantar & Alistarh, SPDY 2022; Kurtić et al., ZipLM 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.calibration import covariance as covariances
from onnxprune.calibration.covariance import covariance
from onnxprune.calibration.incremental_run import IncrementalRun
from onnxprune.calibration.moments import Statistics
from onnxprune.calibration.samples import Calibration
from onnxprune.compensation import query_key
from onnxprune.compensation.least_squares import RIDGE
from onnxprune.compensation.obs import LayerProblem, eliminate, refit, shrinkage
from onnxprune.groups.analysis import Analysis
from onnxprune.groups.head_units import order_of, reordered
from onnxprune.groups.layers import Layer, bias_of
from onnxprune.groups.readers import GroupReaders
from onnxprune.importance import output_divergence
from onnxprune.importance.criteria import Scores
from onnxprune.importance.output_divergence import OutputDivergence, Weights
from onnxprune.surgery.plan import plan_of
from onnxprune.surgery.rewrite import masked_weights
from onnxprune.types import Floats, Group, Ints

__all__ = ["MEASURING", "Sensitivity", "best_channels", "measure_sensitivities"]

#: Shares of a group's width at which divergence is measured.
WIDTHS = (0.8, 0.6, 0.4, 0.25, 0.12)
#: Settings that the table depends on.
MEASURING = (WIDTHS, covariances.SETTINGS, output_divergence.SETTINGS)


@dataclass(frozen=True)
class Sensitivity:
    """One group: as it is to be cut, channels by merit (best first), error at every width.

    `errors` (n_channels + 1,) is the divergence of the outputs; `measured` the widths run.
    """

    group: Group
    ranking: Ints
    errors: Floats
    measured: Mapping[int, float]


def measure_sensitivities(
    analysis: Analysis,
    scores: Sequence[Scores],
    data: Calibration,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Sensitivity]:
    """The table of every group, `scores` (n_channels,) rank those that cannot be swept."""
    return _Table(analysis, scores, data).run(progress)


def best_channels(table: Sequence[Sensitivity], widths: Ints) -> list[NDArray[np.bool_]]:
    """(n_channels,) the best channels of every group, `widths` (n_groups,) of them."""
    kept = []
    for row, width in zip(table, widths.tolist(), strict=True):
        mask = np.zeros(row.group.channels, bool)
        mask[row.ranking[:width]] = True
        kept.append(mask)
    return kept


def _name(layer: Layer) -> str:
    return layer.node.outputs[0].name


class _Table:
    """The state of one pass through the original."""

    def __init__(self, analysis: Analysis, scores: Sequence[Scores], data: Calibration) -> None:
        self.analysis, self.scores, self.data = analysis, scores, data
        self.layers = analysis.layers
        self.groups = analysis.readers
        self.nodes = analysis.index.readers
        self.blocks = analysis.blocks
        self.divergences = OutputDivergence(analysis, data, len(self.groups) * len(WIDTHS) // 2)
        self.statistics: dict[str, Statistics] = {}
        self.rng = np.random.default_rng(0)

    def run(self, progress: Callable[[float], None]) -> list[Sensitivity]:
        """Collect what readers see in one pass; measure each group once its readers are known."""
        read = self.analysis.read
        order = self.divergences.order
        ends = {
            g: max(order[_name(layer)] for layer in own.layers)
            for g, own in enumerate(self.groups)
            if own.complete
        }
        reading = {_name(layer): layer for g in ends for layer in self.groups[g].layers}
        stops = sorted(
            ((order[name], layer) for name, layer in reading.items()), key=lambda stop: stop[0]
        )
        needed = {layer.data.name: at + 1 for at, layer in stops}
        self.incremental = IncrementalRun(
            self.analysis.model, self.data.batches, needed, self.data.folder
        )
        sensitivities: dict[int, Sensitivity] = {}
        for done, (at, layer) in enumerate(stops):
            self.incremental.advance(at + 1, read)
            self._collect(layer)
            for g in [g for g, end in ends.items() if end == at]:
                single = len(self.groups[g].layers) == 1
                sensitivities[g] = self._swept(g, at if single else 0)
                del ends[g]
            self._forget(ends)
            progress((done + 1) / (len(stops) + 1))
        pairs = query_key.pairs_of(self.analysis, self.layers)
        grams = query_key.grams(self.analysis, pairs, self.data.batches)
        for g, own in enumerate(self.groups):
            if g in pairs:
                sensitivities[g] = self._mixed(g, pairs[g], grams[g])
            elif not own.complete:
                sensitivities[g] = self._dropped(g)
        progress(1.0)
        return [sensitivities[g] for g in range(len(self.groups))]

    def _collect(self, layer: Layer) -> None:
        """Covariance of what a layer reads, over all batches."""
        stored = self.analysis.read(layer.weight.name)
        assert stored is not None
        self.statistics[_name(layer)] = covariance(
            layer, stored.shape, self.incremental.values, self.data.samples, self.rng
        )

    def _forget(self, waiting: Mapping[int, int]) -> None:
        """Drop statistics that no group waits for."""
        needed = {_name(layer) for g in waiting for layer in self.groups[g].layers}
        for name in self.statistics.keys() - needed:
            del self.statistics[name]

    def _swept(self, g: int, at: int) -> Sensitivity:
        """Rank by elimination, then measure with the readers refitted."""
        own = self.groups[g]
        parts = []
        for layer, columns in zip(own.layers, own.columns, strict=True):
            stats = self.statistics[_name(layer)]
            ridge = shrinkage(stats, RIDGE)
            parts.append(LayerProblem(stats.cov, self._matrix(layer), columns, ridge))
        units, errors = eliminate(parts)
        group, ranking = own.group, units[::-1]
        if group.heads > 1:
            group = reordered(group, order_of(units, group))
            ranking = np.arange(group.channels)
            errors = errors[:: group.heads]
        own_columns = [self._columns(own, k, group) for k in range(len(own.layers))]

        def weights(width: int) -> Weights:
            return self._refitted(own, own_columns, ranking[:width])

        return self._measure(group, ranking, errors, (weights, at), g in self.blocks)

    def _columns(self, own: GroupReaders, k: int, group: Group) -> Ints:
        """(n_channels, m) columns of a reader for the group as it is arranged now."""
        layer = own.layers[k]
        stored = self.analysis.read(layer.weight.name)
        assert stored is not None
        at = dict(group.axes())[layer.data.at(layer.kernel.channel)]
        return layer.columns(at, stored.shape)

    def _matrix(self, layer: Layer) -> Floats:
        stored = self.analysis.read(layer.weight.name)
        assert stored is not None
        return layer.matrix(stored)

    def _refitted(self, own: GroupReaders, columns: Sequence[Ints], kept: Ints) -> Weights:
        """Weights and biases of the readers when only `kept` channels of the group are left."""
        changed: dict[str, NDArray[Any]] = {}
        for layer, at in zip(own.layers, columns, strict=True):
            stats, weight = self.statistics[_name(layer)], self._matrix(layer)
            stored = self.analysis.read(layer.weight.name)
            assert stored is not None
            alive = np.ones(len(weight), bool)
            alive[at.ravel()] = False
            alive[at[kept].ravel()] = True
            full = Statistics(
                stats.count,
                stats.mean_x,
                weight.T @ stats.mean_x,
                stats.cov,
                stats.cov @ weight,
                np.zeros(weight.shape[1]),
            )
            fitted = refit(full, weight, np.flatnonzero(alive), shrinkage(stats, RIDGE))
            changed[layer.weight.name] = layer.stored(fitted, stored)
            name, _ = bias_of(layer, self.nodes, self.analysis.read)
            bias = self.analysis.read(name) if name else None
            if bias is not None:
                moved = bias.ravel() + (weight - fitted).T @ stats.mean_x
                changed[name] = moved.reshape(bias.shape).astype(bias.dtype)
        return changed

    def _mixed(self, g: int, pair: query_key.Pair, grams: tuple[Floats, Floats]) -> Sensitivity:
        """The width of queries and keys: what stays is mixed from all."""
        group = self.groups[g].group

        def weights(width: int) -> Weights:
            kept = np.arange(group.channels) < width
            changed: dict[str, NDArray[Any]] = {}

            def now(name: str) -> NDArray[Any] | None:
                return changed[name] if name in changed else self.analysis.read(name)

            for side, matrix in query_key.mixing_matrices(pair, grams, kept):
                changed |= query_key.mixed_weights(side, matrix, now)
            return changed

        return self._measure(
            group, np.arange(group.channels), query_key.lost_shares(grams), (weights, 0)
        )

    def _dropped(self, g: int) -> Sensitivity:
        """A group whose readers cannot be refitted: ranked by its scores, channels just go."""
        group, scores = self.groups[g].group, self.scores[g]
        ranking = np.argsort(-scores, kind="stable")
        share = np.sort(scores) / max(float(scores.sum()), 1e-30)
        errors = np.concatenate([[0.0], np.cumsum(share)])[::-1]

        def weights(width: int) -> Weights:
            mask = np.zeros(group.channels, bool)
            mask[ranking[:width]] = True
            plan = plan_of([group], [mask])
            return masked_weights(self.analysis.read, self.analysis.nodes, plan)

        return self._measure(group, ranking, errors, (weights, 0))

    def _measure(
        self,
        group: Group,
        ranking: Ints,
        errors: Floats,
        how: tuple[Callable[[int], Weights], int],
        to_none: bool = False,
    ) -> Sensitivity:
        """Run the model at a few widths; in between the divergence follows the layer error.

        `how`: weights for a width, and the first operator that they change. `to_none`: also
        measure what is left of a block without any of the channels, its readers' biases.
        """
        n, (weights, at) = group.channels, how
        narrow = {max(1, round(share * n)) for share in WIDTHS} | ({0} if to_none else set())
        widths = sorted(narrow - {n}, reverse=True)
        measured: dict[int, float] = {n: 0.0}
        measure: Callable[[Weights], float] | None = None
        for width in widths:
            fed = weights(width)
            measure = measure or self.divergences.opened(at, fed)
            measured[width] = measure(fed)
        return Sensitivity(group, ranking, _between(measured, errors), measured)


def _between(measured: Mapping[int, float], errors: Floats) -> Floats:
    """(n_channels + 1,) divergence at every width: measured, and along the layer error between."""
    widths = np.array(sorted(measured, reverse=True))
    values = np.maximum.accumulate([measured[int(w)] for w in widths])
    at = np.maximum.accumulate(errors[widths]) + 1e-12 * np.arange(len(widths))
    inside = np.interp(errors, at, values)
    slope = values[-1] / max(float(at[-1]), 1e-30)
    beyond = values[-1] + np.maximum(errors - at[-1], 0) * slope
    found: Floats = np.where(errors > at[-1], beyond, inside)
    return np.maximum.accumulate(found[::-1])[::-1]
