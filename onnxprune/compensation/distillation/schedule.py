"""How long a pruned model learns from the original, and from which samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from onnxprune.calibration.samples import Calibration, apart

__all__ = ["BATCH", "Schedule", "schedule_for"]

#: Samples of a step.
BATCH = 32
#: Rounds over all samples: at least; at most, unless so few samples make fewer steps than these.
FEWEST, EPOCHS, STEPS = 4, 16, 512
#: Multiply-accumulates that they may take; more where more than `LOST` is expected to be lost: that
#: is the sum of what all cuts cost alone, of which together they cost about ten times as much.
BUDGET, MORE, LOST = 1e12, 1e13, 0.01
#: One sample in so many is held back, and judged by so many mixtures as well.
HELD = 16
#: Divergence that is next to nothing: who is as near to the original has nothing to learn.
ENOUGH = 1e-3

Feeds = Mapping[str, NDArray[Any]]


class Schedule(NamedTuple):
    """Samples to learn from, those held back, rounds over the first; not if that near already."""

    fit: Sequence[Feeds]
    held: Sequence[Feeds]
    rounds: int
    enough: float = 0.0


def schedule_for(
    asked: bool | int, data: Calibration, macs: tuple[float, float], lost: float
) -> tuple[Calibration, Schedule | None]:
    """The samples that anything may be fitted to, and lessons, if there are any.

    Args:
        asked: whether, or how many rounds.
        data: all samples; one in `HELD` is kept from every fit where there are lessons.
        macs: multiply-accumulates of teacher and student for a sample.
        lost: the divergence expected before.
    """
    rounds = _rounds(asked, data.samples, macs, lost)
    if not rounds:
        return data, None
    fit, held = apart(data, HELD)
    return fit, Schedule(fit.batches, held.batches, rounds, ENOUGH if asked is True else 0.0)


def _rounds(asked: bool | int, samples: int, macs: tuple[float, float], lost: float) -> int:
    """Rounds over all samples: as many as are asked for, or as the work allows; 0 for none."""
    if asked is not True:
        return int(asked)
    work = max(samples * (macs[0] + 3 * macs[1]), 1.0)
    most = max(EPOCHS, STEPS * BATCH // max(samples, BATCH))
    rounds = min(most, int((MORE if lost > LOST else BUDGET) // work))
    return rounds if rounds >= FEWEST else 0
