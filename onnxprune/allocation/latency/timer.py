"""Time models so that the numbers of different minutes can be compared.

What is compared takes turns, and what counts is the median, over the rounds, of a model's time
divided by the base's of the same round: a machine that slows down slows both. On one thread the
time is that of the thread itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnxprune.ir import skeleton
from onnxprune.ir.runtime import Feeds
from onnxprune.ir.stopwatch import Content, Stopwatch, TimedModel

__all__ = ["NOTHING", "REFERENCE", "SignedModel", "TimedModel", "ratio", "settled", "timed"]

#: Seconds of runs for each model, and how many take turns in one go.
SECONDS, TOGETHER = 0.06, 6
#: Seconds of one comparison of two models.
COMPARED = 0.5
#: Comparisons of two models: at least, and at most.
FEWEST_COMPARISONS, MOST_COMPARISONS = 4, 16
#: Standard error of their median, in shares of it, at which no more are needed.
SURE = 0.002


class SignedModel(NamedTuple):
    """A model to time, and the signature under which its time is kept."""

    signature: str
    model: TimedModel


def timed(base: TimedModel, jobs: Sequence[TimedModel], watch: Stopwatch) -> list[float]:
    """Time each model in shares of the base's; NaN where one of the two does not run."""
    found: list[float] = _over(watch.attempted((base, *jobs), SECONDS)).tolist()
    return found


def ratio(base: Content, other: Content, feeds: Feeds, watch: Stopwatch) -> float:
    """Time one model in shares of another's, in turns on the same inputs.

    It takes as long as the machine is restless: comparisons of half a second are repeated until
    their median is known well enough.

    Args:
        base: the model whose time is 1.
        other: the model that is timed.
        feeds: what both are fed.
        watch: what times them.
    """
    models = watch.opened([TimedModel(model, feeds) for model in (base, other)], quiet=True)
    found = list[float]()
    while len(found) < MOST_COMPARISONS and not settled(found):
        found.append(float(_over(watch.rounds(models, COMPARED, quiet=True))[0]))
    return float(np.median(found))


def settled(found: Sequence[float]) -> bool:
    """Whether the median of some ratios is known well enough.

    1.25 is what the standard error of a median has over that of a mean.
    """
    if len(found) < FEWEST_COMPARISONS:
        return False
    error = 1.25 * float(np.std(found, ddof=1)) / math.sqrt(len(found))
    return error <= SURE * float(np.median(found))


def _over(rounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n - 1,) medians over the rounds (rounds, n) of times over the first one."""
    found: NDArray[np.float64] = np.median(rounds[:, 1:] / rounds[:, :1], axis=0)
    return found


def _convolution() -> TimedModel:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((32, 32, 3, 3)).astype(np.float32)
    model = skeleton.one_operator("Conv", {"weight": weight}, {"pads": [1, 1, 1, 1]})
    return TimedModel(model, {"data": rng.standard_normal((1, 32, 28, 28)).astype(np.float32)})


#: What never changes, and the least that can be run: what remains is the cost of running anything.
REFERENCE = _convolution()
NOTHING = TimedModel(skeleton.one_operator("Relu", {}, {}), {"data": np.zeros((1, 1), np.float32)})
