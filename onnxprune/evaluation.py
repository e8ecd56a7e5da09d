"""Pruning under the user's own score: one target and its score, or the smallest within a drop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from onnxprune import external, gate, graph, runtime
from onnxprune.cost import METRICS
from onnxprune.errors import InputError
from onnxprune.graph import ModelProto
from onnxprune.settings import Settings
from onnxprune.targets import budgets

__all__ = ["evaluated"]


class Pruned(Protocol):
    """What pruning gives; `stored` is the model."""

    @property
    def stored(self) -> ModelProto: ...


P = TypeVar("P", bound=Pruned)
Target = Mapping[str, str | float]


def evaluated(
    prune: Callable[[Target], P],
    original: ModelProto,
    target: Target,
    options: Settings,
    cost: Callable[[], list[float]],
) -> tuple[P, dict[str, Any]]:
    """The pruned model, and the scores for the report.

    Without `max_drop` the target holds as it is. With it, the metric that `target` names (else
    macs) is searched, and its amount is the least that is tried. `cost` gives the original's, in
    the order of METRICS.

    Raises:
        GateError: every target loses more than `max_drop`.
    """
    score = gate.scorer(options.evaluate)

    def measure(model: ModelProto) -> float:
        content = graph.model_bytes(external.inlined(model))
        return float(score(runtime.open_session(content, options.device)))

    before = measure(original)
    found: dict[str, Any] = {"function": score.name, "before": before}
    if options.max_drop is None:
        result = prune(target)
        return result, {**found, "after": measure(result.stored)}
    metric, lowest = _bound(target, cost)
    search = gate.bisect(
        lambda share: prune({metric: share}),
        lambda result: measure(result.stored),
        before - options.max_drop,
        lowest,
    )
    tries = [{"share": t.share, "score": t.score, "within": t.within} for t in search.tries]
    after = next(t.score for t in search.tries if t.share == search.share)
    found |= {"after": after, "max_drop": options.max_drop, "metric": metric, "tries": tries}
    return search.result, found


def _bound(target: Target, cost: Callable[[], list[float]]) -> tuple[str, float | None]:
    """The metric to search, and the least share of it."""
    if len(target) > 1:
        raise InputError(
            f"max_drop searches one metric, but the targets are {', '.join(target)}: give one"
        )
    if not target:
        return "macs", None
    (metric, amount) = next(iter(budgets(target, [1.0] * len(METRICS)).items()))
    if amount > 1:  # absolute
        amount /= max(cost()[METRICS.index(metric)], 1.0)
    return metric, min(amount, 1.0)
