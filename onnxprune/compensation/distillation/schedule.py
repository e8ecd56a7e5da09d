"""Decide how long a pruned model is tuned to the original, and on which samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from onnxprune.calibration.samples import Calibration, hold_out
from onnxprune.ir.runtime import Device

__all__ = [
    "BATCH",
    "LIMITS",
    "TUNING",
    "Cost",
    "Limits",
    "Schedule",
    "Tuning",
    "rounds_within",
    "schedule_for",
]

#: Samples of a step.
BATCH = 32
#: One sample in so many is held out.
HELD = 16

Feeds = Mapping[str, NDArray[Any]]


class Limits(NamedTuple):
    """How many rounds over the samples are made where the user names no number.

    Attributes:
        least_rounds: fewer are not worth it, and none are made.
        most_rounds: unless few samples make fewer steps than `least_steps`.
        least_steps: steps that most rounds may be exceeded for.
        macs: multiply-accumulates that all rounds may take.
        macs_if_lossy: in place of `macs` where the cut is expected to lose more than `lossy`.
        lossy: divergence that is expected: the sum of what each group's cut costs alone. Together
            they cost about ten times as much.
        near: divergence at which nothing is left to tune.
    """

    least_rounds: int = 4
    most_rounds: int = 16
    least_steps: int = 512
    macs: float = 1e12
    macs_if_lossy: float = 1e13
    lossy: float = 0.01
    near: float = 1e-3


LIMITS = Limits()


@dataclass(frozen=True)
class Tuning:
    """Numbers that the tuning of all models shares; decision 44 has what others gave.

    Attributes:
        inside: how much the error of tensors inside counts, against that of the outputs.
        last: share of it that falls to those right before the outputs, as the maps that are pooled;
            all have the same part of the rest.
        rate: share by which all layers' results together change in the first step, since changes
            add up along the depth: per root of the relative error before, for what is nearly right
            must not move far. It falls to zero along a cosine.
        batch: samples of a step.
        mixed: share of steps that see mixtures of samples.
        temperature: by which scores are divided before they become probabilities (Hinton and
            others, 2015).
        seed: of what is drawn.
    """

    inside: float = 30.0
    last: float = 0.8
    rate: float = 0.16
    batch: int = BATCH
    mixed: float = 0.5
    temperature: float = 4.0
    seed: int = 0


TUNING = Tuning()


class Cost(NamedTuple):
    """What decides on the rounds: MACs of teacher and student for a sample, expected divergence."""

    teacher_macs: float
    student_macs: float
    divergence: float = 0.0


class Schedule(NamedTuple):
    """What a pruned model is tuned on, and how long.

    Attributes:
        fit: batches to tune on; those of further samples come last.
        held: batches that are held out of every fit, to judge by.
        rounds: over the first.
        near: divergence on held-out samples below which nothing is tuned.
        device: what runs teacher and student, None: the processor.
        tuning: how.
        told: what the report says of further samples.
    """

    fit: Sequence[Feeds]
    held: Sequence[Feeds]
    rounds: int
    near: float = 0.0
    device: Device | None = None
    tuning: Tuning = TUNING
    told: str = ""

    @property
    def hindrance(self) -> str:
        """What the report says where nothing could be tuned."""
        if not self.held:
            return f"not distilled: of fewer than {HELD} samples none is held back to judge by"
        return "not distilled: no gradient reaches a weight"


def schedule_for(
    distill: bool | int,
    data: Calibration,
    cost: Cost,
    limits: Limits | None = None,
    more: Calibration | None = None,
) -> tuple[Calibration, Schedule | None]:
    """Split the samples into those that anything may be fitted to, and a schedule.

    Args:
        distill: how many rounds the user wants, True: as many as `limits` allow.
        data: all samples.
        cost: of a sample, and what the cut is expected to lose.
        limits: None: `LIMITS`.
        more: further samples, that are only tuned on. With them fewer rounds are made where the
            work is limited, but no fewer than are worth it.

    Returns:
        All samples and None where nothing is tuned; else all but those held out, and the schedule.
    """
    limits = limits or LIMITS
    rounds = rounds_within(limits, data.samples, cost) if distill is True else int(distill)
    if not rounds:
        return data, None
    fit, held = hold_out(data, HELD)
    near, device = limits.near if distill is True else 0.0, data.place.device
    plain = Schedule(fit.batches, held.batches, rounds, near, device=device)
    if more is None:
        return fit, plain
    if distill is True:
        least = min(rounds, limits.least_rounds)
        rounds = max(rounds_within(limits, data.samples + more.samples, cost), least)
    told = f", {more.samples} further samples among them: {more.source}"
    return fit, plain._replace(fit=(*fit.batches, *more.batches), rounds=rounds, told=told)


def rounds_within(limits: Limits, samples: int, cost: Cost) -> int:
    """Rounds over `samples` that the limits allow, 0 for none.

    A step runs the teacher once, and the student forward and backward: about three times.
    """
    work = max(samples * (cost.teacher_macs + 3 * cost.student_macs), 1.0)
    macs = limits.macs_if_lossy if cost.divergence > limits.lossy else limits.macs
    most = max(limits.most_rounds, limits.least_steps * BATCH // max(samples, BATCH))
    rounds = min(most, int(macs // work))
    return rounds if rounds >= limits.least_rounds else 0
