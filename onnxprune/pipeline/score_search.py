"""Pruning under the user's own score: one target and its score, or the smallest within a drop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from onnxprune.allocation.targets import budgets
from onnxprune.errors import GateError, InputError, TargetError
from onnxprune.groups.cost import METRICS
from onnxprune.ir.model import Model
from onnxprune.report.report import Report
from onnxprune.settings import ScoreSettings
from onnxprune.user_code import Function, function_of

__all__ = ["MILDEST", "Found", "Try", "bisect", "evaluated", "scorer"]


#: The first share that is tried.
MILDEST = 0.95
#: How close the smallest share within the drop is found.
RESOLUTION = 0.02


class Pruned(Protocol):
    """What pruning gives."""

    @property
    def pruned(self) -> Model: ...

    @property
    def report(self) -> Report: ...


P = TypeVar("P", bound=Pruned)
R = TypeVar("R")
Target = Mapping[str, str | float]


def evaluated(
    prune: Callable[[Target], P],
    original: Model,
    target: Target,
    options: ScoreSettings,
    cost: Callable[[], list[float]],
) -> tuple[P, dict[str, Any]]:
    """The pruned model, and the scores for the report.

    Without `max_drop` the target holds as it is. With it, the metric that `target` names (else
    macs) is searched, and its amount is the least that is tried. `cost` gives the original's, in
    the order of METRICS.

    Raises:
        GateError: every target loses more than `max_drop`.
    """
    score = scorer(options.evaluate)

    def measure(model: Model) -> float:
        return float(score(model.session(options.device)))

    before = measure(original)
    found: dict[str, Any] = {"function": score.name, "before": before}
    if options.max_drop is None:
        result = prune(target)
        return result, {**found, "after": measure(result.pruned)}
    metric, lowest = _bound(target, cost)
    achieved: dict[float, Mapping[str, float]] = {}
    search = bisect(
        partial(_pruned, prune, metric, achieved),
        lambda result: measure(result.pruned),
        before - options.max_drop,
        lowest,
    )
    tries = [_told(one, achieved.get(one.share, {})) for one in search.tries]
    after = next(t.score for t in search.tries if t.share == search.share)
    found |= {"after": after, "max_drop": options.max_drop, "metric": metric, "tries": tries}
    return search.result, found


def _pruned(
    prune: Callable[[Target], P],
    metric: str,
    achieved: dict[float, Mapping[str, float]],
    share: float,
) -> P:
    """Prune to a share of a metric, and note under it in `achieved` what that gave."""
    result = prune({metric: share})
    achieved[share] = result.report.achieved
    return result


def _told(one: Try, achieved: Mapping[str, float]) -> dict[str, Any]:
    """What the report says of a try; `achieved` are its costs in shares of the original's."""
    row = {"share": one.share, "score": one.score, "within": one.within}
    return {**row, "achieved": dict(achieved)}


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


@dataclass(frozen=True)
class Try:
    """A target that was tried and its score; None where the target is out of reach."""

    share: float
    score: float | None
    within: bool


@dataclass(frozen=True)
class Found(Generic[R]):
    """The smallest result within the drop, at `share`, and everything that was tried."""

    result: R
    share: float
    tries: tuple[Try, ...]


def bisect(
    make: Callable[[float], R],
    score: Callable[[R], float],
    least: float,
    lowest: float | None = None,
) -> Found[R]:
    """Search shares from `lowest` (None: any) to `MILDEST` for the smallest that scores `least`.

    Raises:
        GateError: not even the mildest share does.
    """
    tries: list[Try] = []
    best: list[tuple[float, R]] = []

    def passes(share: float) -> bool:
        try:
            result = make(share)
        except TargetError:
            if not best:
                raise
            tries.append(Try(share, None, False))
            return False
        tries.append(Try(share, value := score(result), value >= least))
        best.extend([(share, result)] if value >= least else [])
        return value >= least

    high, low = max(MILDEST, lowest or 0.0), lowest or 0.0
    if not passes(high):
        raise GateError(
            f"gate failed: already at share {high:g} the score is {tries[0].score:.4g}, below the "
            f"{least:.4g} that are allowed. Nothing was written."
        )
    if lowest is not None and lowest < high and passes(lowest):
        high = lowest
    while high - low > RESOLUTION:
        middle = (low + high) / 2
        low, high = (low, middle) if passes(middle) else (middle, high)
    share, result = best[-1]
    return Found(result, share, tuple(tries))


def scorer(evaluate: Any) -> Function:
    """The user's function from a session to a number, checked.

    Raises:
        InputError: there is no such function; later, it fails or returns no finite number.
    """
    if isinstance(evaluate, str):
        function = function_of(evaluate, "evaluate")
    elif callable(evaluate):
        function = Function(f"evaluate {getattr(evaluate, '__name__', 'function')}", evaluate)
    else:
        raise InputError(f"evaluate {evaluate!r}: give file.py:function, or a function in Python")

    def checked(session: Any) -> float:
        value = function(session)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{function.name}: returned {value!r}, give a finite number")
        return number

    return Function(function.name, checked)
